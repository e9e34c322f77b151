"""The state of a server: opened when it is needed, and not after its end."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from unmask.errors import UnavailableError
from unmask.server.state.state import State
from unmask.server.state.tables import jobs


def test_it_is_opened_once_and_anew_after_it_was_let_go(open_state: Callable[[], State]) -> None:
    state = open_state()
    first = state.open()
    assert state.open() is first
    state.let_go()
    again = state.open()
    assert again.presence.runner != first.presence.runner
    assert again.presence.is_gone(first.presence.runner)
    with again.engine.connect() as connection:
        assert connection.execute(select(jobs)).all() == []


def test_nobody_opens_it_again_when_it_was_closed(open_state: Callable[[], State]) -> None:
    state = open_state()
    state.open()
    state.close()
    with pytest.raises(UnavailableError, match="stopped"):
        state.open()
