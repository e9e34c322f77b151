"""The one step that every picture goes through, whatever its scheduler, guidance or age."""

import torch
from torch import Tensor

from unmask.numerics import FEWEST_ROWS
from unmask.sampling.backbone import Positions
from unmask.sampling.logits import Moment, narrowed
from unmask.sampling.planned import PlannedStep
from unmask.sampling.row import Batch, Part, Row
from unmask.sampling.scheduler import ScoreContext
from unmask.sampling.trace import probabilities_of

# A temperature below it takes the likeliest value: logits divided by less leave fp32.
_FREEZING = 1e-6


def step(batch: Batch) -> None:
    """Move each row of a batch on by its next step: ``row.tokens`` and ``row.step``.

    Rows may be at different steps of different plans, full and local ones, but must not be done.
    Known tokens never change; revealed ones only if a scheduler remasks.
    """
    tokens, finite = batch.tokens, batch.finite
    for part, advance in (
        (batch.part(lambda row: not row.now.local), _full_step),
        (batch.part(lambda row: row.now.local), _local_step),
    ):
        if part.rows:
            after, numbers = advance(part)
            tokens = part.put(tokens, after)
            finite = part.put(finite, part.of(finite) & numbers)
    batch.tokens, batch.finite = tokens, finite
    batch.place = batch.place + 1
    for row, state, row_finite in zip(batch.rows, tokens, finite, strict=True):
        row.tokens, row.finite = state, row_finite
        row.step += 1
        if row.plan.count_rule is not None:
            row.ended = not bool((state == batch.backbone.mask_id).any())


def _full_step(part: Part) -> tuple[Tensor, Tensor]:
    """A step over the whole grid: tokens (rows, tokens), and which rows had numbers (rows,)."""
    rows, mask_id = part.rows, part.batch.backbone.mask_id
    masked = part.tokens == mask_id
    # The numbers of the protocol's step (docs/architecture.md): 1 and 2.
    logits, attention = _guided(part)
    finite = _are_numbers(logits)
    logits = _with_logit_options(logits, part)
    noise = part.noise
    # 3. A value at every place: those that are not masked cost nothing extra, and are put back.
    drawn = _draw(part, logits, noise[:, 0])
    values = torch.where(masked, drawn, part.tokens)
    _look(part, logits, drawn)
    revealed = part.unknown & ~masked
    # 4. Each scheduler scores its rows at once; what it may not take back stays on top.
    contexts = _contexts(part, logits, values, revealed, noise[:, 1], attention)
    scores = torch.empty_like(noise[:, 1])
    for places, context in contexts:
        scheduler = rows[places[0]].now.scheduler
        found = scheduler.score(context)
        if not scheduler.remasks:  # revealed once is revealed for good
            found = found.masked_fill(context.revealed, float("inf"))
        scores = _put(part, scores, places, found)
    # 5. Each row its own number of the highest.
    order = ranking(scores, part.unknown)
    kept = _kept(part, contexts, scores, order, revealed)
    _remember(part, contexts, kept, order)
    return torch.where(kept, values, torch.where(part.unknown, mask_id, part.tokens)), finite


def _local_step(part: Part) -> tuple[Tensor, Tensor]:
    """A step over the positions that the last full step chose; it only draws their values anew."""
    rows, tokens = part.rows, part.tokens
    positions = _positions([row.targets for row in rows if row.targets is not None])
    guided = part.where(lambda row: row.now.null)
    every = list(range(len(rows)))
    running = part.batch.index(every + guided)
    memories = [row.memory for row in rows if row.memory is not None]
    assert len(memories) == len(rows), "a full step came before"
    first, second = part.batch.index([0]), part.batch.index([1])
    memory = [kept.select(first) for kept in memories]
    memory += [memories[i].select(second) for i in guided]
    places = positions.places
    logits = part.batch.backbone.local(
        tokens.gather(1, places)[running],
        Positions(places[running], tuple(positions.counts[i] for i in every + guided)),
        part.pair.running(part.batch.index(guided)),
        type(memory[0]).join(memory),
        steps_left=part.steps_left[running],
    )
    logits = _combined(logits.float(), guided, part)
    finite = _are_numbers(logits)
    logits = _with_logit_options(logits, part, places)
    drawn = _draw(part, logits, part.noise[:, 0].gather(1, places))
    tokens = tokens.clone()
    _look(part, logits, drawn, places)
    for i, row in enumerate(rows):
        before, after = row.plan.steps[row.step - 1].total, row.now.total
        # The targets stand in the order of revealing, so a step takes the next ones.
        new = slice(before - row.revealed_before, after - row.revealed_before)
        tokens[i, places[i, new]] = drawn[i, new]
        if after - row.revealed_before == positions.counts[i]:
            row.memory = row.targets = None  # the group is done, and a memory is large
    return tokens, finite


def draw_values(
    logits: Tensor, temperature: Tensor, uniforms: Tensor, frozen: bool = True
) -> Tensor:
    """A value (rows, tokens) at each position, by the inverse of the cumulative distribution.

    ``temperature`` is (rows, 1); where it is 0, or as good as that, the likeliest value is taken.
    ``frozen`` tells whether it may be so anywhere: to look would wait for the device.
    """
    divisor = temperature
    if frozen:
        greedy = temperature < _FREEZING
        divisor = torch.where(greedy, 1.0, temperature)
    probabilities = (logits / divisor.unsqueeze(-1)).softmax(-1)
    cumulative = probabilities.cumsum(-1)
    # The sum is 1 but for rounding: scale the uniform by it, so that no draw falls off the end.
    target = uniforms.unsqueeze(-1) * cumulative[..., -1:]
    drawn = torch.searchsorted(cumulative, target).squeeze(-1).clamp_max(logits.shape[-1] - 1)
    return torch.where(greedy, logits.argmax(-1), drawn) if frozen else drawn


def ranking(scores: Tensor, unknown: Tensor) -> Tensor:
    """The unknown positions by falling score, then the others, (rows, tokens); ties go to the lower
    position, and no score is so low that a known position comes before it."""
    lowest = torch.finfo(scores.dtype).min
    ranked = torch.where(unknown, scores.nan_to_num(nan=lowest).clamp_min(lowest), float("-inf"))
    return ranked.sort(dim=-1, descending=True, stable=True).indices


def _guided(part: Part) -> tuple[Tensor, Tensor | None]:
    """fp32 logits, and the attention of the rows whose scheduler reads it, in their order."""
    rows, batch = part.rows, part.batch
    guided = part.where(lambda row: row.now.null)
    reading = part.where(lambda row: row.now.scheduler.reads_attention)
    # Conditions first, then the nulls of those that are guided at this step.
    running = batch.index([*range(len(rows)), *guided])
    found = batch.backbone.full(
        torch.cat([part.tokens, part.tokens[batch.index(guided)]]),
        part.pair.running(None if len(guided) == len(rows) else batch.index(guided)),
        steps_left=part.steps_left[running],
        remember=any(row.now.group_total for row in rows),
        attention_rows=batch.index(reading) if reading else None,
    )
    if found.memory is not None:
        null_at = {i: len(rows) + place for place, i in enumerate(guided)}
        for i, row in enumerate(rows):
            if row.now.group_total:
                places = [i, *([null_at[i]] if i in null_at else [])]
                row.memory = found.memory.select(batch.index(places))
    logits = found.logits.float()
    for place, i in enumerate(guided):
        if rows[i].now.keeps_null:
            rows[i].null_logits = logits[len(rows) + place].clone()  # and not the whole batch's
    return _combined(logits, guided, part), found.attention


def _combined(logits: Tensor, guided: list[int], part: Part) -> Tensor:
    """``u + s (c - u)`` for the guided rows, whose null logits follow those of all rows, and for
    those that carry theirs."""
    count = len(part.rows)
    conditional, null = logits[:count], logits[count:]
    carrying = part.where(lambda row: row.now.carries_null)
    carried = [kept for i in carrying if (kept := part.rows[i].null_logits) is not None]
    assert len(carried) == len(carrying), "a null pass came before"
    if carried:
        guided, null = guided + carrying, torch.cat([null, torch.stack(carried)])
    if not guided:
        return logits
    index, everyone = part.batch.index(guided), guided == list(range(count))
    scale = part.guidance_scale[index].unsqueeze(-1)
    unmixed = conditional if everyone else conditional[index]
    mixed = (unmixed - null).mul_(scale).add_(null)
    if any(row.now.null and row.now.guidance_scale == 1 for row in part.rows):
        # It runs the null condition for its local steps only: it must stay what it is.
        mixed = torch.where(scale == 1, unmixed, mixed)
    return mixed if everyone else conditional.index_put((index,), mixed)


def _are_numbers(logits: Tensor) -> Tensor:
    """Which rows' logits a value can be drawn from at every position, (rows,) bool: no NaN, no
    infinity, and one that is not minus infinity. To look at it later costs no waiting now."""
    return logits.amax(-1).isfinite().flatten(1).all(1)


def _with_logit_options(logits: Tensor, part: Part, places: Tensor | None = None) -> Tensor:
    """Logits as the options of each row change them; they are those of all tokens, or of the ones
    at ``places`` (rows, some)."""
    if not any(row.plan.logit_options for row in part.rows):
        return logits
    changed = []
    for i, row in enumerate(part.rows):
        here, where = logits[i], None if places is None else places[i]
        for option in row.plan.logit_options:
            before = here.log_softmax(-1) if option.looks_back else here
            here = option.change(before, _moment(row), where)
            if option.looks_back:
                row.previous = before
        changed.append(here)
    return torch.stack(changed)


def _moment(row: Row) -> Moment:
    plan = row.plan
    return Moment(
        plan.seed,
        plan.image_index,
        plan.window,
        row.step,
        plan.tokens,
        row.now.logit_noise,
        row.previous,
    )


def _draw(part: Part, logits: Tensor, uniforms: Tensor) -> Tensor:
    """Values (rows, some) of logits (rows, some, codebook), as each row's plan has it."""
    allowed = narrowed(logits, [row.plan.logit_options for row in part.rows])
    frozen = any(row.now.temperature < _FREEZING for row in part.rows)
    return draw_values(allowed, part.temperature, uniforms, frozen)


def _look(part: Part, logits: Tensor, drawn: Tensor, places: Tensor | None = None) -> None:
    """Tell the rows that are watched how probable the values are that were drawn where they are
    masked; they are those of all tokens, or of the ones at ``places`` (rows, some)."""
    for i, row in enumerate(part.rows):
        if row.sure is not None:
            where = torch.arange(len(row.sure)).to(row.sure.device) if places is None else places[i]
            masked = part.tokens[i, where] == part.batch.backbone.mask_id
            sure = probabilities_of(logits[i], drawn[i])
            row.sure = row.sure.scatter(0, where, torch.where(masked, sure, row.sure[where]))


def _contexts(
    part: Part,
    logits: Tensor,
    values: Tensor,
    revealed: Tensor,
    uniforms: Tensor,
    attention: Tensor | None,
) -> list[tuple[list[int], ScoreContext]]:
    """The rows of each scheduler, by their places in the part, and what it sees of them."""
    rows = part.rows
    groups: dict[object, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.now.scheduler, []).append(i)
    reading = part.where(lambda row: row.now.scheduler.reads_attention)
    choice_temperature, total = part.choice_temperature, part.total
    contexts = []
    for places in groups.values():

        def here(whole: Tensor, places: list[int] = places) -> Tensor:
            return whole if len(places) == len(rows) else whole[part.batch.index(places)]

        memories = [rows[i].scheduler_memory for i in places]
        kept = [memory for memory in memories if memory is not None]
        seen = None
        if attention is not None and rows[places[0]].now.scheduler.reads_attention:
            seen = attention[part.batch.index([reading.index(i) for i in places])]
        context = ScoreContext(
            grid=part.batch.grid,
            logits=here(logits),
            values=here(values),
            uniforms=here(uniforms),
            choice_temperature=here(choice_temperature),
            unknown=here(part.unknown),
            revealed=here(revealed),
            total=here(total),
            subjects=tuple(rows[i].plan.subjects for i in places),
            memory=type(kept[0]).join(kept) if kept else None,
            attention=seen,
        )
        contexts.append((places, context))
    return contexts


def _put(part: Part, whole: Tensor, places: list[int], some: Tensor) -> Tensor:
    if len(places) == len(part.rows):
        return some
    return whole.index_put((part.batch.index(places),), some)


def _kept(
    part: Part,
    contexts: list[tuple[list[int], ScoreContext]],
    scores: Tensor,
    order: Tensor,
    revealed: Tensor,
) -> Tensor:
    """Which unknown tokens are revealed after the step, (rows, tokens) bool."""
    # The inverse of the order: the rank of each position.
    places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(-1, order, places)
    kept = ranks < part.total
    for numbers, context in contexts:
        for place, i in enumerate(numbers):
            row = part.rows[i]
            if row.plan.count_rule is not None:
                # Ahead of the plan already, it still reveals one at least.
                kept[i] = ranks[i] < (revealed[i].sum() + 1).clamp_min(row.now.total)
                kept[i] |= row.plan.count_rule.ready(
                    context.log_probabilities[place],
                    row.previous,
                    scores[i],
                    part.unknown[i] & ~revealed[i],
                )
    return kept & part.unknown


def _remember(
    part: Part, contexts: list[tuple[list[int], ScoreContext]], kept: Tensor, order: Tensor
) -> None:
    """Keep what the next steps of each row look back at."""
    for numbers, context in contexts:
        scheduler = part.rows[numbers[0]].now.scheduler
        memory = scheduler.remember(context, kept[part.batch.index(numbers)])
        for place, i in enumerate(numbers):
            row = part.rows[i]
            if memory is not None and memory is not context.memory:
                row.scheduler_memory = memory.select(part.batch.index([place]))
            if row.plan.count_rule is not None:
                row.previous = context.log_probabilities[place]
            if row.now.group_total:
                row.revealed_before = row.plan.steps[row.step - 1].total if row.step else 0
                row.targets = _targets(
                    order[i], kept[i] & ~context.revealed[place], row.revealed_before, row.now
                )


def _targets(order: Tensor, new: Tensor, before: int, now: PlannedStep) -> Tensor:
    """The places of a group of steps: those of the full one, and then the next of the ``order``
    (tokens,), which the local ones reveal.

    ``new`` (tokens,) bool are revealed by the full step. Where it took others back it revealed
    more than the plan counts; of these the first are recomputed.
    """
    first = new[order].int().sort(descending=True, stable=True).indices[: now.total - before]
    return torch.cat([order[first], order[now.total : before + now.group_total]])


def _positions(targets: list[Tensor]) -> Positions:
    """All of them as rows of one tensor, at least as many as a CPU multiplies in its usual way;
    short ones repeat their first, which changes nothing."""
    counts = tuple(len(target) for target in targets)
    longest = max(FEWEST_ROWS, *counts)
    filled = [torch.cat([target, target[:1].expand(longest - len(target))]) for target in targets]
    return Positions(torch.stack(filled), counts)
