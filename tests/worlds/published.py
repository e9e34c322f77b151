"""Miniature published folders with random weights, written by the libraries that publish them."""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn

from tests.models.fixtures.make_meissonic import CONFIG, uniform_weights
from unmask.models.meissonic import MeissonicConfig, MeissonicTransformer

SIDE = 8  # tokens along a side of a picture
PATCH = 2  # pixels along a side of a token
VOCABULARY = 64
CODEBOOK = 32
MASK = VOCABULARY - 1
M = TypeVar("M", bound=nn.Module)
STEM = "diffusion_pytorch_model"
MEISSONIC = CONFIG | {"vocab_size": VOCABULARY, "codebook_size": CODEBOOK}
TRANSFORMER = {
    "hidden_size": 8,
    "use_bias": False,
    "hidden_dropout": 0.0,
    "cond_embed_dim": 8,
    "micro_cond_encode_dim": 2,
    "micro_cond_embed_dim": 10,
    "encoder_hidden_size": 8,
    "vocab_size": VOCABULARY,
    "codebook_size": CODEBOOK,
    "in_channels": 8,
    "block_out_channels": 8,
    "num_res_blocks": 1,
    "block_num_heads": 1,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "attention_dropout": 0.0,
    "intermediate_size": 8,
    "layer_norm_eps": 1e-6,
    "ln_elementwise_affine": True,
    "sample_size": SIDE,
}
VQ = {
    "act_fn": "silu",
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 8,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "num_vq_embeddings": CODEBOOK,
    "sample_size": SIDE,
    "mid_block_add_attention": False,
    "lookup_from_codebook": True,
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries warn of and print: that their aMUSEd is deprecated, mostly."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def shaken(module: M) -> M:
    """The module with every parameter overwritten: nothing keeps a tidy first value that would
    hide a slip, and each token and each word sways the logits."""
    for parameter in module.parameters():
        width = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data.normal_(0, 1.5 * width**-0.5)
    return module.eval().requires_grad_(False)


def text_vocabulary() -> dict[str, int]:
    """CLIP's smallest: each byte within a word and at its end, a start and an end token."""
    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    return {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


def write_clip(folder: Path, width: int = 8, projection: int = 8, layers: int = 2) -> None:
    """``tokenizer/`` and ``text_encoder/``."""
    with quiet():
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

        vocabulary = text_vocabulary()
        tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
        tokenizer.save_pretrained(folder / "tokenizer")
        settings = CLIPTextConfig(
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=1,
            hidden_size=width,
            intermediate_size=8,
            num_hidden_layers=layers,
            num_attention_heads=1,
            projection_dim=projection,
            vocab_size=len(vocabulary),
        )
        encoder = shaken(CLIPTextModelWithProjection(settings))
        encoder.save_pretrained(folder / "text_encoder")


def write_vq(folder: Path, **changes: object) -> None:
    """A ``vqvae/``, at ``folder`` itself."""
    with quiet():
        from diffusers import VQModel

        model = shaken(VQModel(**VQ | changes))
        model.decoder.conv_out.weight *= 0.1  # or most pixels would be clipped
        model.decoder.conv_out.bias.fill_(0.5)
        model.save_pretrained(folder)


def write_amused(folder: Path, down_up: bool, seed: int = 0, **changes: object) -> None:
    """An aMUSEd as its pipeline's ``save_pretrained`` writes it, which draws 16 x 16 pixels.

    ``down_up`` compresses the grid, as aMUSEd-512 does; ``changes`` are fields of the transformer.
    """
    torch.manual_seed(seed)
    write_clip(folder)
    write_vq(folder / "vqvae")
    with quiet():
        from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        settings = TRANSFORMER | {"downsample": down_up, "upsample": down_up} | changes
        pipeline = AmusedPipeline(
            VQModel.from_pretrained(folder / "vqvae"),
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder"),
            shaken(UVit2DModel(**settings)),
            AmusedScheduler(mask_token_id=VOCABULARY - 1),
        )
        pipeline.save_pretrained(folder)


def write_meissonic(folder: Path, compressed: bool) -> None:
    """Names of the index and configurations as they are published, ``sample_size`` added."""
    torch.manual_seed(0)
    write_clip(folder, MEISSONIC["joint_attention_dim"], MEISSONIC["pooled_projection_dim"])
    write_vq(folder / "vqvae")
    sizes = MEISSONIC | {"downsample": compressed, "upsample": compressed, "sample_size": SIDE}
    network = MeissonicTransformer(MeissonicConfig(**sizes))
    (folder / "transformer").mkdir()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    save_file(uniform_weights(shapes), folder / "transformer" / f"{STEM}.safetensors")
    classes = {"_class_name": "Transformer2DModel", "in_channels": 64, "guidance_embeds": False}
    write_json(folder / "transformer" / "config.json", sizes | classes)
    scheduler = {"_class_name": "Scheduler", "mask_token_id": MASK, "masking_schedule": "cosine"}
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "model_index.json", {"_class_name": "Pipeline"})


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")
