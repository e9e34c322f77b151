"""What a request costs, before any of it is drawn."""

from dataclasses import dataclass

from unmask.editing import masked_cells, plan_windows
from unmask.pipeline import Pipeline, Request


@dataclass(frozen=True)
class Cost:
    """The size of a request: its images, the windows of each, and what a window takes."""

    images: int = 1
    windows: int = 1  # of each image, one after another
    steps: int = 1  # of each window
    tokens: int = 1  # of each window
    passes: float = 1.0  # of the backbone over a window, all steps together
    parameters: int = 1  # of the model

    @property
    def chain(self) -> int:
        """Steps that must follow one another: those of one image."""
        return self.windows * self.steps

    @property
    def all_steps(self) -> int:
        """Steps of all images together."""
        return self.chain * self.images

    @property
    def drawn_tokens(self) -> int:
        """Tokens of all windows of all images."""
        return self.tokens * self.windows * self.images

    @property
    def work(self) -> float:
        """Tokens times passes, of all of it."""
        return self.drawn_tokens * self.passes

    @property
    def charge(self) -> float:
        """What a key is charged: work, the more the larger the model is."""
        return self.work * self.parameters


def weigh(pipeline: Pipeline, request: Request) -> Cost:
    """The cost of a request; of a large edit this takes a while, so call it in a thread."""
    windows = 1
    if request.edit is not None:
        masked = masked_cells(request.edit, pipeline.tokenizer.patch, pipeline.info.grid)
        windows = len(plan_windows(masked, pipeline.info.grid))
    plan = pipeline.plan(request)
    return Cost(
        images=request.n,
        windows=windows,
        steps=len(plan.steps),
        tokens=plan.tokens,
        passes=plan.passes,
        parameters=pipeline.info.parameters,
    )
