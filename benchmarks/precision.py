"""What a precision costs and saves: ``python -m benchmarks.precision [MODEL] [--frames 17]``.

Every precision draws the same prompts and seeds in turns, so that a noisy machine is fair to all.
KL is that of the values at masked cells from those of fp32, in nats, at every state that fp32 goes
through; ``changed`` the share of tokens that a drawing ends with in place of fp32's. Seconds are
medians, with decoding. Bytes are those of the backbone's weights as they lie in memory.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unmask.devices import Precision
from unmask.pipeline import DrawRequest, Pipeline
from unmask.sampling.backbone import Pass, RowTensors
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.store import default_model

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
PICTURES = (
    "a red apple to the left of a blue book on a yellow background",
    "two pink tulips on a grey background",
    "a green car above a white star on a blue background",
    "three yellow bananas on a black background",
)
CLIPS = (
    "a red apple moves to the right on a white background",
    "a blue car grows on a yellow background",
    "a green star fades on a grey background",
)


class Watched:
    """A backbone that keeps what its full passes were asked."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.backbone, self.mask_id = pipeline.backbone, pipeline.backbone.mask_id
        self.asked: list[tuple[Tensor, dict[str, Any]]] = []
        self.local = self.backbone.local

    def full(self, tokens: Tensor, prefix: RowTensors, /, **how: Any) -> Pass:
        self.asked.append((tokens.clone(), how))
        return self.backbone.full(tokens, prefix, **how)


def tokens_of(pipeline: Pipeline, request: DrawRequest, backbone: Any = None) -> Tensor:
    """The tokens that a request ends with, (1, tokens)."""
    plan = pipeline.plan(request)
    count = torch.Size(plan.grid).numel()
    blank = all_masked(1, count, pipeline.backbone.mask_id, pipeline.device)
    pair = pipeline.encode([request])
    return generate_tokens(backbone or pipeline.backbone, pair, [plan], blank)


def distance(exact: Pipeline, other: Pipeline, requests: Sequence[DrawRequest]) -> list[float]:
    """KL in nats a masked cell, and the share of tokens that end otherwise."""
    lost, changed = [], []
    for request in requests:
        watched = Watched(exact)
        tokens = tokens_of(exact, request, watched)
        pairs = [pipeline.encode([request]).both for pipeline in (exact, other)]
        for state, how in watched.asked:
            rows = torch.arange(len(state))  # with the null condition, if the step is guided
            ours, theirs = (
                pipeline.backbone.full(state, prefix.select(rows), **how).logits.log_softmax(-1)
                for pipeline, prefix in zip((exact, other), pairs, strict=True)
            )
            masked = state == exact.backbone.mask_id
            lost.append((ours.exp() * (ours - theirs.float())).sum(-1)[masked])
        changed.append((tokens_of(other, request) != tokens).float().mean())
    return [float(torch.cat(lost).mean()), float(torch.stack(changed).mean())]


def weights_bytes(pipeline: Pipeline) -> int:
    """Of the backbone's parameters; eight bits have a number more a row."""
    return sum(p.numel() * p.element_size() for p in pipeline.backbone.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=default_model())
    parser.add_argument("--frames", type=int, help="of a clip; a picture without")
    parser.add_argument("--drawings", type=int, default=12)
    parser.add_argument("--timed", type=int, default=20, help="drawings of each precision")
    options = parser.parse_args()
    prompts = CLIPS if options.frames else PICTURES
    pipelines = {
        precision: Pipeline.load(options.model, precision=precision) for precision in PRECISIONS
    }
    exact = pipelines["fp32"]
    requests = [
        exact.request(prompts[seed % len(prompts)], seed=seed, frames=options.frames)
        for seed in range(max(options.drawings, options.timed + 1))
    ]
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for request in requests[: options.timed + 1]:
        for precision, pipeline in pipelines.items():
            began = time.perf_counter()
            pipeline.run(request)
            seconds[precision].append(time.perf_counter() - began)
    print(f"{exact.info.name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("precision   seconds  part   shortest   KL       changed  MiB")
    medians = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    for precision, pipeline in pipelines.items():
        with torch.inference_mode():
            lost, changed = distance(exact, pipeline, requests[: options.drawings])
        taken = medians[precision]
        print(
            f"{precision:10}  {taken:7.3f}  {taken / medians['fp32']:.2f}  "
            f"{min(seconds[precision][1:]):9.3f}   {lost:.1e}  {changed:6.3f}  "
            f"{weights_bytes(pipeline) / 2**20:6.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
