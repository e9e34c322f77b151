"""What a trace costs: ``python -m benchmarks.trace [MODEL] [--rounds 21]``.

Rows are stepped with and without being watched, in turns; the events are made too, as a server
would. Told is the median of the rounds for one step, and the ratio.
"""

import argparse
import json
import statistics
import time

import torch

from unmask.pipeline import Pipeline
from unmask.sampling.row import Batch, Row
from unmask.sampling.step import step
from unmask.sampling.trace import trace
from unmask.server.engine.tickets import Watched
from unmask.server.http.watching import traced
from unmask.store import default_model

PROMPT = "a red apple to the left of a blue book on a yellow background"


def seconds_of_a_step(pipeline: Pipeline, scheduler: str, rows: int, watched: bool) -> float:
    """How long a step of so many rows takes, their events included."""
    request = pipeline.request(PROMPT, scheduler=scheduler, seed=1)
    blank = torch.full((pipeline.cells,), pipeline.backbone.mask_id, device=pipeline.device)
    unknown, mask_id = torch.ones_like(blank).bool(), pipeline.backbone.mask_id
    with torch.inference_mode():
        begun = [Row.begin(pipeline.plan(request, i), blank, unknown, watched) for i in range(rows)]
        batch = Batch(pipeline.backbone, begun, pipeline.encode([request] * rows))
        began, steps = time.perf_counter(), 0
        while not begun[0].done:
            before = [row.tokens for row in begun]
            step(batch)
            steps += 1
            for row, tokens in zip(begun, before, strict=True):
                if row.sure is not None:
                    seen = trace(tokens, row.tokens, unknown, row.sure, mask_id)
                    event = Watched(
                        0, row.step, steps, 1.0, 0, 1, (0, 0), row.plan.grid, trace=seen
                    )
                    json.dumps(traced("image_generation", event).model_dump())
        return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default=default_model())
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    pipeline = Pipeline.load(options.model)
    print(f"{pipeline.info.name}, {torch.get_num_threads()} threads, {options.rounds} rounds")
    for scheduler in ("halton", "confidence"):
        for rows in options.rows:
            times: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(options.rounds):
                for watched in times:
                    times[watched].append(seconds_of_a_step(pipeline, scheduler, rows, watched))
            plain, with_trace = (statistics.median(times[watched]) for watched in times)
            print(
                f"{scheduler:10} {rows} rows: {plain * 1e3:7.2f} ms a step, with a trace "
                f"{with_trace * 1e3:7.2f} ms, ratio {with_trace / plain:.3f}"
            )


if __name__ == "__main__":
    main()
