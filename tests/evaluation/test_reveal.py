from pathlib import Path

import pytest
import torch
from PIL import Image, ImageSequence

from unmask.evaluation.reveal import GREY, reveal_frames, save_reveal, token_states
from unmask.pipeline import Pipeline
from unmask.scenes.sheets import to_image

PROMPT = "a red circle"


@pytest.mark.parametrize("scheduler", ["halton", "confidence", "remdm-conf"])
def test_the_last_state_is_what_the_pipeline_draws(pipeline: Pipeline, scheduler: str) -> None:
    request = pipeline.request(PROMPT, seed=3, scheduler=scheduler, steps=5, guidance_scale=2.0)
    frames = reveal_frames(pipeline, request)
    assert len(frames) == 6
    assert to_image(frames[-1]).tobytes() == pipeline.run(request).images[0].tobytes()


def test_a_cell_is_grey_until_it_is_revealed(pipeline: Pipeline) -> None:
    request = pipeline.request(PROMPT, seed=3, scheduler="halton", steps=4)
    states, frames = token_states(pipeline, request), reveal_frames(pipeline, request)
    masked = (states == pipeline.backbone.mask_id).view(-1, 4, 4)
    cells = frames.reshape(-1, 3, 4, 4, 4, 4).permute(0, 2, 4, 1, 3, 5)
    grey = (cells == GREY).flatten(3).all(-1)
    assert grey.equal(masked)
    counts = masked.flatten(1).sum(1)
    assert counts[0] == 16
    assert counts[-1] == 0
    assert (counts.diff() < 0).all()


def test_the_animation_shows_the_pictures_side_by_side(pipeline: Pipeline, tmp_path: Path) -> None:
    requests = [pipeline.request(PROMPT, seed=1, scheduler="halton", steps=n) for n in (2, 5)]
    save_reveal(pipeline, requests, tmp_path / "out" / "reveal.gif")
    with Image.open(tmp_path / "out" / "reveal.gif") as film:
        assert sum(1 for _ in ImageSequence.Iterator(film)) == 6
        film.seek(0)
        assert film.size == (4 * (16 + 2 + 16), 4 * 16)
        assert torch.tensor(film.convert("RGB").getpixel((8, 8))).float().std() < 2  # grey
