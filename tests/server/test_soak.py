"""The soak of benchmarks/soak.py, short and with a model that draws at once."""

import asyncio

from benchmarks.soak import USERS, served, soak


def test_every_request_ends_in_what_its_client_saw(pipeline):
    with served(lambda name, device: pipeline) as (engine, port):
        ends, _ = asyncio.run(soak(engine, port, 300))
        stats = engine.stats()
    assert sum(ends.values()) == 300
    assert set(ends) <= {"drawn", "bad", "hung up", "dead"}
    assert ends["bad"] > 5
    assert 0 < ends["dead"] <= 2 * USERS
    assert stats.deaths == 2
    assert stats.running == stats.queued == 0
