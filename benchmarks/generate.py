"""Time and memory of drawing one picture: ``python -m benchmarks.generate [MODEL] [--steps
12]``.
"""

import argparse
import platform
import resource
import statistics
import time

import torch

from unmask.pipeline import Pipeline
from unmask.store import default_model

PROMPT = "a red apple to the left of a blue book on a yellow background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=default_model())
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    began = time.perf_counter()
    pipeline = Pipeline.load(options.model)
    print(
        f"machine: {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    )
    print(f"model: {pipeline.info.name}, {pipeline.info.parameters / 1e6:.1f} M parameters")
    print(f"load: {time.perf_counter() - began:.2f} s")
    for count in (1, 4):
        seconds = []
        for repeat in range(options.repeats):
            generated = pipeline.generate(
                PROMPT, seed=repeat, n=count, steps=options.steps, guidance_scale=options.guidance
            )
            seconds.append(generated.seconds)
        median, most = statistics.median(seconds), max(seconds)
        print(
            f"n={count}, {options.steps} steps, guided: median {median:.3f} s, longest {most:.3f} s"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak resident memory: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
