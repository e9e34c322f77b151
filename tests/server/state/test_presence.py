"""Leases: who renews one lives, and who does not is gone."""

import time

from tests.worlds.jobs import OpenEngine
from tests.worlds.server import wait_until
from unmask.server.state.database import changing
from unmask.server.state.presence import LeasePresence
from unmask.server.state.tables import runners

LEASE = 0.5


def test_who_renews_the_lease_lives_for_all(open_engine: OpenEngine) -> None:
    first, second = (LeasePresence(open_engine(), LEASE) for _ in range(2))
    time.sleep(2 * LEASE)
    assert not first.is_gone(second.runner)
    assert not second.is_gone(first.runner)
    second.close()
    assert first.is_gone(second.runner)
    first.close()


def test_whose_lease_ends_is_gone_until_it_is_renewed(open_engine: OpenEngine) -> None:
    engine = open_engine()
    here = LeasePresence(engine, LEASE)
    frozen = LeasePresence(engine, lease_seconds=1000)
    assert not here.is_gone(frozen.runner)
    with changing(engine) as connection:
        connection.execute(
            runners.update().where(runners.c.id == frozen.runner).values(seen=time.time() - 60)
        )
    here.clear()
    assert here.is_gone(frozen.runner)
    frozen.close()
    here.close()


def test_one_that_goes_on_after_a_pause_lives_again(open_engine: OpenEngine) -> None:
    engine = open_engine()
    here, paused = LeasePresence(engine, 1000), LeasePresence(engine, LEASE)
    with changing(engine) as connection:
        connection.execute(runners.delete().where(runners.c.id == paused.runner))
    wait_until(lambda: not here.is_gone(paused.runner))
    paused.close()
    here.close()
