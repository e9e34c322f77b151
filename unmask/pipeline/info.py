"""What a model is and what it takes, as its parts tell."""

from unmask.card import ModelCard
from unmask.editing.clip_edits import MAX_FRAMES
from unmask.models.base import ImageBackbone
from unmask.models.conditions import ConditionEncoder
from unmask.pipeline.clips import RATE
from unmask.pipeline.request import MAX_IMAGES, MAX_PROMPT_CHARACTERS, ModelInfo
from unmask.pipeline.scales import Size
from unmask.sampling.counts import COUNT_RULES
from unmask.sampling.guidance import GUIDANCES
from unmask.sampling.options import plan_options
from unmask.sampling.planned import MAX_STEPS
from unmask.sampling.reuse import REUSE_POLICIES
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.schedules import MASK_SCHEDULES
from unmask.tokenizers.base import Tokenizer
from unmask.tokenizers.clip import ClipTokenizer


def model_info(
    card: ModelCard,
    tokenizer: Tokenizer,
    backbone: ImageBackbone,
    condition: ConditionEncoder,
    judge: bool,
    sizes: tuple[Size, ...],
) -> ModelInfo:
    """What a model of these parts is, and what it takes; whether it has a judge, and
    the sizes that it draws at once, the largest first."""
    clips = tokenizer if isinstance(tokenizer, ClipTokenizer) else None
    schedulers = tuple(
        name
        for name in SCHEDULERS
        if backbone.gives_attention or not plan_options(scheduler=name).scheduler.reads_attention
    )
    return ModelInfo(
        name=card.name,
        description=card.description,
        sizes=sizes,
        grid=backbone.grid,
        parameters=sum(p.numel() for p in [*backbone.parameters(), *tokenizer.parameters()]),
        codebook_size=tokenizer.codebook_size,
        condition=backbone.condition_kind,
        schedulers=schedulers,
        mask_schedules=tuple(MASK_SCHEDULES),
        guidances=tuple(GUIDANCES),
        count_rules=tuple(COUNT_RULES),
        reuse_policies=tuple(
            name
            for name, policy in REUSE_POLICIES.items()
            if backbone.has_memory or not policy.reads_memory
        ),
        max_steps=MAX_STEPS,
        max_n=MAX_IMAGES,
        max_prompt_characters=MAX_PROMPT_CHARACTERS,
        max_text_tokens=condition.max_text_tokens,
        frames=clips.frames(backbone.grid[0]) if clips else None,
        max_frames=MAX_FRAMES if clips else None,
        rate=RATE if clips else None,
        slot=clips.slot if clips else None,
        max_long_prompt_text_tokens=condition.max_chunks * condition.max_text_tokens
        if condition.max_chunks > 1 and condition.max_text_tokens is not None
        else None,
        words=condition.words,
        judge=judge,
    )
