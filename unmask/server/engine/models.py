"""The models of an engine: loaded when they are asked for, put away when memory is short."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable

from unmask.errors import NotFoundError, UnavailableError, choices
from unmask.pipeline import ModelInfo, Pipeline

log = logging.getLogger(__name__)


class ModelStore:
    """Models by name, a copy of each for every worker; any thread may ask.

    ``load(name, device)`` makes one. ``budget`` bounds the bytes of all weights together (0: no
    bound): the model that was asked for longest ago and that nobody uses (``used``) goes first.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        devices: dict[str, str],
        load: Callable[[str, str], Pipeline],
        budget: int,
        used: Callable[[str], bool],
    ) -> None:
        self.names, self.devices, self.budget = names, devices, budget
        self._load, self._used = load, used
        self._copies: OrderedDict[str, dict[str, Pipeline]] = OrderedDict()
        self.infos: dict[str, ModelInfo] = {}
        self._lock = threading.RLock()

    def find(self, name: str, worker: str) -> Pipeline:
        """A worker's copy of a model, loaded now if it is not yet.

        NotFoundError lists the models; UnavailableError if those in use leave no room.
        """
        served = self._served_names()
        known = {**{each: each for each in self.names}, **served}
        if name not in known:
            # Not the operator's own names for them, which may be folders.
            raise NotFoundError(
                f"there is no model {name[:64]!r}: {choices(name[:64], served)}", "model"
            )
        with self._lock:
            copies = self._copies.get(known[name]) or self._load_all(known[name])
            self._copies.move_to_end(known[name])
            return copies[worker]

    def loaded(self) -> dict[str, int]:
        """Bytes of weights of each model that is loaded, over all workers."""
        with self._lock:
            return {
                next(iter(copies.values())).info.name: sum(map(weight, copies.values()))
                for copies in self._copies.values()
            }

    def first(self) -> Pipeline | None:
        """The default model, if it is loaded."""
        copies = self._copies.get(self.names[0])
        return next(iter(copies.values())) if copies else None

    def _served_names(self) -> dict[str, str]:
        """From the names that models have to the names or folders that they were asked for by."""
        return {info.name: asked for asked, info in self._known.items()}

    @property
    def _known(self) -> dict[str, ModelInfo]:
        return {asked: self.infos[asked] for asked in self.names if asked in self.infos}

    def _load_all(self, name: str) -> dict[str, Pipeline]:
        copies = {worker: self._load(name, device) for worker, device in self.devices.items()}
        needed = sum(map(weight, copies.values()))
        for other in list(self._copies):
            if not self.budget or needed + sum(self.loaded().values()) <= self.budget:
                break
            if not self._used(next(iter(self._copies[other].values())).info.name):
                log.info("putting away model %s", other)
                del self._copies[other]
        if self.budget and needed + sum(self.loaded().values()) > self.budget:
            raise UnavailableError(
                f"model {name!r} needs {needed} bytes, and those in use leave less of "
                f"{self.budget}: try again later"
            )
        self._copies[name] = copies
        self.infos[name] = next(iter(copies.values())).info
        return copies


def weight(pipeline: Pipeline) -> int:
    """The bytes of a pipeline's weights."""
    modules = (pipeline.backbone, pipeline.tokenizer)
    return sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
