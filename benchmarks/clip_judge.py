"""What the judge of clips makes of true clips, and of clips that are wrong on purpose.

True clips and those after the tokenizer of a model tell its ceilings; frozen, shuffled, mirrored
and reversed ones and those of another prompt what it lets pass. A clip that looks alike when it is
mirrored or reversed is right then too: the tables tell them apart by motion.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from unmask.evaluation.clips.prompts import CATEGORIES, ClipPrompt, make_clip_prompts, true_scenes
from unmask.evaluation.clips.verdict import judge_clip
from unmask.evaluation.statistics import score_interval
from unmask.pipeline import Pipeline
from unmask.scenes.data import DataConfig, open_bank
from unmask.scenes.judge import load_judge
from unmask.scenes.moving.renderer import MovingRenderer
from unmask.scenes.moving.truth import MovingConfig
from unmask.scenes.truth import SceneConfig
from unmask.tokenizers.clip import ClipTokenizer

AT_ONCE = 16
VARIANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "true": lambda clips: clips,
    "frozen": lambda clips: clips[:, :1].expand_as(clips),
    "shuffled": lambda clips: _shuffled(clips),
    "mirrored": lambda clips: clips.flip(-1),
    "reversed": lambda clips: clips.flip(1),
    "of the prompt before": lambda clips: clips.roll(1, 0),
}


def main() -> None:
    """Print shares of right clips, by category and by motion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--data", required=True, help="sprites of the training")
    parser.add_argument("--model", help="a model of clips, for its tokenizer")
    parser.add_argument("--prompts", type=int, default=34, help="a category; half as many held out")
    arguments = parser.parse_args()
    judge = load_judge(arguments.judge)
    nouns = judge.config.nouns
    scenes = SceneConfig(64, snap=8)
    data = DataConfig("scenes", scenes, arguments.data, nouns, ("fluent-flat",))
    renderer = MovingRenderer(open_bank(data), MovingConfig(scenes))
    count = arguments.prompts
    prompts = make_clip_prompts(
        nouns, scenes.held_out_percent, renderer.config.slots, 0, count, count // 2
    )
    clips = renderer.render(true_scenes(prompts, renderer.bank, 0))
    shown = {name: change(clips) for name, change in VARIANTS.items()}
    if arguments.model is not None:
        tokenizer = Pipeline.load(arguments.model).tokenizer
        assert isinstance(tokenizer, ClipTokenizer), "the model is one of clips"
        with torch.inference_mode():
            tripped = [
                tokenizer.decode_clips(tokenizer.encode_clips(part))
                for part in torch.split(clips, AT_ONCE)
            ]
        shown["after the tokenizer"] = torch.cat(tripped)
    right: dict[str, list[bool]] = {}
    for name, frames in shown.items():
        sights = judge.look(frames.flatten(0, 1))
        many = frames.shape[1]
        right[name] = [
            judge_clip(prompt, sights[row * many : (row + 1) * many], frames[row]).right
            for row, prompt in enumerate(prompts)
        ]
    held_out = {False: "seen", True: "unseen"}
    _print(right, [f"{held_out[prompt.held_out]} {prompt.category}" for prompt in prompts])
    _print(right, [_motion(prompt) for prompt in prompts])
    print(f"{len(prompts)} clips; scores are means over {len(CATEGORIES)} categories:")
    for name, values in right.items():
        told = []
        for unseen, word in held_out.items():
            rows = [row for row, prompt in enumerate(prompts) if prompt.held_out is unseen]
            if rows:
                categories = [prompts[row].category for row in rows]
                score = score_interval([float(values[row]) for row in rows], categories)
                told.append(f"{word} {score.text}")
        print(f"{name}: {', '.join(told)}")


def _shuffled(clips: Tensor) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.stack([clip[torch.randperm(len(clip), generator=random)] for clip in clips])


def _motion(prompt: ClipPrompt) -> str:
    return next((actor.motion for actor in prompt.actors if actor.motion != "still"), "still")


def _print(right: dict[str, list[bool]], groups: list[str]) -> None:
    """A table in Markdown: a row a group."""
    print(f"| | clips | {' | '.join(right)} |\n|{'---|' * (len(right) + 2)}")
    for group in dict.fromkeys(groups):
        rows = [row for row, name in enumerate(groups) if name == group]
        shares = [sum(values[row] for row in rows) / len(rows) for values in right.values()]
        cells = " | ".join(f"{share:.2f}" for share in shares)
        print(f"| {group} | {len(rows)} | {cells} |")
    print()


if __name__ == "__main__":
    main()
