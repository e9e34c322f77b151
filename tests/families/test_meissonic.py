"""Miniature folders in the published layout, with the scheduler of diffusers for a reference."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.worlds.published import (
    CODEBOOK,
    PATCH,
    SIDE,
    STEM,
    VOCABULARY,
    quiet,
    write_json,
    write_meissonic,
)
from tests.worlds.sampling import Options
from unmask.devices import Precision
from unmask.editing import Edit, image_to_image, inpaint, outpaint, revise, variation
from unmask.errors import ConfigError
from unmask.families.meissonic import MEISSONIC
from unmask.models.meissonic import MeissonicTransformer
from unmask.pipeline import DrawRequest, Pipeline
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.sampling.guidance import GUIDANCES
from unmask.sampling.noise import request_noise
from unmask.sampling.options import choose_options
from unmask.sampling.schedulers import SCHEDULERS
from unmask.sampling.step import draw_values

CELLS = SIDE * SIDE
PIXELS = SIDE * PATCH
MASK = VOCABULARY - 1
PROMPTS = ("a red cat and a blue dog", "two boats")
NETS = ("transformer", "vqvae")


@pytest.fixture(scope="module", name="folder", params=[False, True], ids=["plain", "compressed"])
def _folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meissonic")
    write_meissonic(folder, request.param)
    return folder


@pytest.fixture(name="copy")
def _copy(folder: Path, tmp_path: Path) -> Path:
    """The folder, to be spoiled."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def _pipeline(folder: Path, precision: Precision = "fp32") -> Pipeline:
    return Pipeline(MEISSONIC.card(folder, "tiny"), *MEISSONIC.load(folder, "cpu", precision))


def _tokens(pipeline: Pipeline, requests: list[DrawRequest]) -> Tensor:
    """What the requests draw, (requests, cells)."""
    plans = [pipeline.plan(request) for request in requests]
    blank = all_masked(len(requests), CELLS, MASK, pipeline.device)
    return generate_tokens(pipeline.backbone, pipeline.encode(requests), plans, blank)


def _picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_tokens_are_those_that_the_published_scheduler_chooses(
    folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of our logits, with our noise in place of its own; all else that the pipeline fills in is
    that of the published one, but for 48 steps."""
    with quiet():
        from diffusers.schedulers import scheduling_amused

    pipeline, scheduler = _pipeline(folder), scheduling_amused.AmusedScheduler(MASK)
    scheduler.set_timesteps(steps, (2, 0))
    for seed in range(4):
        seeds, expected = (seed, seed + 100), torch.full((2, CELLS), MASK)
        noise = torch.stack([request_noise(row_seed, 0, steps, CELLS) for row_seed in seeds], 1)
        requests = [
            pipeline.request(prompt, seed=row_seed, steps=steps)
            for prompt, row_seed in zip(PROMPTS, seeds, strict=True)
        ]
        prefix = pipeline.encode(requests).both
        for i, left in enumerate(scheduler.timesteps):
            tokens = expected.repeat(2, 1)
            logits = pipeline.backbone.full(tokens, prefix, steps_left=left.expand(4)).logits
            conditional, null = logits.chunk(2)
            guided = null + 9.0 * (conditional - null)
            values = draw_values(guided, torch.ones(2, 1), noise[i, :, 0])
            monkeypatch.setattr(torch, "multinomial", lambda *_, v=values, **__: v.view(-1, 1))
            gumbel = -torch.log(-torch.log(noise[i, :, 1]))
            monkeypatch.setattr(scheduling_amused, "gumbel_noise", lambda *_, g=gumbel, **__: g)
            expected = scheduler.step(guided, left, expected).prev_sample
        assert torch.equal(_tokens(pipeline, requests), expected)


def test_the_network_is_told_the_size_of_the_picture(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that nothing was cropped, and how fine it is."""
    pipeline, told = _pipeline(folder), []
    encode = MeissonicTransformer.encode

    def watched(network: MeissonicTransformer, text: Tensor, pooled: Tensor, micro: Tensor) -> Any:
        told.append(micro)
        return encode(network, text, pooled, micro)

    monkeypatch.setattr(MeissonicTransformer, "encode", watched)
    pipeline.encode_prompts([PROMPTS[0]])
    assert torch.equal(told[0], torch.tensor([[PIXELS, PIXELS, 0.0, 0.0, 6.0]]))


def test_the_card_has_the_published_defaults(folder: Path) -> None:
    card = MEISSONIC.card(folder, "tiny")
    assert (card.name, card.scheduler, card.steps) == ("tiny", "confidence", 48)
    options = choose_options({}, card.preset("confidence"))
    assert (options.steps, options["guidance_scale"]) == (48, 9.0)
    assert (options["choice_temperature"], options["temperature"]) == (2.0, 1.0)
    assert options["mask_schedule"] == "cosine"
    halton = choose_options({}, card.preset("halton"))
    assert (halton["mask_schedule"], halton["guidance_scale"]) == ("arccos", 9.0)
    uncage = choose_options({}, card.preset("uncage", 64))
    assert (uncage["uncage_weight"], uncage["uncage_share"]) == (3.0, 0.25)
    assert (uncage["uncage_blur"], uncage.steps) == (2.0, 64)


def test_a_picture_does_not_depend_on_its_place_in_the_batch(folder: Path) -> None:
    """Nor on the steps of its neighbours, which the network is told of each row."""
    pipeline = _pipeline(folder)
    requests = [
        pipeline.request(prompt, seed=1, **options)
        for prompt, options in (
            (PROMPTS[0], {"steps": 3}),
            (PROMPTS[1], {"steps": 6, "reuse": 2, "reuse_after": 0.0}),
            (PROMPTS[0], {"steps": 7, "reuse": 3, "reuse_after": 0.0, "guidance": "interval"}),
            (PROMPTS[0], {"steps": 6, "reuse": 2, "reuse_after": 0.0}),
        )
    ]
    together = pipeline.draw_batch(requests)
    assert together == [pipeline.run(request).images[0] for request in requests]
    assert together == pipeline.draw_batch(requests[::-1])[::-1]


def _edits() -> Iterator[Edit]:
    picture, mask = _picture(), Image.new("L", (PIXELS, PIXELS))
    mask.paste(255, (4, 4, 12, 12))
    yield inpaint(picture, mask)
    yield outpaint(picture, left=6, top=3)
    yield image_to_image(picture, 0.7)
    yield variation(picture)
    yield revise(picture)


def test_long_and_short_prompts_together_draw_what_each_draws_alone(folder: Path) -> None:
    """Text runs through the blocks with the image here, and in local passes too."""
    pipeline = _pipeline(folder)
    chosen: dict[str, Any] = {"seed": 3, "steps": 4, "reuse": 1, "reuse_after": 0.0}
    chosen |= {"scheduler": "halton", "long_prompt": True}
    prompts = ["x" * 90 + " cat", "two boats", "x" * 90 + " dog"]
    drawn = [generated.images[0].tobytes() for generated in pipeline.generate(prompts, **chosen)]
    alone = [pipeline.generate(prompt, **chosen).images[0].tobytes() for prompt in prompts]
    assert drawn == alone
    assert drawn[0] != drawn[2]  # what stands in the second chunk is read


def test_every_kind_of_request_is_served(folder: Path) -> None:
    pipeline = _pipeline(folder)
    choices: list[Options] = [
        *({"scheduler": name} for name in SCHEDULERS),
        *({"guidance": name} for name in GUIDANCES),
        {"reuse": 2, "reuse_after": 0.0},
        {"scheduler": "uncage", "subjects": [["red", "cat"], ["blue", "dog"]]},
    ]
    drawn = [
        pipeline.generate(PROMPTS[0], steps=4, seed=1, **options).images[0] for options in choices
    ]
    assert {image.size for image in drawn} == {(PIXELS, PIXELS)}
    assert len({image.tobytes() for image in drawn}) > len(SCHEDULERS)
    for edit in _edits():
        image = pipeline.generate(PROMPTS[0], edit=edit, steps=4, seed=1).images[0]
        assert image.size == edit.size
        assert (np.asarray(image)[~edit.mask] == edit.pixels[~edit.mask, :3]).all()


def test_uncage_reads_the_subjects(folder: Path) -> None:
    """With a weight that leaves the base no say, other subjects choose other positions."""
    pipeline = _pipeline(folder)
    requests = [
        pipeline.request(
            PROMPTS[0],
            steps=8,
            seed=1,
            scheduler="uncage",
            uncage_weight=100.0,
            uncage_share=1.0,
            subjects=subjects,
        )
        for subjects in ([["red", "cat"], ["blue", "dog"]], [["red", "dog"], ["blue", "cat"]])
    ]
    one, other = _tokens(pipeline, requests)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_draws_pictures(folder: Path, precision: Precision) -> None:
    pipeline = _pipeline(folder, precision)
    assert {p.dtype for p in pipeline.backbone.parameters()} == {
        torch.bfloat16 if precision == "bf16" else torch.float16
    }
    encoder = pipeline.tokenizer.get_submodule("encoder")
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    tokens = _tokens(pipeline, [pipeline.request(PROMPTS[0], steps=4, seed=1)])
    assert ((tokens >= 0) & (tokens < CODEBOOK)).all()
    assert pipeline.tokenizer.decode(tokens.view(1, SIDE, SIDE)).isfinite().all()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_listed_files_are_all_that_is_read(
    folder: Path, tmp_path: Path, precision: Precision
) -> None:
    for name, stem in (("text_encoder", "model"), *((name, STEM) for name in NETS)):
        whole = folder / name / f"{stem}.safetensors"
        half = {key: tensor.half() for key, tensor in load_file(whole).items()}
        (tmp_path / "all" / name).mkdir(parents=True)
        save_file(half, tmp_path / "all" / name / f"{stem}.fp16.safetensors")
    shutil.copytree(folder, tmp_path / "all", dirs_exist_ok=True)
    for pattern in MEISSONIC.files(precision):
        for path in (tmp_path / "all").glob(pattern):
            kept = tmp_path / "kept" / path.relative_to(tmp_path / "all")
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, kept)
    assert MEISSONIC.recognises(tmp_path / "kept")
    MEISSONIC.card(tmp_path / "kept", "tiny")
    MEISSONIC.load(tmp_path / "kept", "cpu", precision)
    weights = list((tmp_path / "kept").rglob("*.safetensors"))
    assert len(weights) == 3
    assert all((".fp16." in path.name) == (precision == "fp16") for path in weights)


@pytest.mark.parametrize(
    "name",
    [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "transformer/config.json",
        f"transformer/{STEM}.safetensors",
        "vqvae/config.json",
        f"vqvae/{STEM}.safetensors",
    ],
)
def test_a_spoiled_file_is_named(copy: Path, name: str) -> None:
    """Cut short, something else than its name says (a pickle, which is never read), or missing."""
    path = copy / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=path.name):
        MEISSONIC.load(copy, "cpu", "fp32")
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=path.name):
        MEISSONIC.load(copy, "cpu", "fp32")
    path.unlink()
    with pytest.raises(ConfigError, match=path.name):
        MEISSONIC.load(copy, "cpu", "fp32")


@pytest.mark.parametrize("name", NETS)
def test_tensors_that_do_not_fit_are_named(copy: Path, name: str) -> None:
    path = copy / name / f"{STEM}.safetensors"
    state = load_file(path)
    first = min(state)
    for spoiled in (
        state | {"surplus": torch.zeros(2)},
        {key: tensor for key, tensor in state.items() if key != first},
        state | {first: torch.zeros(3, 3)},
        state | {first: torch.full_like(state[first], float("nan"))},
    ):
        save_file(spoiled, path)
        with pytest.raises(ConfigError, match=f"{path.name}.*({first}|surplus)"):
            MEISSONIC.load(copy, "cpu", "fp32")


@pytest.mark.parametrize(
    ("name", "field", "value", "told"),
    [
        ("scheduler/scheduler_config.json", "mask_token_id", 3, "mask_token_id"),
        ("transformer/config.json", "guidance_embeds", True, "guidance_embeds"),
        ("transformer/config.json", "num_layers", "2", "num_layers"),
        ("transformer/config.json", "num_single_layers", 3, "single_transformer_blocks"),
        ("transformer/config.json", "axes_dims_rope", [4, 6], "axes_dims_rope"),
        ("transformer/config.json", "codebook_size", 31, "codebook_size"),
        ("transformer/config.json", "joint_attention_dim", 25, "joint_attention_dim"),
        ("text_encoder/config.json", "projection_dim", 31, "pooled_projection_dim|projection"),
        ("text_encoder/config.json", "vocab_size", 500, "text tokens|embedding"),
    ],
)
def test_configurations_that_do_not_fit_are_told(
    copy: Path, name: str, field: str, value: object, told: str
) -> None:
    settings = json.loads((copy / name).read_text())
    write_json(copy / name, settings | {field: value})
    with pytest.raises(ConfigError, match=told):
        MEISSONIC.load(copy, "cpu", "fp32")


def test_a_network_that_is_compressed_must_say_so(copy: Path) -> None:
    """Both ways: the tensors tell."""
    path = copy / "transformer" / "config.json"
    settings = json.loads(path.read_text())
    write_json(
        path, settings | dict.fromkeys(("downsample", "upsample"), not settings["downsample"])
    )
    with pytest.raises(ConfigError, match="down_block"):
        MEISSONIC.load(copy, "cpu", "fp32")


def test_only_its_own_networks_are_recognised(copy: Path, tmp_path: Path) -> None:
    path = copy / "transformer" / "config.json"
    settings = json.loads(path.read_text())
    assert MEISSONIC.recognises(copy)
    for missing in ("codebook_size", "num_single_layers"):  # of Flux, and of aMUSEd
        write_json(path, {name: value for name, value in settings.items() if name != missing})
        assert not MEISSONIC.recognises(copy)
    for text in ("{", "[]"):
        path.write_text(text)
        assert not MEISSONIC.recognises(copy)
    assert not MEISSONIC.recognises(tmp_path)
