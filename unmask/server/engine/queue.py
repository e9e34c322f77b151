"""The queue before the workers: bounded, by priority, and fair between the keys that ask."""

import threading
from collections import deque

from unmask.server.engine.tickets import Priority, Ticket


class FairQueue:
    """Of the highest priority that waits, the key that was served least goes first.

    A key that comes back after a pause begins where the least served one stands, so that nobody
    saves up turns. Any thread may call anything; ``changed`` guards all and wakes the workers.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._lanes: dict[Priority, dict[str, deque[Ticket]]] = {each: {} for each in Priority}
        self._served: dict[str, float] = {}

    def __len__(self) -> int:
        with self.changed:
            return sum(
                not ticket.over
                for lanes in self._lanes.values()
                for lane in lanes.values()
                for ticket in lane
            )

    def put(self, ticket: Ticket) -> None:
        """Add a ticket behind those of its key."""
        with self.changed:
            if not self._waits(ticket.key):
                active = [self._served[key] for key in self._served if self._waits(key)]
                floor = min(active, default=0.0)
                self._served[ticket.key] = max(self._served.get(ticket.key, 0.0), floor)
            self._lanes[ticket.priority].setdefault(ticket.key, deque()).append(ticket)
            self.changed.notify_all()

    def take(self, worker: str) -> Ticket | None:
        """The next ticket that somebody still waits for, for the worker of this name; None if there
        is none."""
        with self.changed:
            for lanes in self._lanes.values():
                while lanes:
                    key = min(lanes, key=lambda key: self._served.get(key, 0.0))
                    ticket = lanes[key][0]
                    # First, so that it is nobody's at no moment, even if the worker dies here.
                    ticket.taken_by = worker
                    lanes[key].popleft()
                    if not lanes[key]:
                        del lanes[key]
                    if not ticket.over:
                        self._charge(ticket)
                        return ticket
        return None

    def _waits(self, key: str) -> bool:
        return any(key in lanes for lanes in self._lanes.values())

    def _charge(self, ticket: Ticket) -> None:
        self._served[ticket.key] = self._served.get(ticket.key, 0.0) + ticket.cost
        if not any(self._lanes.values()):
            self._served.clear()  # nobody waits, so nobody is behind
