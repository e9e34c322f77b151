"""What sampling options cost: ``python -m benchmarks.sampling [MODEL] [--batches 1 4 16]``.

Every setting draws the tokens of the same prompts, in turns, so that a noisy machine is fair to
all; the median of the rounds is told, and its ratio to the first setting's. Decoding is left out.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from unmask.pipeline import DrawRequest, Pipeline
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.store import default_model

PROMPT = "a red apple to the left of a blue book on a yellow background"
PLAIN: dict[str, Any] = {
    "scheduler": "halton",
    "steps": 16,
    "guidance_scale": 2.0,
    "guidance": "constant",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no guidance": {"guidance_scale": 1.0},
    "interval 0.25-0.75": {"guidance": "interval", "guidance_interval": (0.25, 0.75)},
    "reuse 1 after 0.5": {"reuse": 1, "reuse_after": 0.5},
    "reuse 1 after 0": {"reuse": 1, "reuse_after": 0.0},
    "reuse 3 after 0.25": {"reuse": 3, "reuse_after": 0.25},
    "reuse 1 + interval": {
        "reuse": 1,
        "reuse_after": 0.25,
        "guidance": "interval",
        "guidance_interval": (0.25, 0.75),
    },
    "8 steps": {"steps": 8},
    "confidence": {"scheduler": "confidence"},
    "uncage": {"scheduler": "uncage"},
    "uncage in all steps": {"scheduler": "uncage", "uncage_share": 1.0},
    "p2": {"scheduler": "p2"},
    "p2, reuse 1 after 0.5": {"scheduler": "p2", "reuse": 1, "reuse_after": 0.5},
    "p2, reuse 1 after 0": {"scheduler": "p2", "reuse": 1, "reuse_after": 0.0},
    "p2, carried null 2": {"scheduler": "p2", "reuse_policy": "carried-null"},
    "p2, carried null 3": {"scheduler": "p2", "reuse_policy": "carried-null", "null_every": 3},
    "p2, 12, no guidance": {"scheduler": "p2", "steps": 12, "guidance_scale": 1.0},
    "remdm-conf": {"scheduler": "remdm-conf"},
    "noise regularisation": {"noise_regularisation": 1.0},
    "differential": {"differential": 0.75},
    "entropy 5": {"count_rule": "entropy", "entropy_bound": 5.0},
    "zigzag": {"zigzag": True},
}


def seconds(pipeline: Pipeline, requests: list[DrawRequest]) -> float:
    """How long drawing the tokens of one batch takes."""
    rows, columns = pipeline.info.grid
    with torch.inference_mode():
        prefix = pipeline.encode(requests)
        blank = all_masked(
            len(requests), rows * columns, pipeline.backbone.mask_id, pipeline.device
        )
        plans = [pipeline.plan(request) for request in requests]
        began = time.perf_counter()
        generate_tokens(pipeline.backbone, prefix, plans, blank)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=default_model())
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    options = parser.parse_args()
    pipeline = Pipeline.load(options.model)
    print(f"{pipeline.info.name}, {torch.get_num_threads()} threads, {options.rounds} rounds")
    for batch in options.batches:
        batches = {
            name: [
                pipeline.request(PROMPT, seed=seed, **(PLAIN | setting)) for seed in range(batch)
            ]
            for name, setting in SETTINGS.items()
            if name in {"plain", *options.settings}
        }
        rounds = [
            {name: seconds(pipeline, requests) for name, requests in batches.items()}
            for _ in range(options.rounds + 1)
        ][1:]  # the first warms up
        plain = statistics.median(timed["plain"] for timed in rounds)
        print(f"\nbatch {batch}: seconds an image, part of plain, passes")
        for name, requests in batches.items():
            median = statistics.median(timed[name] for timed in rounds)
            passes = pipeline.plan(requests[0]).passes
            print(f"{name:22} {median / batch:.4f}  {median / plain:.2f}  {passes:.1f}")


if __name__ == "__main__":
    main()
