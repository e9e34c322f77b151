"""Which temperatures, guidance and mask schedule suit each scheduler at each number of steps:
``python -m benchmarks.presets --out RUN [--write MODEL_FOLDER]``.

Successive halving by the judge's score; a search that was stopped goes on in the same folder.
"""

import argparse
from pathlib import Path

from unmask.evaluation.run import run_search
from unmask.store import default_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=default_model())
    parser.add_argument("--config", type=Path, default=Path("configs/eval/search.toml"))
    parser.add_argument("--out", type=Path, required=True, help="keeps what was tried")
    parser.add_argument(
        "--judge", type=Path, help="a judge's folder; that of the model if left out"
    )
    parser.add_argument("--write", type=Path, help="a model folder whose model.json takes the best")
    options = parser.parse_args()
    best = run_search(
        options.model, options.config, options.out, judge=options.judge, write=options.write
    )
    for trial in best:
        own = trial.options
        print(
            f"{own.scheduler}-{own.steps}: {trial.score:.3f} of {len(trial.shares)} prompts, "
            f"temperature {own.temperature}, choice temperature {own.choice_temperature}, "
            f"guidance scale {own.guidance_scale}, {own.mask_schedule}"
        )


if __name__ == "__main__":
    main()
