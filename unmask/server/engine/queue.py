"""The queue before the workers: by priority, and fair between the keys that ask."""

import threading
from collections import deque
from collections.abc import Set

from unmask.server.engine.tickets import Priority, Ticket

MOST_KEYS = 1000  # that are remembered while they have nothing in the queue


class FairQueue:
    """Of the highest priority that waits, the key that was served least goes first.

    A key that comes back after a pause begins where the least served one stands, so that nobody
    saves up turns. Any thread may call anything.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._changes = 0
        self._lanes: dict[Priority, dict[str, deque[Ticket]]] = {
            priority: {} for priority in Priority
        }
        self._served: dict[str, float] = {}

    def __len__(self) -> int:
        with self._changed:
            return sum(len(lane) for lanes in self._lanes.values() for lane in lanes.values())

    @property
    def changes(self) -> int:
        """A number that grows whenever a worker may have something new to do."""
        return self._changes

    @property
    def keys(self) -> int:
        """How many keys are remembered."""
        return len(self._served)

    def wake(self) -> None:
        """Let every worker that waits for a change look around."""
        with self._changed:
            self._wake()

    def wait(self, seen: int, seconds: float) -> None:
        """Return when ``changes`` is not ``seen`` any more, or after so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes != seen, seconds)

    def put(self, ticket: Ticket) -> None:
        """Add a ticket after those of its key."""
        with self._changed:
            self._served[ticket.key] = self._standing(ticket.key)
            self._lanes[ticket.priority].setdefault(ticket.key, deque()).append(ticket)
            self._wake()

    def take(self, worker: str, but: Set[str] = frozenset()) -> Ticket | None:
        """The next ticket that somebody still waits for, for the worker of this name, of none of
        these keys; None if there is none."""
        with self._changed:
            for lanes in self._lanes.values():
                while waiting := lanes.keys() - but:
                    # Of equals the one that has waited here for longest.
                    key = min(
                        (key for key in lanes if key in waiting),
                        key=lambda key: self._served.get(key, 0.0),
                    )
                    ticket = lanes[key][0]
                    # First, so that it is nobody's at no moment, even if the worker dies here.
                    ticket.taken_by = worker
                    self._drop(ticket)
                    if not ticket.over:
                        self._served[key] = self._served.get(key, 0.0) + ticket.cost.charge
                        self._forget()
                        if any(self._lanes.values()):
                            self._wake()  # the others may have more room than this worker now
                        return ticket
        return None

    def remove(self, ticket: Ticket) -> None:
        """Let go of a ticket that nobody waits for; nothing happens if it is not in the queue."""
        with self._changed:
            if ticket in self._lanes[ticket.priority].get(ticket.key, ()):
                self._drop(ticket)
                self._forget()

    def ahead(self, key: str, priority: Priority) -> list[Ticket]:
        """The tickets that would be taken before a new one of this key."""
        with self._changed:
            found = [
                ticket
                for higher in Priority
                if higher < priority
                for lane in self._lanes[higher].values()
                for ticket in lane
            ]
            lanes = {other: deque(lane) for other, lane in self._lanes[priority].items()}
            served = {**self._served, key: self._standing(key)}
        while True:
            turn = min([*lanes, key], key=lambda key: served.get(key, 0.0))
            if turn not in lanes:  # the turn of the new one
                return found
            ticket = lanes[turn].popleft()
            served[turn] = served.get(turn, 0.0) + ticket.cost.charge
            found.append(ticket)
            if not lanes[turn]:
                del lanes[turn]

    def _wake(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def _drop(self, ticket: Ticket) -> None:
        lanes = self._lanes[ticket.priority]
        lanes[ticket.key].remove(ticket)
        if not lanes[ticket.key]:
            del lanes[ticket.key]

    def _waits(self, key: str) -> bool:
        return any(key in lanes for lanes in self._lanes.values())

    def _floor(self) -> float:
        """What the least served key that waits was served."""
        waiting = {key for lanes in self._lanes.values() for key in lanes}
        return min((self._served.get(key, 0.0) for key in waiting), default=0.0)

    def _standing(self, key: str) -> float:
        """What a key counts as served when a ticket of it comes."""
        served = self._served.get(key, 0.0)
        return served if self._waits(key) else max(served, self._floor())

    def _forget(self) -> None:
        """Let go of keys that nothing is known of which a new one would not begin with."""
        if not any(self._lanes.values()):
            self._served.clear()  # nobody waits, so nobody is behind
            return
        floor = self._floor()
        away = [key for key in self._served if not self._waits(key)]
        for key in away:
            if self._served[key] <= floor:
                del self._served[key]
        away = sorted((key for key in away if key in self._served), key=lambda k: self._served[k])
        for key in away[: max(0, len(away) - MOST_KEYS)]:
            del self._served[key]
