"""Rows one by one, for large backbones on a CPU.

How a CPU's matrix product sums depends on how many rows it has, how wide they are, and the threads
(two threads of MKL part sums of 2816 products at 256 rows, and of 1024 at 128): run together, what
a row comes to would depend on its neighbours. Its hundreds of tokens fill a CPU by themselves.
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
) -> Pass:
    """A full pass over rows, of ``full(tokens, prefix, left, keep, attend)`` over each."""
    reading = [] if attend is None else attend.tolist()
    passes = []
    for row in range(len(tokens)):
        own = torch.tensor([row])
        asked = torch.tensor([0]) if row in reading else None
        passes.append(full(tokens[own], prefix.select(own), left[own], keep, asked))
    caches = [made.cache for made in passes if made.cache is not None]
    maps = {row: made.attention for row, made in enumerate(passes) if made.attention is not None}
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
) -> Tensor:
    """A local pass over rows, of ``local(tokens, positions, prefix, cache, left)`` over each.

    A row that is filled up with its first position, because others have more, runs without.
    """
    made = []
    for row, places in enumerate(positions):
        own = torch.tensor([row])
        others = (places != places[0]).nonzero()
        count = int(others[-1]) + 1 if len(others) else 1
        logits = local(
            tokens[own, :count],
            positions[own, :count],
            prefix.select(own),
            cache.select(own),
            left[own],
        )
        filling = logits[:, :1].expand(-1, len(places) - count, -1)
        made.append(torch.cat([logits, filling], 1))
    return torch.cat(made)
