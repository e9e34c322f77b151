"""The one step that every picture goes through, whatever its scheduler, guidance or age."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic

import torch
from torch import Tensor

from unmask.sampling.backbone import Backbone, Cache, P
from unmask.sampling.logits import differential, likeliest, regularising_noise
from unmask.sampling.noise import request_noise
from unmask.sampling.plan import Plan, PlannedStep
from unmask.sampling.schedulers import ScoreContext

# Of a local pass. A CPU multiplies fewer than 16 rows with other kernels, which sum in another
# order: what a request draws would depend on how many run beside it.
FEWEST_POSITIONS = 16


@dataclass
class Row:
    """One picture on its way: its plan, its noise, the next step, and what later steps need.

    Tensors are those of one row: ``noise`` (steps, 2, tokens), all others (tokens, ...).
    """

    plan: Plan
    noise: Tensor
    unknown: Tensor  # bool, what the plan draws
    confidence: Tensor  # log p of each revealed token when it was revealed
    step: int = 0
    ended: bool = False  # by its count rule, before its last step
    previous: Tensor | None = None  # log probabilities of the step before, if the plan asks
    targets: Tensor | None = None  # positions of a group of steps, in the order of revealing
    opened: int = 0  # unknown tokens that were revealed before the group
    caches: list[Cache] = field(default_factory=list)  # of the condition, and of the null
    sound: Tensor = field(default_factory=lambda: torch.tensor(True))  # no logit was NaN so far

    @classmethod
    def begin(cls, plan: Plan, unknown: Tensor) -> "Row":
        """A row before its first step; ``unknown`` (tokens,) bool tells what the plan draws."""
        noise = request_noise(
            plan.seed, plan.image_index, len(plan.steps), plan.tokens, plan.window
        ).to(unknown.device)
        return cls(plan, noise, unknown, torch.zeros_like(unknown, dtype=torch.float32))

    @property
    def now(self) -> PlannedStep:
        """The numbers of the next step."""
        return self.plan.steps[self.step]

    @property
    def done(self) -> bool:
        return self.ended or self.step >= len(self.plan.steps)


@dataclass
class _Batch(Generic[P]):
    """Rows that take the same kind of pass, and all that belongs to them."""

    backbone: Backbone[P]
    tokens: Tensor
    prefix: P
    rows: list[Row]

    def each(self, value: Callable[[Row], float]) -> Tensor:
        """A number of each row, (rows, 1) fp32."""
        numbers = [value(row) for row in self.rows]
        return torch.tensor(numbers, device=self.tokens.device, dtype=torch.float32).unsqueeze(-1)

    def where(self, true: Callable[[Row], bool]) -> Tensor:
        """The indices of the rows for which it is true."""
        found = [i for i, row in enumerate(self.rows) if true(row)]
        return torch.tensor(found, device=self.tokens.device, dtype=torch.long)

    def left(self) -> Tensor:
        """How many steps of its plan each row has behind the next, (rows,) int64."""
        left = [len(row.plan.steps) - 1 - row.step for row in self.rows]
        return torch.tensor(left, device=self.tokens.device)

    def draw(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Values (rows, some) of logits (rows, some, codebook), as each row's plan has it."""
        allowed = likeliest(logits, [row.plan.top_k for row in self.rows])
        return draw_values(allowed, self.each(lambda row: row.now.temperature), uniforms)

    def pick(self, rows: Tensor) -> "_Batch[P]":
        """Some of the rows."""
        if len(rows) == len(self.rows):
            return self
        prefix = self.prefix.select(torch.cat([rows, rows + len(self.rows)]))
        return _Batch(
            self.backbone, self.tokens[rows], prefix, [self.rows[i] for i in rows.tolist()]
        )


def step(backbone: Backbone[P], tokens: Tensor, prefix: P, rows: list[Row]) -> Tensor:
    """The tokens (rows, tokens) after each row's next step; ``row.step`` moves on by one.

    ``tokens`` holds ``mask_id`` where masked. ``prefix`` has the conditions of the rows and behind
    them as many null conditions. Rows may be at different steps of different plans, full and local
    ones, but must not be done. Known tokens never change; revealed ones only if a scheduler
    remasks.
    """
    batch = _Batch(backbone, tokens, prefix, rows)
    full = batch.where(lambda row: not row.now.local)
    local = batch.where(lambda row: row.now.local)
    if len(full):
        tokens = tokens.index_put((full,), _full_step(batch.pick(full)))
    if len(local):
        tokens = tokens.index_put((local,), _local_step(batch.pick(local)))
    for row, state in zip(rows, tokens, strict=True):
        row.step += 1
        if row.plan.rule is not None:
            row.ended = not bool((state == backbone.mask_id).any())
    return tokens


def _full_step(batch: _Batch[P]) -> Tensor:
    """A step over the whole grid."""
    rows, masked = batch.rows, batch.tokens == batch.backbone.mask_id
    logits, attention = _guided(batch)
    _check(logits, rows)
    logits = _with_logit_options(logits, rows)
    noise = torch.stack([row.noise[row.step] for row in rows])
    drawn = batch.draw(logits, noise[:, 0])
    values = torch.where(masked, drawn, batch.tokens)
    unknown = torch.stack([row.unknown for row in rows])
    context = ScoreContext(
        grid=rows[0].plan.grid,
        log_probabilities=logits.log_softmax(-1),
        values=values,
        uniforms=noise[:, 1],
        first_uniforms=torch.stack([row.noise[0, 1] for row in rows]),
        choice_temperature=batch.each(lambda row: row.now.choice_temperature),
        unknown=unknown,
        revealed=unknown & ~masked,
        total=batch.each(lambda row: row.now.total),
        confidence=torch.stack([row.confidence for row in rows]),
        subjects=tuple(row.plan.subjects for row in rows),
    )
    scores = _scores(context, rows, attention)
    order = ranking(scores, unknown)
    kept = _kept(context, scores, order, rows)
    _remember(context, kept, order, rows)
    return torch.where(kept, values, torch.where(unknown, batch.backbone.mask_id, batch.tokens))


def _local_step(batch: _Batch[P]) -> Tensor:
    """A step over the positions that the last full step chose; it only draws their values anew."""
    rows, tokens = batch.rows, batch.tokens
    chosen = [row.targets for row in rows if row.targets is not None]
    targets = _padded(chosen)
    everyone, guided = batch.where(lambda row: True), batch.where(lambda row: row.now.null)
    caches = [row.caches[0] for row in rows] + [rows[i].caches[1] for i in guided.tolist()]
    running = torch.cat([everyone, guided])
    logits = batch.backbone.local(
        tokens.gather(1, targets)[running],
        targets[running],
        batch.prefix.select(torch.cat([everyone, guided + len(rows)])),
        type(caches[0]).join(caches),
        left=batch.left()[running],
    )
    logits = _combined(logits.float(), guided, batch)
    _check(logits, rows)
    for i, row in enumerate(rows):
        if row.now.logit_noise:
            noise = regularising_noise(row.plan, row.step, logits.shape[-1])
            logits[i] += noise.to(logits.device)[targets[i]]
    uniforms = torch.stack([row.noise[row.step, 0] for row in rows]).gather(1, targets)
    drawn = batch.draw(logits, uniforms)
    tokens = tokens.clone()
    for i, row in enumerate(rows):
        before, after = row.plan.steps[row.step - 1].total, row.now.total
        new = slice(before - row.opened, after - row.opened)
        tokens[i, targets[i, new]] = drawn[i, new]
        if after - row.opened == len(chosen[i]):
            row.caches, row.targets = [], None
    return tokens


def draw_values(logits: Tensor, temperature: Tensor, uniforms: Tensor) -> Tensor:
    """A value (rows, tokens) at each position, by the inverse of the cumulative distribution.

    ``temperature`` is (rows, 1); where it is 0 the likeliest value is taken.
    """
    greedy = temperature == 0
    probabilities = (logits / torch.where(greedy, 1.0, temperature).unsqueeze(-1)).softmax(-1)
    cumulative = probabilities.cumsum(-1)
    # The sum is 1 but for rounding: scale the uniform by it, so that no draw falls off the end.
    target = uniforms.unsqueeze(-1) * cumulative[..., -1:]
    drawn = torch.searchsorted(cumulative, target).squeeze(-1).clamp_max(logits.shape[-1] - 1)
    return torch.where(greedy, logits.argmax(-1), drawn)


def ranking(scores: Tensor, unknown: Tensor) -> Tensor:
    """The unknown positions by falling score, then the others, (rows, tokens); ties go to the lower
    position, and no score is so low that a known position comes before it."""
    lowest = torch.finfo(scores.dtype).min
    ranked = torch.where(unknown, scores.nan_to_num(nan=lowest).clamp_min(lowest), float("-inf"))
    return ranked.sort(dim=-1, descending=True, stable=True).indices


def _guided(batch: _Batch[P]) -> tuple[Tensor, Tensor | None]:
    """fp32 logits, and the attention of the rows whose scheduler reads it, in their order."""
    rows = batch.rows
    guided = batch.where(lambda row: row.now.null)
    reading = batch.where(lambda row: row.now.scheduler.attends)
    running = torch.cat([batch.where(lambda row: True), guided + len(rows)])
    made = batch.backbone.full(
        torch.cat([batch.tokens, batch.tokens[guided]]),
        batch.prefix if len(running) == 2 * len(rows) else batch.prefix.select(running),
        left=batch.left()[running % len(rows)],
        keep=any(row.now.opens for row in rows),
        attend=reading if len(reading) else None,
    )
    if made.cache is not None:
        null_at = {i: len(rows) + place for place, i in enumerate(guided.tolist())}
        for i, row in enumerate(rows):
            if row.now.opens:
                places = [i, *([null_at[i]] if i in null_at else [])]
                row.caches = [made.cache.select(torch.tensor([place])) for place in places]
    return _combined(made.logits.float(), guided, batch), made.attention


def _combined(logits: Tensor, guided: Tensor, batch: _Batch[P]) -> Tensor:
    """``u + s (c - u)`` for the guided rows, whose null logits follow those of all rows."""
    count = len(batch.rows)
    conditional, null = logits[:count], logits[count:]
    scale = batch.each(lambda row: row.now.guidance_scale)[guided].unsqueeze(-1)
    own = conditional if len(guided) == count else conditional[guided]
    mixed = (own - null).mul_(scale).add_(null)
    if any(row.now.null and row.now.guidance_scale == 1 for row in batch.rows):
        # It runs the null condition for its local steps only: it must stay what it is.
        mixed = torch.where(scale == 1, own, mixed)
    return mixed if len(guided) == count else conditional.index_put((guided,), mixed)


def _check(logits: Tensor, rows: list[Row]) -> None:
    """Note which rows got logits that are no numbers; asking for it later costs no waiting now."""
    for row, sound in zip(rows, ~logits.isnan().flatten(1).any(1), strict=True):
        row.sound = row.sound & sound


def _with_logit_options(logits: Tensor, rows: list[Row]) -> Tensor:
    for i, row in enumerate(rows):
        if row.now.logit_noise:
            noise = regularising_noise(row.plan, row.step, logits.shape[-1])
            logits[i] += noise.to(logits.device)
        if row.plan.differential:
            plain = logits[i].log_softmax(-1)
            logits[i] = differential(plain, row.previous, row.plan.differential)
            row.previous = plain
    return logits


def _scores(context: ScoreContext, rows: list[Row], attention: Tensor | None) -> Tensor:
    """Scores of all rows: each scheduler sees its own at once."""
    scores = torch.empty_like(context.uniforms)
    reading = [i for i, row in enumerate(rows) if row.now.scheduler.attends]
    for scheduler, grid in dict.fromkeys((row.now.scheduler, row.plan.grid) for row in rows):
        own = [
            i
            for i, row in enumerate(rows)
            if (row.now.scheduler, row.plan.grid) == (scheduler, grid)
        ]
        narrow = context.of(own)
        if scheduler.attends:
            assert attention is not None
            narrow = replace(narrow, attention=attention[[reading.index(i) for i in own]])
        made = scheduler.score(replace(narrow, grid=grid))
        fixed = torch.zeros_like(narrow.revealed) if scheduler.remasks else narrow.revealed
        scores[own] = made.masked_fill(fixed, float("inf"))
    return scores


def _kept(context: ScoreContext, scores: Tensor, order: Tensor, rows: list[Row]) -> Tensor:
    """Which unknown tokens are revealed after the step, (rows, tokens) bool."""
    places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(-1, order, places)
    kept = ranks < context.total
    for i, row in enumerate(rows):
        if row.plan.rule is not None:
            # Ahead of the plan already, it still reveals one at least.
            kept[i] = ranks[i] < max(row.now.total, int(context.revealed[i].sum()) + 1)
            kept[i] |= row.plan.rule.ready(
                context.log_probabilities[i],
                row.previous,
                scores[i],
                context.unknown[i] & ~context.revealed[i],
            )
    return kept & context.unknown


def _remember(context: ScoreContext, kept: Tensor, order: Tensor, rows: list[Row]) -> None:
    """Keep what the next steps of each row look back at."""
    for i, row in enumerate(rows):
        if row.now.scheduler.remasks:
            new = kept[i] & ~context.revealed[i]
            logs = context.log_probabilities[i].gather(-1, context.values[i].unsqueeze(-1))
            row.confidence = torch.where(new, logs.squeeze(-1), row.confidence)
        if row.plan.rule is not None:
            row.previous = context.log_probabilities[i]
        if row.now.opens:
            row.opened = row.plan.steps[row.step - 1].total if row.step else 0
            row.targets = order[i, row.opened : row.opened + row.now.opens]


def _padded(targets: list[Tensor]) -> Tensor:
    """All of them as rows of one tensor; short ones repeat their first, which changes nothing."""
    longest = max(FEWEST_POSITIONS, *(len(each) for each in targets))
    return torch.stack(
        [torch.cat([each, each[:1].expand(longest - len(each))]) for each in targets]
    )
