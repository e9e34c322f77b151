"""Native transformers as folders: ``config.json``, ``model.safetensors`` and what the condition
needs.
"""

from pathlib import Path

from unmask import config
from unmask.checkpoint import load_weights, save_folder
from unmask.errors import ConfigError
from unmask.models.conditions import ConditionEncoder, LabelCondition, NoCondition, TextCondition
from unmask.models.native import NativeConfig, NativeTransformer


def save_native(
    model: NativeTransformer, condition: ConditionEncoder, folder: Path, half: bool = True
) -> None:
    """Write a transformer with its condition encoder, in fp16 unless ``half`` is false."""
    save_folder(model, model.config, folder, half)
    condition.save(folder)


def load_native(folder: Path, device: str = "cpu") -> tuple[NativeTransformer, ConditionEncoder]:
    """Read a transformer in fp32 and its condition encoder; ConfigError names the file at fault."""
    settings = config.load(NativeConfig, folder / "config.json")
    model = NativeTransformer(settings)
    load_weights(model, folder / "model.safetensors")
    condition = load_condition(settings, folder)
    if condition.vocabulary > settings.vocabulary:
        raise ConfigError(
            f"{folder}: the condition has {condition.vocabulary} ids, "
            f"the model embeds {settings.vocabulary}"
        )
    return model.to(device).eval().requires_grad_(False), condition


def load_condition(settings: NativeConfig, folder: Path) -> ConditionEncoder:
    """The condition encoder that belongs to a configuration."""
    if settings.condition == "text":
        return TextCondition.load(folder, settings.condition_length)
    if settings.condition == "label":
        return LabelCondition.load(folder)
    return NoCondition()
