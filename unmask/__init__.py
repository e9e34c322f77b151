"""Unmask: masked generative image synthesis as a library and a service.

``unmask.Pipeline`` is loaded on first use: importing this package alone loads no torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unmask.pipeline import Pipeline

__all__ = ["Pipeline", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "Pipeline":
        from unmask.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
