"""Rows: pictures on their way, and the batches that they are stepped in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unmask.sampling.backbone import Backbone, Pair, RowTensors
from unmask.sampling.noise import request_noise
from unmask.sampling.plan import Plan
from unmask.sampling.planned import PlannedStep


@dataclass
class Row:
    """One picture on its way: its plan, its noise, the next step, and what later steps need.

    Tensors are those of one row: ``noise`` (steps, 2, tokens), all others (tokens, ...).
    """

    plan: Plan
    tokens: Tensor  # int64, the mask id where masked
    unknown: Tensor  # bool, what the plan draws
    noise: Tensor
    scheduler_memory: RowTensors | None = None  # one row, made and read by the plan's scheduler
    memory: RowTensors | None = None  # one row, or two if guided; made and read by the backbone
    null_logits: Tensor | None = None  # fp32 (tokens, codebook), that a step kept for later ones
    step: int = 0
    ended: bool = False  # by its count rule, before its last step
    previous: Tensor | None = None  # log probabilities of the step before, if the plan looks back
    targets: Tensor | None = None  # positions of a group of steps, in the order of revealing
    revealed_before: int = 0  # unknown tokens that were revealed before the group
    finite: Tensor = field(default_factory=lambda: torch.tensor(True))  # all logits were numbers
    sure: Tensor | None = None  # fp32, of a row that is watched: how probable each value was

    @classmethod
    def begin(cls, plan: Plan, tokens: Tensor, unknown: Tensor, watched: bool = False) -> "Row":
        """A row before its first step: its ``tokens`` (tokens,) so far, and which of them the plan
        draws (tokens,) bool. If it is watched, steps keep how sure the model was."""
        device = unknown.device
        noise = request_noise(
            plan.seed, plan.image_index, len(plan.steps), plan.tokens, plan.window
        )
        # With nothing to draw there is no step, and no noise to begin with. A scheduler that looks
        # at its noise does so here, on the host, and waits for no device.
        memory = plan.scheduler.begin(plan.grid, noise[0, 1:]) if plan.steps else None
        memory = None if memory is None else memory.to(device)
        noise = noise.to(device)
        finite = torch.tensor(True, device=device)
        sure = torch.ones(plan.tokens, device=device) if watched else None
        return cls(plan, tokens, unknown, noise, scheduler_memory=memory, finite=finite, sure=sure)

    @property
    def now(self) -> PlannedStep:
        """The numbers of the next step."""
        return self.plan.steps[self.step]

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.ended or self.step >= len(self.plan.steps)


# Columns of ``Batch.numbers``.
_TOTAL, _TEMPERATURE, _CHOICE_TEMPERATURE, _GUIDANCE_SCALE = range(4)


class Batch:
    """Rows of one grid that are stepped together; made anew when one comes or goes.

    All that a device needs of all their steps is put there once: a step then copies next to nothing
    from the host, where it would wait for the device each time.
    """

    def __init__(self, backbone: Backbone, rows: Sequence[Row], pair: Pair) -> None:
        """``pair`` holds the rows' conditions and nulls."""
        assert len({row.plan.grid for row in rows}) == 1, "a batch has one grid"
        self.backbone, self.rows, self.pair = backbone, list(rows), pair
        self.tokens = torch.stack([row.tokens for row in rows])  # (rows, tokens)
        self.unknown = torch.stack([row.unknown for row in rows])  # (rows, tokens)
        self.finite = torch.stack([row.finite for row in rows])  # (rows,)
        # The steps of all rows, one row's after the other's.
        self.noise = torch.cat([row.noise for row in rows])  # (steps, 2, tokens)
        device = self.tokens.device
        self.numbers = torch.tensor(
            [
                (step.total, step.temperature, step.choice_temperature, step.guidance_scale)
                for row in rows
                for step in row.plan.steps
            ],
            device=device,
        )  # (steps, 4) fp32
        lengths = torch.tensor([len(row.plan.steps) for row in rows])
        ends = lengths.cumsum(0)
        begun = torch.tensor([row.step for row in rows])
        self.place = (ends - lengths + begun).to(device)  # (rows,) where each row's next step is
        self.last = (ends - 1).to(device)  # (rows,) where its last is
        # Which rows are guided or local repeats from step to step, and so do their indices.
        self._indices: dict[tuple[int, ...], Tensor] = {}

    @property
    def grid(self) -> tuple[int, ...]:
        """The grid that all rows share."""
        return self.rows[0].plan.grid

    def index(self, rows: Sequence[int]) -> Tensor:
        """Indices of rows as a tensor of the device, which keeps those that it was given."""
        key = tuple(rows)
        if key not in self._indices:
            self._indices[key] = torch.tensor(key, dtype=torch.long, device=self.tokens.device)
        return self._indices[key]

    def part(self, chosen: Callable[[Row], bool]) -> "Part":
        """The rows for which it is true."""
        return Part(self, [i for i, row in enumerate(self.rows) if chosen(row)])


class Part:
    """Rows of a batch that take the same kind of pass; nothing is copied if they are all of it."""

    def __init__(self, batch: Batch, numbers: list[int]) -> None:
        self.batch, self.numbers = batch, numbers
        self.rows = [batch.rows[i] for i in numbers]
        self._all = len(numbers) == len(batch.rows)
        self.tokens, self.unknown = self.of(batch.tokens), self.of(batch.unknown)
        self._place = self.of(batch.place)
        self.pair = batch.pair if self._all else batch.pair.select(batch.index(numbers))

    def of(self, whole: Tensor) -> Tensor:
        """What a tensor (rows of the batch, ...) has of these rows."""
        return whole if self._all else whole[self.batch.index(self.numbers)]

    def put(self, whole: Tensor, own: Tensor) -> Tensor:
        """The tensor (rows of the batch, ...) with these rows replaced."""
        return own if self._all else whole.index_put((self.batch.index(self.numbers),), own)

    def where(self, chosen: Callable[[Row], bool]) -> list[int]:
        """The places among these rows of those for which it is true."""
        return [i for i, row in enumerate(self.rows) if chosen(row)]

    @property
    def noise(self) -> Tensor:
        """This step's uniforms, (rows, 2, tokens)."""
        return self.batch.noise[self._place]

    @property
    def steps_left(self) -> Tensor:
        """How many steps of its plan each row has after this one, (rows,) int64."""
        return self.of(self.batch.last) - self._place

    def number(self, column: int) -> Tensor:
        """A column of ``Batch.numbers``, (rows, 1) fp32."""
        return self.batch.numbers[self._place, column].unsqueeze(-1)

    @property
    def total(self) -> Tensor:
        """(rows, 1) fp32, as all numbers of a step."""
        return self.number(_TOTAL)

    @property
    def temperature(self) -> Tensor:
        """Of values, (rows, 1)."""
        return self.number(_TEMPERATURE)

    @property
    def choice_temperature(self) -> Tensor:
        """Of positions, (rows, 1)."""
        return self.number(_CHOICE_TEMPERATURE)

    @property
    def guidance_scale(self) -> Tensor:
        """1 where guidance is off, (rows, 1)."""
        return self.number(_GUIDANCE_SCALE)
