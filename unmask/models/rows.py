"""Passes over as many rows at a time as leave each other's numbers alone on a CPU.

How its matrix products sum depends on how many rows they have (``unmask.numerics``): run together,
what a row of a wide backbone comes to would depend on its neighbours. Its hundreds of tokens fill a
CPU by themselves, so one by one is no slower; packed weights allow some at a time, and a narrow
backbone any number.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.numerics import FEWEST_ROWS
from unmask.sampling.backbone import Pass, Positions, RowTensors

FullPass = Callable[[Tensor, RowTensors, Tensor, bool, Tensor | None], Pass]
LocalPass = Callable[[Tensor, Tensor, RowTensors, RowTensors, Tensor], Tensor]


def full_by_rows(
    run: FullPass,
    tokens: Tensor,  # (rows, tokens)
    prefix: RowTensors,
    steps_left: Tensor,  # (rows,)
    remember: bool,
    attention_rows: Tensor | None,
    rows_per_pass: int,
) -> Pass:
    """A full pass, ``run`` over ``rows_per_pass`` at a time; ``run`` takes what stands here between
    the two."""
    if len(tokens) <= rows_per_pass:
        return run(tokens, prefix, steps_left, remember, attention_rows)
    reading = [] if attention_rows is None else attention_rows.tolist()
    passes: list[Pass] = []
    maps: dict[int, Tensor] = {}
    for chunk in torch.split(torch.arange(len(tokens)), rows_per_pass):
        rows = chunk.tolist()
        readers = [row for row in rows if row in reading]
        at = torch.tensor([rows.index(row) for row in readers]) if readers else None
        part = run(tokens[chunk], prefix.select(chunk), steps_left[chunk], remember, at)
        passes.append(part)
        if part.attention is not None:
            maps.update(zip(readers, torch.split(part.attention, 1), strict=True))
    memories = [part.memory for part in passes if part.memory is not None]
    return Pass(
        logits=torch.cat([part.logits for part in passes]),
        memory=type(memories[0]).join(memories) if memories else None,
        attention=torch.cat([maps[row] for row in reading]) if reading else None,
    )


def lengthen(positions: Positions) -> Positions:
    """The positions, the fewest that a CPU multiplies alike being each row's own: what fills a row
    up to them runs with it, alone too."""
    fewest = min(FEWEST_ROWS, positions.places.shape[1])
    return Positions(positions.places, tuple(max(count, fewest) for count in positions.counts))


def local_by_rows(
    run: LocalPass,
    tokens: Tensor,  # (rows, some)
    positions: Positions,
    prefix: RowTensors,
    memory: RowTensors,
    steps_left: Tensor,  # (rows,)
    rows_per_pass: int,
    layer_place_count: Callable[[Tensor], int],
) -> Tensor:
    """A local pass, ``run`` over ``rows_per_pass`` at a time, of the places without those that fill
    a row up.

    Rows run together if they have as many places of their own, and if the layers run over as many:
    ``layer_place_count`` of the own places (some,). The logits of what fills a row up are those of
    its first place.
    """
    places, counts = positions
    sizes = [
        (count, layer_place_count(row[:count])) for count, row in zip(counts, places, strict=True)
    ]
    logits: dict[int, Tensor] = {}
    for size in dict.fromkeys(sizes):
        count = size[0]
        alike = torch.tensor([row for row, other in enumerate(sizes) if other == size])
        for chunk in torch.split(alike, rows_per_pass):
            # All rows of a memory are taken as they are, without a copy: it is large.
            everyone = len(chunk) == len(tokens)
            part = run(
                tokens[chunk, :count],
                places[chunk, :count],
                prefix if everyone else prefix.select(chunk),
                memory if everyone else memory.select(chunk),
                steps_left[chunk],
            )
            filling = part[:, :1].expand(-1, places.shape[1] - count, -1)
            filled = torch.cat([part, filling], 1)
            logits.update(zip(chunk.tolist(), torch.split(filled, 1), strict=True))
    return torch.cat([logits[row] for row in range(len(tokens))])
