"""The soak of benchmarks/soak.py, short and with models that draw at once."""

import asyncio

from benchmarks.soak import USERS, Soak, Watch, served
from tests.worlds.server import COPY_BYTES, FakePipeline, FakeSource, wait_until


def test_every_request_ends_in_what_its_client_saw() -> None:
    models = ("one", "two", "three")
    source = FakeSource(lambda key, device: FakePipeline(key))
    with served(source, models, ("cpu", "cpu"), memory=5 * COPY_BYTES) as server:
        with Watch(server.engine, 350) as watch:
            report = asyncio.run(Soak(server.bound_port, models, 400).run())
        # The last to hang up may have a row within a step.
        wait_until(lambda: not server.engine.stats().running)
        stats = server.engine.stats()
    assert sum(report.ends.values()) == 400
    assert set(report.ends) <= {"drawn", "bad", "hung up", "dead", "full"}
    assert report.ends["bad"] > 5
    assert report.ends["drawn"] > 200
    assert report.ends["dead"] <= 4 * USERS
    assert report.harm["bad"] > 0
    assert len(stats.models) <= 2
    assert stats.deaths == 2
    assert list(watch.memory) == ["tenth", "middle", "end"]
    assert stats.running == stats.queued == 0
