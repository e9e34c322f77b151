"""Against diffusers' AmusedPipeline with our noise fed in, on miniature folders that it wrote."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.worlds.published import CODEBOOK, PATCH, SIDE, VOCABULARY, quiet, write_amused
from tests.worlds.sampling import Options
from unmask.devices import Precision
from unmask.editing import Edit, image_to_image, inpaint, outpaint, revise, variation
from unmask.errors import ConfigError, RequestError
from unmask.families.amused import AMUSED
from unmask.models.linear import Linear, pack
from unmask.pipeline import DrawRequest, Pipeline
from unmask.sampling.backbone import Pair
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.sampling.guidance import GUIDANCES
from unmask.sampling.noise import request_noise
from unmask.sampling.options import PlanOptions, plan_options
from unmask.sampling.plan import make_plan
from unmask.sampling.schedulers import SCHEDULERS

CELLS = SIDE * SIDE
PIXELS = SIDE * PATCH
MASK = VOCABULARY - 1
PROMPTS = ("a red cat and a blue dog", "two boats")
# What the reference fixes, and our preset for its scheduler says.
GUIDED: dict[str, object] = {
    "scheduler": "confidence",
    "choice_temperature": 2.0,
    "guidance_scale": 10.0,
}

Reference = Any  # diffusers is imported quietly, in functions
Feed = Callable[[Tensor], None]


@pytest.fixture(scope="module", name="folders")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folders = tmp_path_factory.mktemp("amused")
    write_amused(folders / "plain", down_up=False)
    write_amused(folders / "compressed", down_up=True)
    return folders


@pytest.fixture(name="folder", params=["plain", "compressed"])
def _folder(folders: Path, request: pytest.FixtureRequest) -> Path:
    kind: str = request.param
    return folders / kind


@pytest.fixture(name="copy")
def _copy(folders: Path, tmp_path: Path) -> Path:
    """A folder to be spoiled."""
    shutil.copytree(folders / "compressed", tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(name="feed")
def _feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    """Has the reference draw with given uniforms (steps, rows, 2, tokens), values and positions,
    where it draws with torch's generator."""
    with quiet():
        from diffusers.schedulers import scheduling_amused

    def feed(noise: Tensor) -> None:
        steps = iter(noise)
        now: list[Tensor] = []

        def multinomial(probabilities: Tensor, count: int, generator: None = None) -> Tensor:
            now[:] = [next(steps)]
            cumulative = probabilities.cumsum(-1)
            target = now[0][:, 0].reshape(-1, 1) * cumulative[:, -1:]
            return torch.searchsorted(cumulative, target)

        def gumbel_noise(like: Tensor, generator: None = None) -> Tensor:
            return -torch.log(-torch.log(now[0][:, 1]))

        monkeypatch.setattr(torch, "multinomial", multinomial)
        monkeypatch.setattr(scheduling_amused, "gumbel_noise", gumbel_noise)

    return feed


def _pipeline(folder: Path, precision: Precision = "fp32") -> Pipeline:
    return Pipeline(AMUSED.card(folder, "tiny"), *AMUSED.load(folder, "cpu", precision))


def _reference(folder: Path, kind: str = "") -> Reference:
    """A fresh pipeline, for they change what they share."""
    with quiet():
        import diffusers

        pipeline = getattr(diffusers, f"Amused{kind}Pipeline").from_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _noise(steps: int, *seeds: int) -> Tensor:
    return torch.stack([request_noise(seed, 0, steps, CELLS) for seed in seeds], 1)


def _tokens(pipeline: Pipeline, requests: list[DrawRequest]) -> Tensor:
    """What the requests draw, (requests, cells)."""
    plans = [pipeline.plan(request) for request in requests]
    blank = all_masked(len(requests), CELLS, MASK, pipeline.device)
    return generate_tokens(pipeline.backbone, pipeline.encode(requests), plans, blank)


def _finish(
    pipeline: Pipeline, start: Tensor, options: list[PlanOptions], seeds: list[int]
) -> Tensor:
    """Tokens (2, cells) whose masked ones are drawn from ``PROMPTS``."""
    plans = [
        make_plan(chosen, (SIDE, SIDE), seed, unknown=int((row == MASK).sum()))
        for chosen, seed, row in zip(options, seeds, start, strict=True)
    ]
    prefix = pipeline.encode_prompts([*PROMPTS, "", ""])
    return generate_tokens(pipeline.backbone, Pair.of(prefix), plans, start)


def _images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(3))


def _picture(side: int = PIXELS) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("steps", "scale"), [(1, 10.0), (2, 10.0), (4, 10.0), (8, 10.0), (12, 10.0), (8, 1.0)]
)
@pytest.mark.parametrize("packed", [False, True])
def test_text_to_image_draws_the_tokens_of_the_reference(
    folder: Path, feed: Feed, steps: int, scale: float, packed: bool
) -> None:
    """Packed too, whose logits differ in their last digits."""
    ours, theirs = _pipeline(folder), _reference(folder)
    if packed:
        pack(ours.backbone)
    for seed in range(3):
        feed(_noise(steps, seed, seed + 100))
        expected = theirs(
            list(PROMPTS), num_inference_steps=steps, guidance_scale=scale, output_type="latent"
        )[0]
        requests = [
            ours.request(prompt, seed=row_seed, steps=steps, guidance_scale=scale)
            for prompt, row_seed in zip(PROMPTS, (seed, seed + 100), strict=True)
        ]
        assert torch.equal(_tokens(ours, requests), expected.flatten(1))


def test_the_prompt_sways_the_tokens(folder: Path) -> None:
    """Or the comparison above would say little."""
    ours = _pipeline(folder)
    requests = [ours.request(prompt, seed=1, steps=8, guidance_scale=1) for prompt in PROMPTS]
    one, other = _tokens(ours, requests)
    assert (one != other).float().mean() > 0.3


def test_defaults_are_those_of_the_reference(folder: Path, feed: Feed) -> None:
    """To the last pixel."""
    ours, theirs = _pipeline(folder), _reference(folder)
    feed(_noise(12, 5))
    expected = theirs(PROMPTS[0], output_type="pil")[0][0]
    assert ours.generate(PROMPTS[0], seed=5).images[0] == expected


def test_a_negative_prompt_is_that_of_the_reference(folder: Path, feed: Feed) -> None:
    ours, theirs = _pipeline(folder), _reference(folder)
    feed(_noise(4, 5))
    expected = theirs(PROMPTS[0], negative_prompt="fog", num_inference_steps=4, output_type="pil")
    drawn = ours.generate(PROMPTS[0], negative_prompt="fog", seed=5, steps=4)
    assert drawn.images[0] == expected[0][0]


LETTERS = "a b c d e f g h " * 12  # a text token each


def test_a_long_prompt_draws_what_the_reference_draws_of_joined_chunks(
    folder: Path, feed: Feed
) -> None:
    ours, theirs = _pipeline(folder), _reference(folder)
    steps, states, pooled = 6, [], []
    for texts in ((LETTERS[:150], LETTERS[150:]), ("fog", "")):
        ids = theirs.tokenizer(
            list(texts), padding="max_length", max_length=77, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            encoded = theirs.text_encoder(ids, output_hidden_states=True)
        states.append(encoded.hidden_states[-2].flatten(0, 1)[None])
        pooled.append(encoded.text_embeds[:1])
    feed(_noise(steps, 4))
    expected = theirs(
        prompt_embeds=pooled[0],
        encoder_hidden_states=states[0],
        negative_prompt_embeds=pooled[1],
        negative_encoder_hidden_states=states[1],
        num_inference_steps=steps,
        output_type="latent",
    )[0]
    request = ours.request(LETTERS, negative_prompt="fog", seed=4, steps=steps, long_prompt=True)
    assert torch.equal(_tokens(ours, [request]), expected.flatten(1))


def test_long_and_short_prompts_together_draw_what_each_draws_alone(folder: Path) -> None:
    ours = _pipeline(folder)
    told: list[tuple[int, int]] = []
    chosen: dict[str, Any] = {"seed": 3, "n": 2, "steps": 2, "long_prompt": True}
    prompts = [LETTERS, "two boats", LETTERS[:160], LETTERS * 2]
    drawn = ours.generate(prompts, **chosen, on_step=lambda *step: told.append(step))
    for prompt, together in zip(prompts, drawn, strict=True):
        alone = ours.generate(prompt, **chosen)
        assert [image.tobytes() for image in together.images] == [
            image.tobytes() for image in alone.images
        ]
    assert told == [(done, 6) for done in range(1, 7)]  # two prompts are of one length
    short = ours.generate("two boats", **{**chosen, "long_prompt": False})
    assert short.images[0].tobytes() == drawn[1].images[0].tobytes()


def test_a_long_prompt_is_refused_unless_asked_for_and_within_its_bound(folder: Path) -> None:
    ours = _pipeline(folder)
    assert (ours.info.max_text_tokens, ours.info.max_long_prompt_text_tokens) == (75, 300)
    with pytest.raises(RequestError, match="at most 75, or 300 with long_prompt"):
        ours.request(LETTERS)
    with pytest.raises(RequestError, match="at most 75, or 300 with long_prompt") as caught:
        ours.request("a", negative_prompt=LETTERS)
    assert caught.value.param == "negative_prompt"
    assert ours.text_tokens(LETTERS) == 96 + 4
    with pytest.raises(RequestError, match=r"301 text tokens long; this model reads at most 300$"):
        ours.request("a" * 301, long_prompt=True)


def test_the_attention_to_a_word_of_a_later_chunk_is_read(folder: Path) -> None:
    ours = _pipeline(folder)
    prompt = f"red cat {'x' * 90} blue dog"
    given: dict[str, Any] = {"scheduler": "uncage", "seed": 1, "long_prompt": True}
    given |= {"uncage_weight": 100.0, "uncage_share": 1.0}
    named = ours.generate(prompt, subjects=[["cat"], ["dog"]], **given)
    other = ours.generate(prompt, subjects=[["red"], ["blue"]], **given)
    assert named.images[0].tobytes() != other.images[0].tobytes()


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 12])
def test_inpainting_draws_the_tokens_of_the_reference(folder: Path, feed: Feed, steps: int) -> None:
    ours, theirs = _pipeline(folder), _reference(folder, "Inpaint")
    images, cells = _images(), torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    cells[0, 1:6, 2:7], cells[1, 3:8, :5] = True, True
    masks = cells.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)[:, None].float()
    start = ours.tokenizer.encode(images).masked_fill(cells, MASK).flatten(1)
    options = plan_options(**GUIDED, steps=steps, mask_schedule="linear")
    for seed in range(3):
        feed(_noise(steps, seed, seed + 100))
        expected = theirs(
            list(PROMPTS), images, masks, num_inference_steps=steps, output_type="latent"
        )[0]
        drawn = _finish(ours, start, [options] * 2, [seed, seed + 100])
        assert torch.equal(drawn, expected.flatten(1))
        assert torch.equal(drawn[start != MASK], start[start != MASK])


@pytest.mark.parametrize(("steps", "strength"), [(4, 0.5), (4, 0.75), (8, 0.5), (12, 0.75)])
def test_image_to_image_draws_the_tokens_of_the_reference(
    folder: Path, feed: Feed, steps: int, strength: float
) -> None:
    """Which enters the plan of a whole picture half-way: its counts and temperatures from there
    on, and tokens that are masked by as many coins."""
    ours, theirs = _pipeline(folder), _reference(folder, "Img2Img")
    masked: list[Tensor] = []
    add_noise = theirs.scheduler.add_noise

    def watched(*given: Any, **named: Any) -> Tensor:
        masked[:] = [add_noise(*given, **named)]
        return masked[0]

    theirs.scheduler.add_noise = watched
    left = int(steps * strength)
    for seed in range(4):
        feed(_noise(left, seed, seed + 100))
        expected = theirs(
            list(PROMPTS),
            _images(),
            strength=strength,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        )[0]
        start = masked[0].flatten(1)
        assert torch.equal(torch.where(start == MASK, MASK, _encoded(ours)), start)
        options = [_half_way(steps, left, int((row == MASK).sum())) for row in start]
        drawn = _finish(ours, start, options, [seed, seed + 100])
        assert torch.equal(drawn, expected.flatten(1))


def _encoded(pipeline: Pipeline) -> Tensor:
    return pipeline.tokenizer.encode(_images()).flatten(1)


def _half_way(steps: int, left: int, unknown: int) -> PlanOptions:
    """The options of the last steps of a whole picture, with ``unknown`` tokens yet to draw."""
    shares, after = [], unknown
    for i in range(steps - left, steps - 1):
        share = float((torch.tensor(i + 1) / steps * torch.pi / 2).cos())
        after = max(1, min(int(CELLS * share), after - 1))
        shares.append((after + 0.5) / unknown)
    temperature = 2.0 * (1 - (steps - left) / (steps - 1))
    return plan_options(
        **GUIDED | {"mask_shares": (*shares, 0.0), "choice_temperature": temperature}
    )


def test_strength_1_draws_everything_anew(folder: Path) -> None:
    """The reference looks up the noise of the step before the first, finds that of the last, and
    so masks nothing."""
    ours, theirs = _pipeline(folder), _reference(folder, "Img2Img")
    drawn = theirs(
        list(PROMPTS), _images(), strength=1.0, num_inference_steps=4, output_type="latent"
    )[0]
    assert (drawn.flatten(1) == _encoded(ours)).float().mean() > 0.9
    edit = image_to_image(_picture(), 1.0)
    prepared = ours.prepare(ours.request(PROMPTS[0], edit=edit, seed=1))
    assert all(bool(start.unknown.all()) for start in ours.drawing(prepared, 0).start())


def test_pictures_of_any_size_are_inpainted(folder: Path) -> None:
    """The reference rounds the side of a mask down to whole tokens when it counts tokens already,
    so that it fits 256 pixels and its multiples only: here, 4 and its multiples."""
    picture, mask = _picture(10), Image.new("L", (10, 10), 255)
    with pytest.raises(RuntimeError, match="shape"):
        _reference(folder, "Inpaint")(PROMPTS[0], picture, mask, num_inference_steps=1)
    drawn = _pipeline(folder).generate(PROMPTS[0], edit=inpaint(picture, mask), steps=2, seed=1)
    assert drawn.images[0].size == (10, 10)


def test_an_edit_leaves_other_requests_alone(folder: Path, feed: Feed) -> None:
    """Making the reference's inpainting changes the mask schedule of the text-to-image pipeline
    that it is made from."""
    theirs, ours = _reference(folder), _pipeline(folder)

    def draw() -> Tensor:
        feed(_noise(8, 1))
        tokens: Tensor = theirs(PROMPTS[0], num_inference_steps=8, output_type="latent")[0]
        return tokens

    before = draw()
    with quiet():
        from diffusers import AmusedInpaintPipeline

        AmusedInpaintPipeline(**theirs.components)
    assert not torch.equal(draw(), before)
    ours.generate(PROMPTS[0], edit=inpaint(_picture(), Image.new("L", (PIXELS,) * 2, 255)), steps=2)
    drawn = _tokens(ours, [ours.request(PROMPTS[0], seed=1, steps=8)])
    assert torch.equal(drawn, before.flatten(1))


def test_a_picture_does_not_depend_on_its_place_in_the_batch(folder: Path) -> None:
    """The reference draws all of a batch from one generator."""
    theirs, ours = _reference(folder), _pipeline(folder)

    def draw(*prompts: str) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        tokens: Tensor = theirs(
            list(prompts), num_inference_steps=4, generator=generator, output_type="latent"
        )[0]
        return tokens[-1]

    assert not torch.equal(draw(PROMPTS[0]), draw(PROMPTS[1], PROMPTS[0]))
    choices: list[tuple[str, Options]] = [
        (PROMPTS[0], {"guidance": "constant"}),
        (PROMPTS[1], {"guidance": "constant", "reuse": 2, "reuse_after": 0.0}),
        (PROMPTS[0], {"guidance": "interval", "reuse": 3, "reuse_after": 0.0}),
        (PROMPTS[0], {"guidance": "constant", "reuse": 2, "reuse_after": 0.0}),
    ]
    requests = [ours.request(prompt, seed=1, steps=6, **options) for prompt, options in choices]
    together = ours.draw_batch(requests)
    assert together == [ours.run(request).images[0] for request in requests]
    assert together == ours.draw_batch(requests[::-1])[::-1]


def _edits() -> Iterator[Edit]:
    picture, mask = _picture(), Image.new("L", (PIXELS, PIXELS))
    mask.paste(255, (4, 4, 12, 12))
    yield inpaint(picture, mask)
    yield outpaint(picture, left=6, top=3)
    yield image_to_image(picture, 0.7)
    yield variation(picture)
    yield revise(picture)


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
        known = np.asarray(image)[~edit.mask] == edit.pixels[~edit.mask, :3]
        assert known.all()


def test_attention_backends_agree(folder: Path) -> None:
    pipeline = _pipeline(folder)
    prefix = pipeline.encode_prompts(PROMPTS)
    tokens = torch.randint(VOCABULARY, (2, CELLS))
    expected = pipeline.backbone.full(tokens, prefix, steps_left=torch.zeros(2)).logits
    pipeline.backbone.use_attention("plain")
    plain = pipeline.backbone.full(tokens, prefix, steps_left=torch.zeros(2)).logits
    assert not torch.equal(plain, expected)  # it is another sum
    assert torch.allclose(plain, expected, atol=1e-3)
    with pytest.raises(ConfigError, match="sdpa"):
        pipeline.backbone.use_attention("flash9")


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


@pytest.mark.skipif(
    not torch.cpu._is_amx_tile_supported(), reason="this CPU has no unit for tiles (AMX)"
)
def test_weights_are_packed_unless_that_is_not_wanted(folder: Path) -> None:
    for wanted in (True, False):
        backbone = Pipeline.load(folder, packed=wanted).backbone
        layers = [layer for layer in backbone.modules() if isinstance(layer, Linear)]
        assert len(layers) > 20
        assert all(layer.packed == wanted for layer in layers)


def test_half_precision_prefers_its_own_files(copy: Path) -> None:
    """Which differ here, to be told apart."""
    path = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    halved = {name: tensor.half() * 0.5 for name, tensor in load_file(path).items()}
    save_file(halved, path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    factors: dict[Precision, float] = {"fp32": 1.0, "fp16": 0.5}
    for precision, factor in factors.items():
        expected = load_file(path)["encoder_proj.weight"] * factor
        assert torch.allclose(_projection(copy, precision).float(), expected, rtol=1e-3)
    path.unlink()
    assert _projection(copy, "fp32").dtype == torch.float32


def _projection(folder: Path, precision: Precision) -> Tensor:
    """One of the transformer's weights, as it is loaded."""
    return AMUSED.load(folder, "cpu", precision).backbone.get_parameter(
        "transformer.encoder_proj.weight"
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_listed_files_are_all_that_is_read(
    folders: Path, tmp_path: Path, precision: Precision
) -> None:
    folder = folders / "plain"
    for name, stem in (("text_encoder", "model"), *((n, "diffusion_pytorch_model") for n in _NETS)):
        whole = folder / name / f"{stem}.safetensors"
        half = {key: tensor.half() for key, tensor in load_file(whole).items()}
        (tmp_path / "all" / name).mkdir(parents=True)
        save_file(half, tmp_path / "all" / name / f"{stem}.fp16.safetensors")
    shutil.copytree(folder, tmp_path / "all", dirs_exist_ok=True)
    for pattern in AMUSED.files(precision):
        for path in (tmp_path / "all").glob(pattern):
            kept = tmp_path / "kept" / path.relative_to(tmp_path / "all")
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, kept)
    assert AMUSED.recognises(tmp_path / "kept")
    AMUSED.load(tmp_path / "kept", "cpu", precision)
    weights = list((tmp_path / "kept").rglob("*.safetensors"))
    assert len(weights) == 3
    assert all((".fp16." in path.name) == (precision == "fp16") for path in weights)


_NETS = ("transformer", "vqvae")


@pytest.mark.parametrize(
    "name",
    [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vqvae/config.json",
        "vqvae/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_spoiled_file_is_named(copy: Path, name: str) -> None:
    """Missing, cut short, or something else than its name says: a pickle, which is never read."""
    path = copy / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=path.name):
        AMUSED.load(copy, "cpu", "fp32")
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=path.name):
        AMUSED.load(copy, "cpu", "fp32")
    path.unlink()
    with pytest.raises(ConfigError, match=path.name):
        AMUSED.load(copy, "cpu", "fp32")


@pytest.mark.parametrize("name", _NETS)
def test_tensors_that_do_not_fit_are_named(copy: Path, name: str) -> None:
    path = copy / name / "diffusion_pytorch_model.safetensors"
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
            AMUSED.load(copy, "cpu", "fp32")


@pytest.mark.parametrize(
    ("name", "field", "value", "told"),
    [
        ("scheduler/scheduler_config.json", "mask_token_id", 3, "mask_token_id"),
        ("transformer/config.json", "use_bias", True, "use_bias"),
        ("transformer/config.json", "hidden_size", "8", "hidden_size"),
        ("transformer/config.json", "num_hidden_layers", 0, "num_hidden_layers"),
        ("transformer/config.json", "num_attention_heads", 3, "num_attention_heads"),
        ("transformer/config.json", "codebook_size", 31, "codebook_size"),
        ("transformer/config.json", "encoder_hidden_size", 9, "encoder_hidden_size"),
        ("transformer/config.json", "cond_embed_dim", 9, "cond_embed_dim"),
        ("transformer/config.json", "micro_cond_embed_dim", 11, "micro_cond_embed_dim"),
        ("text_encoder/config.json", "vocab_size", 500, "text tokens|embedding"),
        ("text_encoder/config.json", "max_position_embeddings", 50, "max_position_embeddings"),
    ],
)
def test_configurations_that_do_not_fit_are_told(
    copy: Path, name: str, field: str, value: object, told: str
) -> None:
    settings = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(settings | {field: value}))
    with pytest.raises(ConfigError, match=told):
        AMUSED.load(copy, "cpu", "fp32")


def test_only_its_own_pipelines_are_recognised(copy: Path, tmp_path: Path) -> None:
    index = copy / "model_index.json"
    for name, known in (
        ("AmusedPipeline", True),
        ("AmusedInpaintPipeline", True),
        ("AmusedImg2ImgPipeline", True),
        ("StableDiffusionPipeline", False),
        (["AmusedPipeline"], False),
    ):
        index.write_text(json.dumps({"_class_name": name}))
        assert AMUSED.recognises(copy) == known
    index.write_text("{")
    assert not AMUSED.recognises(copy)
    assert not AMUSED.recognises(tmp_path)


def test_too_long_a_prompt_is_refused_before_it_is_drawn(folders: Path) -> None:
    with pytest.raises(RequestError, match="76 text tokens") as caught:
        _pipeline(folders / "plain").request("x " * 76)
    assert caught.value.param == "prompt"
