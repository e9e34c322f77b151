"""What a tokenizer loses: ``python -m benchmarks.reconstruction --data SPRITES``.

PSNR and codebook use over 2,048 held-out scenes, for objects on rasters of 8, 4 and 1 pixels.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from unmask.config import load
from unmask.pipeline import Pipeline
from unmask.store import default_model
from unmask.training.tokenizer import TokenizerTask, TokenizerTraining


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=default_model())
    parser.add_argument("--config", type=Path, default=Path("configs/small/tokenizer.toml"))
    parser.add_argument("--data", required=True, help="the sprite archive or bank of the training")
    options = parser.parse_args()
    config, tokenizer = (
        load(TokenizerTraining, options.config),
        Pipeline.load(options.model).tokenizer,
    )
    for snap in (8, 4, 1):
        scenes = replace(config.data.scenes, snap=snap)
        data = replace(config.data, path=options.data, scenes=scenes)
        figures = TokenizerTask(replace(config, data=data), "cpu").measure(tokenizer)
        print(f"snap {snap}: {figures['psnr']:.2f} dB, {figures['codebook_use']:.1%} of the codes")


if __name__ == "__main__":
    main()
