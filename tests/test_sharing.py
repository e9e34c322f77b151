"""Requests whose windows share the prompt."""

import pytest
from PIL import Image

from tests.worlds.native import PROMPT, native_pipeline
from unmask.editing import blank, inpaint, outpaint, revise, variation
from unmask.errors import PromptTooLongError, RequestError
from unmask.models.conditions import TextCondition
from unmask.pipeline import Pipeline

MANY = "a red circle, a circle and two blue squares"


@pytest.fixture(name="pipeline", scope="module")
def _pipeline() -> Pipeline:
    return native_pipeline(condition_length=40)


def _prompts(pipeline: Pipeline, prompt: str, size: tuple[int, int]) -> list[str]:
    """What each window draws, in their order."""
    request = pipeline.request(prompt, seed=1, edit=blank(*size), share_prompt=True)
    prepared = pipeline.prepare(request)
    assert prepared.shared is not None
    assert prepared.edit is not None
    return [prepared.shared.of(names) for names in prepared.edit.plan.names]


def test_each_name_is_drawn_in_a_window_and_the_ground_in_all_others(pipeline: Pipeline) -> None:
    prompts = _prompts(pipeline, f"{MANY} on blue", (16, 8))
    drawn = [prompt for prompt in prompts if prompt]
    assert drawn == ["a red circle on blue", "a circle and two blue squares on blue"]
    prompts = _prompts(pipeline, f"{MANY} on blue", (32, 16))
    assert len(prompts) > 3
    drawn = [prompt for prompt in prompts if prompt]
    assert drawn == ["a red circle on blue", "a circle on blue", "two blue squares on blue"]
    assert [prompt for prompt in _prompts(pipeline, PROMPT, (32, 16)) if prompt] == [PROMPT]


def test_a_shared_picture_is_the_same_alone_and_in_a_batch(pipeline: Pipeline) -> None:
    requests = [
        pipeline.request(MANY, seed=4, edit=blank(20, 12), share_prompt=True, guidance_scale=2.0),
        pipeline.request(PROMPT, seed=5, edit=blank(20, 12), share_prompt=True),
        pipeline.request(MANY, seed=4, edit=blank(20, 12), share_prompt=False, guidance_scale=2.0),
        pipeline.request(PROMPT, seed=6),
    ]
    together = [image.tobytes() for image in pipeline.draw_batch(requests)]
    assert together == [pipeline.run(request).images[0].tobytes() for request in requests]
    assert together[0] != together[2], "each window draws the whole prompt there"


def test_a_picture_that_fits_into_a_window_is_as_it_was(pipeline: Pipeline) -> None:
    mask = Image.new("L", (20, 12))
    mask.paste(255, (3, 3, 8, 8))
    picture = Image.new("RGB", (20, 12), "red")
    for edit in (blank(8, 8), outpaint(picture.crop((0, 0, 5, 5)), 3), inpaint(picture, mask)):
        one, other = (
            pipeline.generate(MANY, seed=3, edit=edit, share_prompt=share).images[0].tobytes()
            for share in (True, False)
        )
        assert one == other


def test_a_negative_prompt_leads_away_in_all_windows(pipeline: Pipeline) -> None:
    one, other = (
        pipeline.generate(
            PROMPT, seed=3, edit=blank(24, 8), negative_prompt=negative, guidance_scale=3.0
        ).images[0]
        for negative in (None, "two blue squares")
    )
    assert one.tobytes() != other.tobytes()


def test_a_model_that_tells_its_words_shares_and_others_do_not(pipeline: Pipeline) -> None:
    assert pipeline.request(MANY, edit=blank(24, 8)).shares
    assert not pipeline.request(MANY, edit=blank(24, 8), share_prompt=False).shares
    assert not pipeline.request(MANY).shares
    picture = Image.new("RGB", (24, 8))
    assert not pipeline.request(MANY, edit=variation(picture, 0.5)).shares
    for edit in (None, revise(picture)):
        with pytest.raises(RequestError, match="do not see") as caught:
            pipeline.request(MANY, edit=edit, share_prompt=True)
        assert caught.value.param == "share_prompt"
    condition = pipeline.condition
    assert isinstance(condition, TextCondition)
    silent = TextCondition(condition.tokenizer, condition.length)
    other = Pipeline(pipeline.card, pipeline.tokenizer, pipeline.backbone, silent)
    assert not other.request(MANY, edit=blank(24, 8)).shares
    assert other.request(MANY, edit=blank(24, 8), share_prompt=True).shares


def test_a_prompt_may_be_too_long_for_one_window_if_its_parts_are_not() -> None:
    condition = native_pipeline(condition_length=40).condition
    length = max(condition.count("a circle and two blue squares"), condition.count(PROMPT))
    assert length < condition.count(MANY)
    pipeline = native_pipeline(condition_length=length)
    request = pipeline.request(MANY, seed=1, edit=blank(24, 8), share_prompt=True)
    assert pipeline.run(request).images[0].size == (24, 8)
    with pytest.raises(PromptTooLongError):
        pipeline.request(MANY)
    with pytest.raises(PromptTooLongError):
        pipeline.request(MANY, edit=blank(24, 8), share_prompt=False)
    with pytest.raises(PromptTooLongError, match="too little room"):
        pipeline.generate(MANY, edit=blank(12, 8), share_prompt=True)
    with pytest.raises(PromptTooLongError):
        pipeline.request(
            f"a cat and {' '.join(['cat'] * 60)}", edit=blank(24, 8), share_prompt=True
        )


def test_what_stands_there_already_is_not_drawn_again() -> None:
    pipeline = Pipeline.load("storybook")
    picture = pipeline.generate("two red apples on a blue background", seed=7).images[0]
    edit = outpaint(picture, left=128, right=128)

    def drawn(prompt: str) -> set[str]:
        prepared = pipeline.prepare(pipeline.request(prompt, edit=edit))
        assert prepared.edit is not None
        assert prepared.shared is not None
        assert prepared.edit.plan.apart[~prepared.edit.plan.masked].any()
        return {prepared.shared.of(names) for names in prepared.edit.plan.names} - {""}

    assert drawn("two red apples on a blue background") == set()
    prompt = "two red apples and a green tree on a blue background"
    assert drawn(prompt) == {"a green tree on a blue background"}
    assert drawn("three red apples") == {"three red apples"}
    assert drawn("something odd") == {"something odd"}


def test_windows_of_the_ground_carry_no_null_passes(pipeline: Pipeline) -> None:
    request = pipeline.request(
        PROMPT, seed=1, edit=blank(24, 8), guidance_scale=2.0, reuse_policy="carried-null"
    )
    assert pipeline.run(request).images[0].size == (24, 8)
    assert request.options.unguided.reuse_policy.name == "none"
    kept = pipeline.request(PROMPT, seed=1, scheduler="halton", reuse=1, guidance_scale=2.0)
    assert kept.options.unguided.reuse_policy == kept.options.reuse_policy
