"""Which temperatures, guidance and mask schedule suit each scheduler at each number of steps:
``python -m benchmarks.presets --out RUN [--write MODEL_FOLDER]``.

Successive halving by the judge's score; a search that was stopped goes on in the same folder.
"""

import argparse
from pathlib import Path

from unmask.evaluation.run import run_search
from unmask.evaluation.search import SEARCHED
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
    given = parser.parse_args()
    best = run_search(given.model, given.config, given.out, judge=given.judge, write=given.write)
    for trial in best:
        options = trial.options
        searched = ", ".join(f"{name} {options[name]}" for name in SEARCHED if name in options)
        name = f"{options['scheduler']}-{options['steps']}"
        print(f"{name}: {trial.score:.3f} of {len(trial.shares)} prompts, {searched}")


if __name__ == "__main__":
    main()
