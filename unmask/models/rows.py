"""Rows a few at a time, for large backbones on a CPU.

How a CPU's matrix product sums depends on how many rows it has, how wide they are, and the threads
(two threads of MKL part sums of 2816 products at 256 rows, and of 1024 at 128): run together, what
a row comes to would depend on its neighbours. Its hundreds of tokens fill a CPU by themselves. Only
a packed backbone (``models.linear``), whose products leave rows alone, takes several through a
layer while its weight is at hand.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from unmask.sampling.backbone import Pass


def full_by_rows(
    full: Callable[[Tensor, Any, Tensor, bool, Tensor | None], Pass],
    tokens: Tensor,
    prefix: Any,
    left: Tensor,
    keep: bool,
    attend: Tensor | None,
    most: int,
) -> Pass:
    """A full pass over rows, of ``full(tokens, prefix, left, keep, attend)`` over ``most``."""
    if len(tokens) <= most:
        return full(tokens, prefix, left, keep, attend)
    reading = [] if attend is None else attend.tolist()
    passes: list[Pass] = []
    maps: dict[int, Tensor] = {}
    for own in torch.split(torch.arange(len(tokens)), most):
        few = own.tolist()
        asked = [row for row in few if row in reading]
        places = torch.tensor([few.index(row) for row in asked]) if asked else None
        made = full(tokens[own], _of(prefix, own, tokens), left[own], keep, places)
        passes.append(made)
        if made.attention is not None:
            maps.update(zip(asked, torch.split(made.attention, 1), strict=True))
    caches = [made.cache for made in passes if made.cache is not None]
    return Pass(
        logits=torch.cat([made.logits for made in passes]),
        cache=type(caches[0]).join(caches) if caches else None,
        attention=torch.cat([maps[row] for row in reading]) if reading else None,
    )


def local_by_rows(
    local: Callable[[Tensor, Tensor, Any, Any, Tensor], Tensor],
    tokens: Tensor,
    positions: Tensor,
    prefix: Any,
    cache: Any,
    left: Tensor,
    most: int,
    layer_count: Callable[[Tensor], int],
) -> Tensor:
    """A local pass over rows, of ``local(tokens, positions, prefix, cache, left)`` over ``most``.

    A row that is filled up with its first position, because others have more, runs without, and
    with those that have as many and for which the layers run over as many, the ``layer_count`` of
    a row's positions.
    """
    counts = [_own_count(places) for places in positions]
    own_counts = zip(counts, positions, strict=True)
    sizes = [(count, layer_count(places[:count])) for count, places in own_counts]
    made: dict[int, Tensor] = {}
    for size in dict.fromkeys(sizes):
        count = size[0]
        alike = torch.tensor([row for row, own in enumerate(sizes) if own == size])
        for own in torch.split(alike, most):
            logits = local(
                tokens[own, :count],
                positions[own, :count],
                _of(prefix, own, tokens),
                _of(cache, own, tokens),
                left[own],
            )
            filling = logits[:, :1].expand(-1, positions.shape[1] - count, -1)
            both = torch.cat([logits, filling], 1)
            made.update(zip(own.tolist(), torch.split(both, 1), strict=True))
    return torch.cat([made[row] for row in range(len(tokens))])


def _of(rows: Any, own: Tensor, tokens: Tensor) -> Any:
    """Some rows of a prefix or a cache; all of them without a copy, for a cache is large."""
    return rows if len(own) == len(tokens) else rows.select(own)


def _own_count(places: Tensor) -> int:
    """How many positions of a row there are before its filling."""
    others = (places != places[0]).nonzero()
    return int(others[-1]) + 1 if len(others) else 1
