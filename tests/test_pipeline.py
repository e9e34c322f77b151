import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.worlds.native import PROMPT, write_native
from unmask.box import available_models
from unmask.card import ModelCard
from unmask.editing import inpaint, outpaint, revise, variation
from unmask.errors import ConfigError, NotFoundError, RequestError, UnknownWordsError
from unmask.models.base import Condition
from unmask.models.native import NativeTransformer, Prefix
from unmask.pipeline import Generated, Pipeline, read_card
from unmask.pipeline.warnings import UnknownWord
from unmask.sampling.schedulers import SCHEDULERS


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_native(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(name="pipeline", scope="module")
def _pipeline(folder: Path) -> Pipeline:
    return Pipeline.load(folder)


def _bytes(generated: Generated) -> list[bytes]:
    return [image.tobytes() for image in generated.images]


def test_same_seed_same_bytes(pipeline: Pipeline) -> None:
    first, second = (pipeline.generate(PROMPT, seed=7, n=2, guidance_scale=3.0) for _ in range(2))
    assert _bytes(first) == _bytes(second)
    assert _bytes(first) != _bytes(pipeline.generate(PROMPT, seed=8, n=2, guidance_scale=3.0))


def test_the_first_images_of_a_request_do_not_depend_on_how_many_it_asks_for(
    pipeline: Pipeline,
) -> None:
    many = _bytes(pipeline.generate(PROMPT, seed=3, n=4))
    assert many[:2] == _bytes(pipeline.generate(PROMPT, seed=3, n=2))
    assert len(set(many)) == 4


def test_an_image_of_a_seed_can_be_drawn_alone(pipeline: Pipeline) -> None:
    many = _bytes(pipeline.generate(PROMPT, seed=3, n=4))
    alone = pipeline.generate(PROMPT, seed=3, image_index=2)
    assert _bytes(alone) == many[2:3]
    assert _bytes(pipeline.generate(PROMPT, seed=3, n=2, image_index=1)) == many[1:3]
    assert pipeline.draw_batch([alone.request])[0].tobytes() == many[2]
    edit = variation(_picture(8, 8), 0.5)
    edits = _bytes(pipeline.generate("", seed=3, n=3, edit=edit))
    assert _bytes(pipeline.generate("", seed=3, image_index=2, edit=edit)) == edits[2:]


def test_what_one_copy_has_prepared_another_draws(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy that prepared it may live on another device."""
    one, other = Pipeline.load(folder), Pipeline.load(folder)
    prepared = one.prepare(one.request(PROMPT, edit=outpaint(_picture(8, 8), right=12), seed=1))
    for part in ("encode", "decode"):
        monkeypatch.setattr(one.tokenizer, part, None)
    drawing = other.drawing(prepared, 0)
    waiting = drawing.start()
    while waiting:
        start = waiting.pop()
        waiting += drawing.finish(start, start.tokens.clamp_max(11))
    assert isinstance(drawing.image, Image.Image)


def test_a_list_of_prompts_draws_each_as_if_alone(pipeline: Pipeline) -> None:
    prompts = [PROMPT, "two blue squares", "red", PROMPT]
    heard: list[tuple[int, int]] = []
    drawn = pipeline.generate(
        prompts, seed=3, n=4, steps=2, on_step=lambda done, total: heard.append((done, total))
    )
    assert [generated.request.prompt for generated in drawn] == prompts
    for generated in drawn:
        alone = pipeline.generate(generated.request.prompt, seed=3, n=4, steps=2)
        assert _bytes(generated) == _bytes(alone)
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]  # two times as many images as go together


@pytest.mark.parametrize("prompts", [[], [PROMPT, ""], [PROMPT, 7], [[PROMPT]], 7, b"red"])
def test_a_prompt_that_is_none_is_refused_before_any_is_drawn(
    pipeline: Pipeline, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run_all", None)
    with pytest.raises(RequestError) as caught:
        pipeline.generate(prompts)
    assert caught.value.param == "prompt"


def test_a_wrong_type_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match="seed: expected int, got '7'"):
        pipeline.request(PROMPT, seed="7")  # type: ignore[arg-type]


def test_seed_minus_one_is_random(pipeline: Pipeline) -> None:
    seeds = {pipeline.request(PROMPT, seed=-1).seed for _ in range(3)}
    assert len(seeds) == 3
    assert min(seeds) >= 0


def test_images_have_the_size_that_the_model_tells(pipeline: Pipeline) -> None:
    image = pipeline.generate(PROMPT, seed=0).images[0]
    assert image.size == (pipeline.info.width, pipeline.info.height) == (8, 8)
    assert np.asarray(image).shape == (8, 8, 3)


def test_the_prompt_and_the_negative_prompt_matter(pipeline: Pipeline) -> None:
    drawn = {
        _bytes(pipeline.generate(prompt, seed=1, guidance_scale=4.0, negative_prompt=negative))[0]
        for prompt, negative in [(PROMPT, None), ("two blue squares", None), (PROMPT, "squares")]
    }
    assert len(drawn) == 3


def test_an_empty_negative_prompt_is_the_null_condition(pipeline: Pipeline) -> None:
    without = pipeline.generate(PROMPT, seed=1, guidance_scale=4.0)
    empty = pipeline.generate(PROMPT, seed=1, guidance_scale=4.0, negative_prompt=" ")
    assert _bytes(without) == _bytes(empty)


def test_open_options_come_from_the_preset_of_the_scheduler(pipeline: Pipeline) -> None:
    request = pipeline.request(PROMPT, scheduler="confidence", temperature=None)
    assert (request.options.steps, request.options["temperature"]) == (12, 0.7)
    assert pipeline.request(PROMPT, scheduler="confidence", steps=9).options.steps == 9
    assert pipeline.request(PROMPT).options.scheduler.name == "halton"


def test_the_preset_is_that_of_the_nearest_number_of_steps() -> None:
    presets = tuple(
        {"scheduler": name, "steps": steps, "temperature": steps / 10}
        for name, steps in [("halton", 4), ("halton", 16), ("confidence", 4)]
    )
    card = ModelCard("tiny", "", "halton", presets, steps=7)
    for steps, temperature in [(1, 0.4), (4, 0.4), (7, 0.4), (9, 1.6), (32, 1.6)]:
        chosen = card.preset("halton", steps)
        assert (chosen["steps"], chosen["temperature"]) == (steps, temperature)
    assert card.preset("halton")["steps"] == 7
    assert card.preset("random", 5) == {"scheduler": "random", "steps": 5}
    with pytest.raises(RequestError, match="steps is 0"):
        card.preset("halton", 0)


def test_a_request_without_a_seed_gets_one_that_repeats_it(pipeline: Pipeline) -> None:
    generated = pipeline.generate(PROMPT)
    again = pipeline.generate(PROMPT, seed=generated.request.seed)
    assert _bytes(generated) == _bytes(again)


def test_every_step_is_reported(pipeline: Pipeline) -> None:
    heard: list[tuple[int, int]] = []
    pipeline.generate(PROMPT, n=2, steps=2, on_step=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 2), (2, 2)]


def test_a_batch_holds_the_first_image_of_each_request(pipeline: Pipeline) -> None:
    requests = [
        pipeline.request(PROMPT, seed=1, scheduler="uncage", steps=3),
        pipeline.request("two blue squares", seed=2, steps=7, guidance_scale=2.0, reuse=1),
        pipeline.request("", seed=3, edit=variation(_picture(20, 9), 0.5)),
        pipeline.request(PROMPT, seed=4, edit=revise(_picture(8, 8), 0.5)),
    ]
    for image, request in zip(pipeline.draw_batch(requests), requests, strict=True):
        assert image.tobytes() == pipeline.run(request).images[0].tobytes()


def _picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_mask_of_everything_is_text_to_image(pipeline: Pipeline) -> None:
    everything = inpaint(_picture(8, 8), Image.new("L", (8, 8), 255))
    edited = pipeline.generate(PROMPT, seed=4, n=2, edit=everything)
    assert _bytes(edited) == _bytes(pipeline.generate(PROMPT, seed=4, n=2))


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_pixels_outside_the_mask_come_back_to_the_byte(pipeline: Pipeline, scheduler: str) -> None:
    picture, mask = _picture(13, 11), Image.new("L", (13, 11))
    mask.paste(255, (3, 2, 9, 10))
    edited = pipeline.generate(PROMPT, seed=4, scheduler=scheduler, edit=inpaint(picture, mask))
    outside = np.asarray(mask) == 0
    found = np.asarray(edited.images[0])
    assert (found == np.asarray(picture))[outside].all()
    assert not (found == np.asarray(picture))[~outside].all()


def test_the_size_of_a_request_is_that_of_its_result(pipeline: Pipeline) -> None:
    edit = outpaint(_picture(8, 8), right=9, top=3)
    edited = pipeline.generate(PROMPT, seed=4, edit=edit)
    assert edited.request.size == edited.images[0].size == (17, 11)
    with pytest.raises(RequestError, match="17x11 only"):
        pipeline.request(PROMPT, edit=edit, size=(8, 8))


def test_windows_and_images_of_an_edit_draw_their_own_noise(pipeline: Pipeline) -> None:
    blank = inpaint(Image.new("RGB", (24, 8)), Image.new("L", (24, 8), 255))
    first, second = pipeline.generate("", seed=4, n=2, edit=blank).images
    pixels = np.asarray(first)
    assert not np.array_equal(pixels[:, :8], pixels[:, 16:])
    assert first.tobytes() != second.tobytes()


def test_edits_need_no_prompt_and_pictures_do(pipeline: Pipeline) -> None:
    kept = pipeline.generate("", seed=1, edit=variation(_picture(8, 8), 0.5))
    assert kept.request.subjects == ()
    with pytest.raises(RequestError, match="the prompt is empty"):
        pipeline.request("")


def test_revising_takes_a_remasking_scheduler(pipeline: Pipeline) -> None:
    edit = revise(_picture(8, 8), share=0.25)
    request = pipeline.request(PROMPT, edit=edit)
    assert (request.options.scheduler.name, request.options["eta"]) == ("remdm-rescale", 1.0)
    assert pipeline.generate(PROMPT, seed=0, edit=edit, steps=5).images[0].size == (8, 8)
    with pytest.raises(RequestError, match="cannot revise") as caught:
        pipeline.request(PROMPT, edit=edit, scheduler="halton")
    assert caught.value.param == "scheduler"


def test_every_step_of_every_window_is_reported(pipeline: Pipeline) -> None:
    heard: list[tuple[int, int]] = []
    edit = outpaint(_picture(8, 8), right=8, left=8)
    pipeline.generate(
        PROMPT,
        steps=3,
        edit=edit,
        share_prompt=False,
        on_step=lambda done, total: heard.append((done, total)),
    )
    done, (total,) = [step for step, _ in heard], {total for _, total in heard}
    assert done == sorted(set(done))
    assert done[-1] == total
    assert len(done) == total // 2  # windows on the two sides are drawn together


def test_a_preview_is_grey_where_tokens_are_masked(pipeline: Pipeline) -> None:
    tokens = torch.arange(16) % 12
    tokens[5:] = pipeline.backbone.mask_id
    pixels = np.asarray(pipeline.preview(tokens))
    grey = (pixels == 128).all(-1).reshape(4, 2, 4, 2).all((1, 3)).flatten()
    assert grey[5:].all()
    assert not grey[:5].any()
    blank = torch.full((16,), pipeline.backbone.mask_id)
    assert (np.asarray(pipeline.preview(blank)) == 128).all()


def test_text_tokens_are_counted_with_the_start(pipeline: Pipeline) -> None:
    assert pipeline.text_tokens("") == 1
    assert 1 < pipeline.text_tokens("red") < pipeline.text_tokens("a red circle")


def test_subjects_are_found_or_given(pipeline: Pipeline) -> None:
    prompt = "a red circle and two blue squares"
    found = pipeline.request(prompt, scheduler="uncage")
    assert found.subjects == (("red", "circle"), ("blue", "squares"))
    assert len(pipeline.plan(found).subjects) == 2
    given = pipeline.request(prompt, subjects=[["circle"], ["squares", "blue"]])
    assert given.subjects == (("circle",), ("squares", "blue"))
    refused: tuple[list[list[str]], ...] = ([["pear"]], [[]], [["red"]] * 17)
    for bad in refused:
        with pytest.raises(RequestError) as caught:
            pipeline.request(prompt, subjects=bad)
        assert caught.value.param == "subjects"


def test_the_second_mention_of_a_word_is_the_second_object(pipeline: Pipeline) -> None:
    request = pipeline.request("a red circle and a red squares", scheduler="uncage")
    (red, _), (other, _) = pipeline.plan(request).subjects
    assert red != other


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("n", 11),
        ("seed", -2),
        ("seed", 1.5),
        ("seed", "7"),
        ("image_index", -1),
        ("image_index", 2**32),
        ("image_index", True),
        ("seed", 2**64),
        ("size", (16, 8)),
        ("steps", 0),
        ("scheduler", "bogus"),
        ("guidance_scale", math.nan),
        ("negative_prompt", "word " * 40),
        ("negative_prompt", 3),
        ("size", "8x8"),
        ("size", 8),
        ("edit", Image.new("RGB", (8, 8))),
        ("subjects", "red"),
        ("subjects", ["red"]),
        ("subjects", [3]),
        ("subjects", [[""]]),
        pytest.param("n", 10**5000, id="n-too long for Python to write"),
        ("temperature", 10**400),
        ("temperature_warmup", 13),
        ("mask_shares", "0.5, 0"),
        ("mask_shares", []),
        ("uncage_base", 3),
        ("long_prompt", "yes"),
    ],
)
def test_bad_options_name_their_field(pipeline: Pipeline, field: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        pipeline.request(PROMPT, **{field: value})  # type: ignore[arg-type]
    assert caught.value.param == field


def test_the_last_image_of_a_seed_is_the_last(pipeline: Pipeline) -> None:
    assert pipeline.request(PROMPT, image_index=2**32 - 2, n=2).image_indices[-1] == 2**32 - 1
    with pytest.raises(RequestError, match="of 2 images the last would be 4294967296"):
        pipeline.request(PROMPT, image_index=2**32 - 1, n=2)


def test_a_family_that_reads_no_chunks_says_why(pipeline: Pipeline) -> None:
    assert pipeline.info.max_long_prompt_text_tokens is None
    with pytest.raises(RequestError, match="one text of at most 9 tokens, as trained") as caught:
        pipeline.request(PROMPT, long_prompt=True)
    assert caught.value.param == "long_prompt"
    assert not pipeline.request(PROMPT, long_prompt=False).long_prompt


def test_an_edit_is_made_with_the_functions_that_are_named(pipeline: Pipeline) -> None:
    with pytest.raises(RequestError, match=r"make one with .*: inpaint, outpaint"):
        pipeline.generate(PROMPT, edit=Image.new("RGB", (8, 8)))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"model": None}, "model: expected a name or a folder, got None; choose one of"),
        ({"model": 3}, "model: expected a name or a folder, got 3"),
        ({"model": ""}, "model ''"),
        ({"model": "a" * 5000}, "choose one of"),
        ({"precision": "fp64"}, "precision: 'fp64'; did you mean 'fp16'"),
        ({"device": 3}, "device: expected str, got 3"),
        ({"attention": 3}, "attention: expected str, got 3"),
    ],
)
def test_what_cannot_be_loaded_is_told(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        Pipeline.load(**{"model": "storybook", **arguments})
    assert len(str(caught.value)) < 200
    assert caught.value.param == next(iter(arguments))


def test_words_that_the_model_was_not_taught_are_told_or_refused(pipeline: Pipeline) -> None:
    assert pipeline.request(PROMPT, strict_prompt=True).warnings == ()
    given: dict[str, Any] = {"negative_prompt": "a lion", "guidance_scale": 2.0}
    request = pipeline.request(f"{PROMPT} sqares", **given)
    fields = {warning.param: warning.words for warning in request.warnings}
    assert [word.word for word in fields["negative_prompt"]] == ["lion"]
    assert fields["prompt"] == (UnknownWord("sqares", ("squares",)),)
    with pytest.raises(UnknownWordsError, match=r"'sqares' \(nearest: squares\)") as caught:
        pipeline.generate(f"{PROMPT} sqares", strict_prompt=True)
    assert caught.value.param == "prompt"
    with pytest.raises(UnknownWordsError, match="lion") as caught:
        pipeline.request(PROMPT, strict_prompt=True, **given)
    assert caught.value.param == "negative_prompt"
    with pytest.raises(RequestError, match="strict_prompt"):
        pipeline.request(PROMPT, strict_prompt=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["", " \n", "x" * 1001, "word " * 40])
def test_empty_and_huge_prompts_are_refused(pipeline: Pipeline, prompt: str) -> None:
    with pytest.raises(RequestError) as caught:
        pipeline.request(prompt)
    assert caught.value.param == "prompt"


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="choose one of"):
        Pipeline.load("no-such-model")


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="12 codes, the tokenizer has 20"):
        Pipeline.load(write_native(tmp_path, levels=(5, 4)))


def test_a_bad_preset_names_the_file(folder: Path, tmp_path: Path) -> None:
    card = json.loads((folder / "model.json").read_text())
    card["presets"][0]["steps"] = 0
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match=r"model\.json.*steps is 0"):
        read_card(tmp_path)


def test_every_bundled_card_can_be_read() -> None:
    for name in available_models():
        assert read_card(name).name == name


def test_a_low_precision_is_that_of_the_backbone_alone(folder: Path, pipeline: Pipeline) -> None:
    low = Pipeline.load(folder, precision="bf16")
    assert {p.dtype for p in low.backbone.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in low.tokenizer.parameters()} == {torch.float32}
    assert isinstance(low.backbone, NativeTransformer)
    assert isinstance(pipeline.backbone, NativeTransformer)
    assert torch.equal(low.backbone.angles, pipeline.backbone.angles)  # all their digits
    blank, steps_left = torch.full((1, 16), pipeline.backbone.mask_id), torch.zeros(1)
    rough, exact = (
        each.backbone.full(
            blank, each.encode_prompts(["a red apple"]), steps_left=steps_left
        ).logits.float()
        for each in (low, pipeline)
    )
    assert not torch.equal(rough, exact)
    assert (rough - exact).abs().max() < 0.1 * exact.std()
    assert low.generate("a red apple", steps=2, seed=1).images


@pytest.mark.parametrize(
    ("ability", "options", "param"),
    [
        ("gives_attention", {"scheduler": "uncage"}, "scheduler"),
        ("has_memory", {"scheduler": "halton", "reuse": 1}, "reuse"),
    ],
)
def test_what_a_family_cannot_do_is_refused(
    folder: Path, ability: str, options: dict[str, Any], param: str
) -> None:
    able = Pipeline.load(folder)
    able.request("a red apple", **options)
    setattr(able.backbone, ability, False)
    with pytest.raises(RequestError, match=f"model {able.card.name!r}") as caught:
        able.request("a red apple", **options)
    assert caught.value.param == param


def _encoded(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that are encoded from now on."""
    prompts: list[str] = []
    condition, encode = pipeline.condition, pipeline.backbone.encode
    known = {tuple(condition([each]).ids[0].tolist()): each for each in (PROMPT, "red", "two", "")}

    def counting(made: Condition) -> object:
        prompts.extend(known[tuple(ids.tolist())] for ids in made.ids)
        return encode(made)

    monkeypatch.setattr(pipeline.backbone, "encode", counting)
    return prompts


def test_prompts_are_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline.load(folder)
    first = pipeline.generate(PROMPT, seed=1).images[0]
    prompts = _encoded(pipeline, monkeypatch)
    again = pipeline.generate(PROMPT, seed=1).images[0]
    assert again.tobytes() == first.tobytes()
    pipeline.generate("red", seed=1)
    pipeline.generate("red", negative_prompt=PROMPT, seed=1, guidance_scale=2.0)
    assert prompts == ["red"]


def test_encoded_prompts_are_kept_within_a_bound_of_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline.load(folder)
    prompts = _encoded(pipeline, monkeypatch)
    size = pipeline.encode_prompts([""]).nbytes
    pipeline.prompts.kept_bytes = 3 * size + 1
    for prompt in (PROMPT, "red", PROMPT, "two", "red"):
        pipeline.encode_prompts([prompt, ""])
    # Room for three: "two" drives out "red", which was asked for longest ago.
    assert prompts == ["", PROMPT, "red", "two", "red"]


def test_more_prompts_than_are_kept_are_all_encoded(
    folder: Path,
) -> None:
    pipeline = Pipeline.load(folder)
    pipeline.prompts.kept_bytes = 1
    every = pipeline.encode_prompts([PROMPT, "red", "two", "", PROMPT])
    assert isinstance(every, Prefix)
    assert len(every.keys[0]) == 5
    for row, prompt in enumerate((PROMPT, "red", "two", "", PROMPT)):
        alone = pipeline.encode_prompts([prompt])
        assert isinstance(alone, Prefix)
        assert torch.equal(every.keys[:, row], alone.keys[:, 0])


def test_a_prompt_that_two_threads_ask_for_is_encoded_once(folder: Path) -> None:
    pipeline = Pipeline.load(folder)
    encode, begun = pipeline.prompts.encode, []

    def slowly(condition: Condition) -> object:
        begun.append(condition)
        time.sleep(0.1)
        return encode(condition)

    pipeline.prompts.encode = slowly  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(pipeline.encode_prompts, [["red"], ["red"]]))
    assert len(begun) == 1


def test_the_bytes_of_a_prefix_are_those_of_its_tensors() -> None:
    prefix = Prefix(torch.zeros(2, 3), torch.zeros(5, dtype=torch.half), torch.ones(4) > 0)
    assert prefix.nbytes == 24 + 10 + 4
