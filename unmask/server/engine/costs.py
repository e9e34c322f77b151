"""Requests before any of them is drawn: for which model, and what each costs."""

from dataclasses import dataclass

from unmask.pipeline import DrawRequest, Pipeline, PreparedRequest


@dataclass(frozen=True)
class OpenedModel:
    """A model to be asked for its ``info``, ``request`` and ``plan``, and the key of the engine's
    copies of it, which draw."""

    key: str
    pipeline: Pipeline


@dataclass(frozen=True)
class Cost:
    """The size of a request: its images, the windows of each, and what a window takes."""

    images: int = 1
    windows: int = 1  # of each image
    depth: int = 1  # of those, how many must follow one another
    steps: int = 1  # of each window
    tokens: int = 1  # of each window
    passes: float = 1.0  # of the backbone over a window, all steps together
    parameters: int = 1  # of the model

    @property
    def image_steps(self) -> int:
        """Steps of one image, of all its windows together."""
        return self.windows * self.steps

    @property
    def all_steps(self) -> int:
        """Steps of all images together."""
        return self.image_steps * self.images

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


@dataclass(frozen=True, eq=False)
class WeighedRequest:
    """A request that is ready to be drawn, by which model, and its cost."""

    model: OpenedModel
    prepared: PreparedRequest
    cost: Cost

    @property
    def request(self) -> DrawRequest:
        """The request itself."""
        return self.prepared.request


def weigh(model: OpenedModel, request: DrawRequest) -> WeighedRequest:
    """Prepare a request and reckon its cost; for a large edit both take a while."""
    pipeline = model.pipeline
    prepared, plan = pipeline.prepare(request), pipeline.plan(request)
    cost = Cost(
        images=request.n,
        windows=prepared.windows,
        depth=_depth(prepared),
        steps=len(plan.steps),
        tokens=plan.tokens,
        passes=plan.passes,
        parameters=pipeline.info.parameters,
    )
    return WeighedRequest(model, prepared, cost)


def _depth(prepared: PreparedRequest) -> int:
    """How many windows of an image must follow one another at least."""
    if prepared.edit is None:
        return prepared.windows  # of a clip, each of which goes on from the one before
    plan = prepared.edit.plan
    depths = [1] * len(plan.corners)
    for part, followers in enumerate(plan.followers):  # which all come later in the order
        for follower in followers:
            depths[follower] = max(depths[follower], depths[part] + 1)
    return max(depths, default=1)
