"""aMUSEd against diffusers' pipeline: ``python -m benchmarks.amused [--size 256] [--out FILE]``.

Both hold the same random weights of the published sizes, in memory, and draw the same prompts in
turns, so that a noisy machine is fair to both; the median of the rounds is told, and how many times
quicker than diffusers it is. No prompt comes twice, so encoding it is always in (ours keeps the
null one); ``tokens`` leaves the decoder out. Freed memory is kept for both, as our commands do.
``reuse`` and ``interval`` are ours alone: local passes in the second half of the steps, and
guidance in the middle half of them. Peak memory is that of a process of its own for each.
"""

import argparse
import contextlib
import copy
import io
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn

from unmask.checkpoint import DTYPES
from unmask.devices import Precision, keep_freed_memory
from unmask.families.amused import AMUSED
from unmask.models.amused import AmusedConfig, AmusedTransformer
from unmask.models.clip import ClipCondition
from unmask.models.clip_backbone import ClipBackbone
from unmask.models.linear import pack
from unmask.pipeline import Pipeline
from unmask.sampling.generate import all_masked, generate_tokens
from unmask.tokenizers.diffusers_vq import DiffusersVQ, DiffusersVQConfig

PROMPTS = (f"a small house by a lake in autumn, number {i}, oil on canvas" for i in count())
TRANSFORMER: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 22,
    "num_attention_heads": 16,
    "intermediate_size": 2816,
    "in_channels": 768,
    "block_out_channels": 768,
    "block_num_heads": 12,
    "num_res_blocks": 3,
    "encoder_hidden_size": 768,
    "cond_embed_dim": 768,
    "micro_cond_encode_dim": 256,
    "micro_cond_embed_dim": 1280,
    "vocab_size": 8256,
    "codebook_size": 8192,
}
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
CHANNELS = (128, 256, 256, 512, 768)
SIZES: dict[str, dict[str, Any]] = {
    "256": TRANSFORMER | {"sample_size": 16, "downsample": False, "upsample": False},
    "512": TRANSFORMER | {"sample_size": 32, "downsample": True, "upsample": True},
    "tiny": TRANSFORMER
    | {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
    | {"in_channels": 32, "block_out_channels": 32, "block_num_heads": 2, "codebook_size": 256}
    | {"num_attention_heads": 4, "encoder_hidden_size": 32, "cond_embed_dim": 32}
    | {"vocab_size": 320, "sample_size": 16, "downsample": False, "upsample": False},
}
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "reuse": {"reuse": 2, "reuse_after": 0.5},
    "interval": {"guidance": "interval", "guidance_interval": (0.25, 0.75)},
    "reuse + interval": {
        "reuse": 2,
        "reuse_after": 0.5,
        "guidance": "interval",
        "guidance_interval": (0.25, 0.75),
    },
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """diffusers warns that its pipeline is deprecated."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def random_weights(module: nn.Module) -> nn.Module:
    """Such that the numbers keep their size from layer to layer."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    return module.eval().requires_grad_(False)


def text_side(size: str) -> tuple[Any, Any]:
    """CLIP's text tokenizer, without merges, and its encoder."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    width = SIZES[size]["encoder_hidden_size"]
    sizes = TEXT if size != "tiny" else {"hidden_size": width, "num_hidden_layers": 2}
    settings = CLIPTextConfig(
        vocab_size=49408 if size != "tiny" else len(vocabulary),
        num_attention_heads=width // 32 if size == "tiny" else 12,
        projection_dim=SIZES[size]["cond_embed_dim"],
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        **sizes,
    )
    encoder = random_weights(CLIPTextModelWithProjection(settings))
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77), encoder


def vq_settings(size: str) -> dict[str, Any]:
    channels = CHANNELS if size != "tiny" else (32, 32, 32, 32, 32)
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "layers_per_block": 2,
        "latent_channels": 64,
        "num_vq_embeddings": SIZES[size]["codebook_size"],
        "norm_num_groups": 32,
        "mid_block_add_attention": False,
        "lookup_from_codebook": True,
    }


def ours(size: str, precision: Precision, device: str) -> Pipeline:
    """Our pipeline with random weights."""
    dtype = DTYPES[precision]
    names = {field.name for field in fields(AmusedConfig)}
    settings = AmusedConfig(**{k: v for k, v in SIZES[size].items() if k in names})
    with torch.device("meta"):
        transformer = AmusedTransformer(settings).to(dtype)
        tokenizer = DiffusersVQ(DiffusersVQConfig(**vq_settings(size)))
    text_tokenizer, text_encoder = text_side(size)
    for module in (transformer, tokenizer):
        random_weights(module.to_empty(device=device))
    if precision in ("bf16", "int8"):
        tokenizer.decoder.use_bf16()  # as ``DiffusersVQ.load`` does
    mask_id = settings.vocab_size - 1
    backbone = ClipBackbone(
        transformer, text_encoder.to(device, dtype), mask_id, tokenizer.patch
    ).eval()
    card = AMUSED.card(Path(), f"amused-{size}")
    return Pipeline(card, tokenizer, backbone, ClipCondition(text_tokenizer))


def quicken(pipeline: Pipeline, precision: Precision) -> None:
    """What ``Pipeline.load`` does to a backbone that it has read."""
    if precision == "int8":
        pipeline.backbone.use_eight_bits()
    else:
        pack(pipeline.backbone)


def theirs(size: str, precision: Precision, device: str, twin: Pipeline | None = None) -> Any:
    """diffusers' pipeline, with the weights of ``twin`` or with random ones; in bf16 beside eight
    bits, which it has not."""
    with quiet():
        from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel

        dtype = torch.bfloat16 if precision == "int8" else DTYPES[precision]
        with torch.device("meta"):
            transformer = UVit2DModel(**SIZES[size]).to(dtype)
            vq = VQModel(**vq_settings(size), force_upcast=True).to(dtype)
        if twin is None:
            text_tokenizer, text_encoder = text_side(size)
            for module in (transformer, vq):
                random_weights(module.to_empty(device=device))
        else:
            assert isinstance(twin.backbone, ClipBackbone)
            assert isinstance(twin.condition, ClipCondition)
            text_tokenizer = twin.condition.tokenizer
            text_encoder = copy.deepcopy(twin.backbone.text_encoder)
            network = twin.backbone.transformer.state_dict()
            alike = {key: tensor.to(dtype) for key, tensor in network.items()}
            transformer.load_state_dict(alike, assign=True)
            same = {key: tensor.to(dtype) for key, tensor in twin.tokenizer.state_dict().items()}
            vq.load_state_dict(same, assign=True)
        scheduler = AmusedScheduler(mask_token_id=SIZES[size]["vocab_size"] - 1)
        pipeline = AmusedPipeline(
            vq.eval(), text_tokenizer, text_encoder.to(device, dtype), transformer.eval(), scheduler
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def draw_ours(pipeline: Pipeline, steps: int, batch: int, **options: Any) -> Callable[[bool], None]:
    """Draws a batch, of images or of tokens only."""
    rows, columns = pipeline.info.grid

    @torch.inference_mode()
    def draw(decode: bool) -> None:
        prompts = [next(PROMPTS) for _ in range(batch)]
        requests = [
            pipeline.request(prompt, seed=seed, steps=steps, **options)
            for seed, prompt in enumerate(prompts)
        ]
        if decode:
            pipeline.draw_batch(requests)
            return
        plans = [pipeline.plan(request) for request in requests]
        blank = all_masked(batch, rows * columns, pipeline.backbone.mask_id, pipeline.device)
        generate_tokens(pipeline.backbone, pipeline.encode(requests), plans, blank)

    return draw


def draw_theirs(pipeline: Any, steps: int, batch: int) -> Callable[[bool], None]:
    def draw(decode: bool) -> None:
        kind = "pil" if decode else "latent"
        prompts = [next(PROMPTS) for _ in range(batch)]
        pipeline(prompts, num_inference_steps=steps, output_type=kind)

    return draw


def seconds(draw: Callable[[bool], None], decode: bool, device: str) -> float:
    began = time.perf_counter()
    draw(decode)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak(who: str, options: argparse.Namespace, precision: Precision, batch: int) -> int:
    """Bytes that drawing a batch takes at most, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.amused", "--measure", who]
    command += ["--size", options.size, "--device", options.device, "--steps", "2"]
    command += ["--precision", precision, "--batch", str(batch)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(options: argparse.Namespace) -> int:
    """What ``peak`` asks of its process."""
    (precision,), (batch,) = options.precision, options.batch
    if options.measure == "ours":
        pipeline = ours(options.size, precision, options.device)
        quicken(pipeline, precision)
        draw = draw_ours(pipeline, options.steps, batch)
    else:
        draw = draw_theirs(theirs(options.size, precision, options.device), options.steps, batch)
    if options.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        draw(True)
        return torch.cuda.max_memory_allocated()
    # The high-water mark of building the models is forgotten first. getrusage would not do: what it
    # tells survives exec, and so is the parent's, which holds both.
    Path("/proc/self/clear_refs").write_text("5")
    draw(True)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def compare(options: argparse.Namespace, precision: Precision) -> Iterator[dict[str, Any]]:
    """A line of results for each batch size, setting, and what is drawn."""
    pipeline = ours(options.size, precision, options.device)
    reference = theirs(options.size, precision, options.device, pipeline)
    quicken(pipeline, precision)
    if options.compile:
        assert isinstance(pipeline.backbone, ClipBackbone)
        pipeline.backbone.transformer.full = torch.compile(pipeline.backbone.transformer.full)  # type: ignore[method-assign]
        reference.transformer.compile()
    for batch in options.batch:
        draws = {"diffusers": draw_theirs(reference, options.steps, batch)} | {
            name: draw_ours(pipeline, options.steps, batch, **setting)
            for name, setting in OURS.items()
            if name in options.settings
        }
        for decode in (False, True):
            rounds = [
                {name: seconds(draw, decode, options.device) for name, draw in draws.items()}
                for _ in range(options.repeats + 1)
            ][1:]  # the first warms up
            medians = {name: statistics.median(timed[name] for timed in rounds) for name in draws}
            for name, median in medians.items():
                yield {
                    "precision": precision,
                    "batch": batch,
                    "drawn": "images" if decode else "tokens",
                    "setting": name,
                    "seconds_an_image": median / batch,
                    "times_quicker": medians["diffusers"] / median,
                    "rounds": [timed[name] for timed in rounds],
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="256")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--precision", nargs="+", choices=list(DTYPES), default=["fp32"])
    parser.add_argument("--settings", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="both networks, by torch.compile")
    parser.add_argument("--out", type=Path, help="a JSON file for all numbers")
    parser.add_argument("--write", type=Path, help="only write diffusers' folder, to be served")
    parser.add_argument("--measure", choices=["ours", "diffusers"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(0)
    keep_freed_memory()
    if options.measure:
        print(measure(options))
        return
    if options.write:
        theirs(options.size, options.precision[0], "cpu").save_pretrained(options.write)
        return
    machine = {
        "size": options.size,
        "steps": options.steps,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "compile": options.compile,
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    lines, peaks = [], []
    for precision in options.precision:
        for line in compare(options, precision):
            lines.append(line)
            print(
                f"{precision}  batch {line['batch']:3}  {line['drawn']:6}  {line['setting']:17}"
                f"{line['seconds_an_image']:9.4f} s an image  {line['times_quicker']:5.2f}",
                flush=True,
            )
        for batch in options.batch:
            found = {who: peak(who, options, precision, batch) for who in ("diffusers", "ours")}
            peaks.append({"precision": precision, "batch": batch} | found)
            told = ", ".join(f"{who} {count / 2**20:.0f} MiB" for who, count in found.items())
            print(f"{precision}  batch {batch:3}  peak memory: {told}", flush=True)
    if options.out:
        result = {"machine": machine, "times": lines, "peak_bytes": peaks}
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
