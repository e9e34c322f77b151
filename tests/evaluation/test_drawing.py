import numpy as np
import torch

from unmask.evaluation.drawing import draw_prompts
from unmask.evaluation.prompts import make_prompts
from unmask.pipeline import Pipeline


def test_the_options_of_a_setting_reach_the_plan(pipeline: Pipeline) -> None:
    prompts = make_prompts(("circle", "square"), 0, 0, 1)
    costs = [
        draw_prompts(
            pipeline, prompts, overrides, seed=0, images=1, batch=4, precision="fp32"
        ).passes
        for overrides in ({"steps": 3}, {"steps": 3, "guidance_scale": 2.0})
    ]
    assert costs == [3, 6]


def test_pictures_are_those_of_their_prompts(pipeline: Pipeline) -> None:
    prompts = make_prompts(("circle", "square"), 0, 0, 1)
    drawn = draw_prompts(
        pipeline, prompts, {"steps": 2}, seed=5, images=2, batch=3, precision="fp32"
    )
    request = pipeline.request(prompts[4].text, seed=prompts[4].image_seed(5, 1), steps=2)
    alone = torch.from_numpy(np.array(pipeline.run(request).images[0])).permute(2, 0, 1)
    assert (drawn.pictures[4, 1] * 255).round().equal(alone.float())
