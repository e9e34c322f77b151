import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worlds.published import quiet, write_vq
from unmask.errors import ConfigError
from unmask.tokenizers.diffusers_vq import DiffusersVQ, DiffusersVQConfig

# aMUSEd's own sizes are below; this has what a slip would show in: channels that change and stay.
STAGES: dict[str, Any] = {
    "block_out_channels": [8, 8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 2,
}


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vqvae")
    write_vq(folder, **STAGES)
    return folder


def _spoil(folder: Path, target: Path, **changes: object) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(settings | changes))


def test_tokens_and_pixels_are_those_of_diffusers(folder: Path) -> None:
    with quiet():
        from diffusers import VQModel

        reference = VQModel.from_pretrained(folder)
    ours = DiffusersVQ.load(folder)
    images = torch.rand(3, 3, 32, 48)
    latents = reference.encode(images).latents
    expected = reference.quantize(latents)[2][2].view(3, 8, 12)
    tokens = ours.encode(images)
    assert torch.equal(tokens, expected)
    assert len(torch.unique(tokens)) > 4
    anything = torch.randint(ours.codebook_size, (3, 8, 12))
    decoded = reference.decode(anything, force_not_quantize=True, shape=(3, 8, 12, 8)).sample
    assert decoded.std() > 0.05
    assert torch.equal(ours.decode(anything), decoded.clip(0, 1))


def test_it_has_the_size_and_the_tensors_of_amused() -> None:
    settings = DiffusersVQConfig(
        block_out_channels=(128, 256, 256, 512, 768),
        layers_per_block=2,
        latent_channels=64,
        num_vq_embeddings=8192,
        norm_num_groups=32,
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    with torch.device("meta"):
        tokenizer = DiffusersVQ(settings)
    assert sum(p.numel() for p in tokenizer.parameters()) == 146_244_675
    assert len(tokenizer.state_dict()) == 277
    assert (tokenizer.codebook_size, tokenizer.patch) == (8192, 16)


def test_another_width_of_the_codebook_is_read(tmp_path: Path) -> None:
    write_vq(tmp_path, vq_embed_dim=5)
    tokenizer = DiffusersVQ.load(tmp_path)
    tokens = tokenizer.encode(torch.rand(1, 3, 8, 8))
    assert tokenizer.decode(tokens).shape == (1, 3, 8, 8)


def test_half_precision_files_are_computed_in_fp32(folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    half = {name: tensor.half() for name, tensor in state.items()}
    save_file(half, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    _spoil(folder, tmp_path)
    tokenizer = DiffusersVQ.load(tmp_path, "fp16")
    assert {p.dtype for p in tokenizer.parameters()} == {torch.float32}
    assert tokenizer.decode(torch.zeros(1, 2, 2, dtype=torch.long)).dtype == torch.float32


def test_bf16_changes_pixels_a_little_and_tokens_not_at_all(folder: Path) -> None:
    plain, quick = DiffusersVQ.load(folder), DiffusersVQ.load(folder, "bf16")
    images = torch.rand(2, 3, 32, 32)
    tokens = plain.encode(images)
    assert torch.equal(quick.encode(images), tokens)
    pixels = quick.decode(tokens)
    assert pixels.dtype == torch.float32
    off = (pixels - plain.decode(tokens)).abs()
    assert 0 < off.max() < 0.05
    assert off.mean() < 2 / 255


def test_images_must_be_whole_tokens(folder: Path) -> None:
    with pytest.raises(ConfigError, match="30x32: sides must be multiples of 4"):
        DiffusersVQ.load(folder).encode(torch.rand(1, 3, 32, 30))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm_type", "spatial"),
        ("act_fn", "gelu"),
        ("mid_block_add_attention", True),
        ("lookup_from_codebook", False),
        ("down_block_types", ["DownEncoderBlock2D"] * 2 + ["AttnDownEncoderBlock2D"]),
        ("up_block_types", ["UpDecoderBlock2D"] * 2),
        ("block_out_channels", []),
        ("block_out_channels", [8, 8, 15]),
        ("norm_num_groups", 0),
        ("num_vq_embeddings", 10**9),
        ("layers_per_block", 10**4),
        ("in_channels", 4),
    ],
)
def test_what_cannot_be_computed_is_named(
    folder: Path, tmp_path: Path, field: str, value: object
) -> None:
    _spoil(folder, tmp_path, **{field: value})
    with pytest.raises(ConfigError, match=rf"config\.json.*{field}"):
        DiffusersVQ.load(tmp_path)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: no such file"):
        DiffusersVQ.load(tmp_path)
    _spoil(folder, tmp_path)
    with pytest.raises(ConfigError, match=r"diffusion_pytorch_model\.safetensors: no such file"):
        DiffusersVQ.load(tmp_path)
    for spoiled, told in (("[]", "expected a table"), ("{", "cannot be read"), ("{}", "missing")):
        (tmp_path / "config.json").write_text(spoiled)
        with pytest.raises(ConfigError, match=told):
            DiffusersVQ.load(tmp_path)
