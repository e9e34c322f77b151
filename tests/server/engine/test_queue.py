from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.pipeline import Pipeline, PreparedRequest
from unmask.server.engine import queue as queues
from unmask.server.engine.costs import Cost, OpenedModel, WeighedRequest
from unmask.server.engine.queue import FairQueue
from unmask.server.engine.tickets import Priority, Ticket


def ticket(name: str, cost: float = 1.0, key: str = "", priority: int = 1) -> Ticket:
    """A ticket of one token and so many passes, for a model of that key."""
    model = OpenedModel(name, cast(Pipeline, None))
    weighed = WeighedRequest(model, cast(PreparedRequest, None), Cost(passes=cost))
    return Ticket(weighed, key=key, priority=Priority(priority))


def drained(queue: FairQueue) -> list[str]:
    taken = []
    while (found := queue.take("worker")) is not None:
        taken.append(found.model)
    return taken


def test_one_key_is_served_in_the_order_of_coming() -> None:
    queue = FairQueue()
    for name in "abc":
        queue.put(ticket(name))
    assert len(queue) == 3
    assert drained(queue) == ["a", "b", "c"]
    assert len(queue) == 0


def test_keys_take_turns_however_much_each_asks_for() -> None:
    queue = FairQueue()
    for name in ("a1", "a2", "a3", "b1", "b2"):
        queue.put(ticket(name, key=name[0]))
    assert drained(queue) == ["a1", "b1", "a2", "b2", "a3"]


def test_turns_are_counted_in_cost() -> None:
    queue = FairQueue()
    for name, cost in (
        ("a1", 3.0),
        ("a2", 3.0),
        ("b1", 1.0),
        ("b2", 1.0),
        ("b3", 1.0),
        ("b4", 1.0),
    ):
        queue.put(ticket(name, cost, key=name[0]))
    assert drained(queue) == ["a1", "b1", "b2", "b3", "a2", "b4"]


def test_nobody_saves_up_turns_by_staying_away() -> None:
    queue = FairQueue()
    for i in range(6):
        queue.put(ticket(f"a{i}", key="a"))
    for _ in range(3):
        queue.take("worker")
    for i in range(3):
        queue.put(ticket(f"b{i}", key="b"))
    assert drained(queue) == ["a3", "b0", "a4", "b1", "a5", "b2"]


def test_a_lower_priority_waits() -> None:
    queue = FairQueue()
    for name, priority in (("low", 2), ("normal", 1), ("high", 0), ("normal2", 1)):
        queue.put(ticket(name, priority=priority))
    assert drained(queue) == ["high", "normal", "normal2", "low"]


def test_those_who_left_leave_nothing_behind() -> None:
    queue = FairQueue()
    tickets = [ticket(str(i), key=str(i), priority=2) for i in range(100)]
    for gone in tickets:
        queue.put(gone)
        queue.remove(gone)
        queue.remove(gone)
    assert (len(queue), queue.keys) == (0, 0)


def test_keys_that_do_not_wait_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MOST_KEYS", 10)
    queue = FairQueue()
    queue.put(ticket("low", key="low", priority=2))
    for i in range(50):
        queue.put(ticket(str(i), key=str(i)))
        assert queue.take("worker") is not None
    assert queue.keys <= 12
    assert drained(queue) == ["low"]
    assert queue.keys == 0


def test_it_tells_what_a_new_one_would_wait_for() -> None:
    queue = FairQueue()
    for name, priority in (("a1", 1), ("a2", 1), ("b1", 1), ("high", 0), ("low", 2)):
        queue.put(ticket(name, key=name[0], priority=priority))

    def ahead(key: str, priority: Priority = Priority.NORMAL) -> set[str]:
        return {ticket.model for ticket in queue.ahead(key, priority)}

    assert ahead("c") == {"high", "a1", "b1"}
    assert ahead("a") == {"high", "a1", "a2", "b1"}
    assert ahead("c", Priority.LOW) == {"high", "a1", "a2", "b1", "low"}


def test_those_who_left_are_neither_counted_nor_given_out() -> None:
    queue = FairQueue()
    tickets = [ticket(name) for name in "abc"]
    for waiting in tickets:
        queue.put(waiting)
    for gone in tickets[1:]:
        gone.cancel()
    queue.remove(tickets[1])
    assert len(queue) == 2
    assert drained(queue) == ["a"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 2), st.floats(0.1, 50), st.booleans())
    )
)
def test_whatever_was_put_is_taken_once_and_told_by_whom(
    asked: list[tuple[str, int, float, bool]],
) -> None:
    queue, tickets, taken = FairQueue(), [], []
    for i, (key, priority, cost, take) in enumerate(asked):
        tickets.append(ticket(str(i), cost, key, priority))
        queue.put(tickets[-1])
        if take:
            taken.append(queue.take("one"))
    while (found := queue.take("two")) is not None:
        taken.append(found)
    assert sorted(map(id, taken)) == sorted(map(id, tickets))
    assert {found.taken_by for found in taken if found is not None} <= {"one", "two"}
