"""The models in the box."""

from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"


def available_models() -> list[str]:
    """The names of the models in the box."""
    return sorted(folder.parent.name for folder in BUNDLED.glob("*/model.json"))


def draws_clips(name: str) -> bool:
    """Whether a model in the box draws clips: it has a decoder of the frames between key frames."""
    return (BUNDLED / name / "slots").is_dir()
