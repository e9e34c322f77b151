"""Keys in a database: made and revoked by one, known to all who share it."""

import asyncio
import threading

import pytest

from tests.worlds.jobs import OpenEngine
from unmask.errors import ConfigError
from unmask.server.keys import table
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyRing
from unmask.server.keys.table import FollowedKeys, KeyTable

pytestmark = pytest.mark.anyio


@pytest.fixture(name="keys")
def _keys(open_engine: OpenEngine) -> KeyTable:
    engine = open_engine()
    return KeyTable(lambda: engine)


def test_a_key_is_kept_as_a_hash_with_its_scopes_and_limits(keys: KeyTable) -> None:
    text = keys.add("ann", ["draw", "metrics"], Limits(jobs_at_once=2))
    [key] = keys.read()
    assert text not in key.model_dump_json()
    assert key.name == "ann"
    assert key.scopes == {"draw", "metrics"}
    assert key.limits == Limits(jobs_at_once=2)
    found = KeyRing(FollowedKeys(keys)).find(text)
    assert found is not None
    assert found.name == "ann"


def test_what_is_unknown_or_taken_is_refused(keys: KeyTable) -> None:
    keys.add("ann", ["draw"], Limits())
    with pytest.raises(ConfigError, match="'ann' exists"):
        keys.add("ann", ["draw"], Limits())
    with pytest.raises(ConfigError, match="did you mean 'draw'"):
        keys.add("bob", ["drow"], Limits())
    with pytest.raises(ConfigError, match="did you mean 'ann'"):
        keys.revoke("anna")
    keys.revoke("ann")
    with pytest.raises(ConfigError, match="there are no keys"):
        keys.revoke("ann")
    keys.add("ann", ["draw"], Limits())


def test_one_name_is_one_key_however_many_add_it_at_once(open_engine: OpenEngine) -> None:
    refused = []

    def add() -> None:
        engine = open_engine()
        try:
            KeyTable(lambda: engine).add("ann", ["draw"], Limits())
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine = open_engine()
    assert len(KeyTable(lambda: engine).read()) == 1
    assert len(refused) == 4


async def test_a_ring_follows_the_table_and_keys_stay_needed(
    keys: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "FOLLOW_SECONDS", 0.01)
    followed = FollowedKeys(keys)
    ring = KeyRing(followed)
    assert not ring.needed
    following = asyncio.create_task(followed.follow())
    text = await asyncio.to_thread(keys.add, "ann", ["draw"], Limits())
    async with asyncio.timeout(10):
        while ring.find(text) is None:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(keys.revoke, "ann")
        while ring.find(text) is not None:
            await asyncio.sleep(0.01)
    following.cancel()
    assert ring.needed
    assert KeyRing(FollowedKeys(keys)).needed
