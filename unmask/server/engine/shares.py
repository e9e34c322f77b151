"""Which rows are stepped next: equal shares of a worker's time for all keys that have any."""

from collections.abc import Sequence

from unmask.server.engine.strands import Run


class Shares:
    """What the rows of each key have cost so far, while it has any.

    Keys that have cost about the same are stepped together, so that their rows share batches. A key
    that is ahead pauses until the others have caught up: one that floods the worker waits for
    itself. A key that comes begins behind the others, by the steps of an image or two, so it runs
    at once and undisturbed.
    """

    def __init__(self, max_rows: int) -> None:
        """``max_rows`` are begun at a time: a step of so many is what shares are measured by."""
        self.max_rows = max_rows
        self._spent: dict[str, float] = {}
        self._turn = 0

    def choose(self, runs: Sequence[Run], most: int) -> list[Run]:
        """The rows to be stepped now, at most so many; their step is counted."""
        keys = {run.ticket.key for run in runs}
        quantum = self.max_rows * max(map(_step_cost, runs), default=0.0)
        known = [self._spent[key] for key in keys if key in self._spent]
        begin = min(known, default=0.0) - 2 * quantum
        self._spent = {key: self._spent.get(key, begin) for key in keys}
        least = min(self._spent.values(), default=0.0)
        behind = [run for run in runs if self._spent[run.ticket.key] <= least + quantum / 2]
        # Those that have waited longest, new ones first. A sort keeps the order of equals, so the
        # same rows come together again, and their batch is at hand.
        chosen = sorted(behind, key=lambda run: run.turn)[:most]
        self._turn += 1
        for run in chosen:
            run.turn = self._turn
            self._spent[run.ticket.key] += _step_cost(run)
        return [run for run in behind if run.turn == self._turn]


def _step_cost(run: Run) -> float:
    """Tokens times passes, the more the larger the model is."""
    parameters = run.ticket.cost.parameters
    return run.row.plan.tokens * (1 + run.row.now.null) * parameters
