"""Many requests as few batches, and how far they are."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from unmask.pipeline.drawing import Start
from unmask.pipeline.request import MAX_IMAGES, DrawRequest
from unmask.sampling.backbone import Pair
from unmask.sampling.generate import OnStep


def batches(requests: Sequence[DrawRequest]) -> Iterator[list[DrawRequest]]:
    """The requests in their order, in groups of no more images than a request may have."""
    batch: list[DrawRequest] = []
    for request in requests:
        if sum(member.n for member in batch) + request.n > MAX_IMAGES and batch:
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch


def part_of(on_step: OnStep | None, number: int, parts: int) -> OnStep | None:
    """``on_step`` for one of several parts that have as many steps each."""
    if on_step is None:
        return None
    return lambda done, total: on_step(number * total + done, parts * total)


class Progress:
    """Tells how many steps of the windows of an image are done, as runs of them end."""

    def __init__(self, on_step: OnStep | None, images: int) -> None:
        self.on_step, self.images = on_step, images
        self.finished = 0

    def of(self, starts: Sequence[Start]) -> OnStep | None:
        """``on_step`` for one run of these starts."""
        if self.on_step is None:
            return None
        on_step, before, parts = self.on_step, self.finished, starts[0].parts
        together = max(1, len(starts) // self.images)
        self.finished += together

        def tell(done: int, total: int) -> None:
            on_step(before * total + done * together, parts * total)

        return tell


def pairs_of(pair: Pair, index: Tensor, own: Sequence[Pair | None]) -> Pair:
    """The pairs of rows: their requests', at ``index``, or their own."""
    if all(mine is None for mine in own):
        return pair.select(index)
    places = zip(index, own, strict=True)
    return Pair.join([pair.select(place[None]) if mine is None else mine for place, mine in places])
