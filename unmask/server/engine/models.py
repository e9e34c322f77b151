"""The models of an engine: loaded when they are asked for, put away when memory is short."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from unmask.errors import ConfigError, NotFoundError, UnavailableError, UnmaskError, choices
from unmask.pipeline import ModelInfo, Pipeline
from unmask.server.engine.costs import OpenedModel
from unmask.server.engine.status import ModelState, ModelStatus
from unmask.server.engine.threads import run_in_thread_that_ends

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0  # after which a model that could not be loaded is tried again


class ModelSource(Protocol):
    """Where models come from. A key is what the operator calls one: a bundled name, a folder, or a
    hub's OWNER/NAME. ``size`` and ``load`` take long, and are called in threads."""

    def name(self, key: str) -> str:
        """The name that a model gives itself, read without its weights; UnmaskError if it is
        broken."""
        ...

    def size(self, key: str) -> int:
        """The bytes that the weights of a copy will take, read without them."""
        ...

    def load(self, key: str, device: str) -> Pipeline:
        """A copy of the model on a device."""
        ...


@dataclass(eq=False)
class _Slot:
    """All that is kept of one model."""

    key: str
    name: str
    state: ModelState = ModelState.ABSENT
    reason: str = ""
    retry_at: float = 0.0
    asked_at: float = 0.0
    bytes: int = 0  # of all copies; what they are expected to be, while they are being loaded
    copies: Mapping[str, Pipeline] = field(default_factory=dict)  # by worker
    info: ModelInfo | None = None
    loading: "asyncio.Task[None] | None" = None
    loads: int = 0


class ModelStore:
    """A slot for each model, and a copy for each worker in the slots of those that are loaded.

    Slots change in the event loop only, and no change waits for anything: while one model is being
    loaded, all others are at hand. Workers look their copies up from their own threads.
    ``budget`` bounds the bytes of all weights together (0: no bound): room is made before a model
    is loaded, and the one that was asked for longest ago and that nobody uses goes first.
    ConfigError if two models have one name.
    """

    def __init__(
        self,
        keys: tuple[str, ...],
        devices: dict[str, str],
        source: ModelSource,
        budget: int,
        is_used: Callable[[str], bool],
    ) -> None:
        self.devices, self.budget = devices, budget
        self._source, self._is_used = source, is_used
        self._slots = {key: self._described(key) for key in keys}
        self._default = keys[0]
        for slot in self._slots.values():
            self._check_name(slot, slot.name)

    def copy(self, key: str, worker: str) -> Pipeline:
        """A worker's copy of a model that is in use, so it is there."""
        return self._slots[key].copies[worker]

    def statuses(self) -> list[ModelStatus]:
        """All models, the default one first."""
        return [
            ModelStatus(slot.name, slot.state, slot.reason, slot.info)
            for slot in self._slots.values()
        ]

    def loaded_bytes(self) -> dict[str, int]:
        """Bytes of weights of each model that is loaded, over all workers."""
        return {slot.name: slot.bytes for slot in self._slots.values() if slot.copies}

    def loads(self) -> dict[str, int]:
        """How often each model was loaded: more than once, if it was put away in between."""
        return {slot.name: slot.loads for slot in self._slots.values()}

    def names(self) -> dict[str, str]:
        """The name of each model by its key."""
        return {key: slot.name for key, slot in self._slots.items()}

    async def open(self, name: str | None = None) -> OpenedModel:
        """The model of a name (None: the default one), loaded now if it is not.

        NotFoundError lists the models. UnavailableError if those in use leave no room, or if it
        could not be loaded; it is tried again after ``RETRY_SECONDS``.
        """
        return await self.reopen(self._default if name is None else self._key(name))

    async def reopen(self, key: str) -> OpenedModel:
        """As ``open``, by key."""
        slot = self._slots[key]
        slot.asked_at = time.monotonic()
        while not slot.copies:
            if slot.loading is None:
                self._check_retry(slot)
                slot.state = ModelState.LOADING
                slot.loading = asyncio.create_task(self._load(slot))
                # Heard here too, for all who wait may leave before it fails.
                slot.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.shield(slot.loading)
        return OpenedModel(key, next(iter(slot.copies.values())))

    async def close(self) -> None:
        """Wait for no model any more."""
        for slot in self._slots.values():
            if slot.loading is not None:
                slot.loading.cancel()
                await asyncio.wait({slot.loading})

    def _described(self, key: str) -> _Slot:
        """A slot before its model was ever loaded."""
        last_part = key.rstrip("/").rpartition("/")[2]  # a folder is none of the callers' business
        try:
            return _Slot(key, self._source.name(key))
        except UnmaskError as error:
            log.error("model %s cannot be read: %s", key, error)
            slot = _Slot(key, last_part)
            self._fail(slot, error)
            return slot

    def _check_name(self, slot: _Slot, name: str) -> None:
        for other in self._slots.values():
            if other is not slot and other.name == name:
                raise ConfigError(
                    f"models {other.key!r} and {slot.key!r} are both named {name!r}, so "
                    "nobody could ask for one of them: change the name in the model.json of one"
                )

    def _key(self, name: str) -> str:
        for slot in self._slots.values():
            if slot.name == name:
                return slot.key
        # Not by the operator's keys, which may be folders.
        known = choices(name[:64], [slot.name for slot in self._slots.values()])
        raise NotFoundError(f"there is no model {name[:64]!r}: {known}", "model")

    def _check_retry(self, slot: _Slot) -> None:
        left = slot.retry_at - time.monotonic()
        if slot.state is ModelState.FAILED and left > 0:
            raise UnavailableError(
                f"{slot.reason}; it will be tried again when it is asked for in {math.ceil(left)} s"
            )

    def _fail(self, slot: _Slot, error: Exception) -> None:
        slot.state, slot.retry_at = ModelState.FAILED, time.monotonic() + RETRY_SECONDS
        # The name of the error only: the text of a foreign one may hold paths.
        slot.reason = (
            f"model {slot.name!r} could not be loaded ({type(error).__name__}): "
            "see the log of the server"
        )

    async def _load(self, slot: _Slot) -> None:
        slot.reason = ""
        try:
            size = await run_in_thread_that_ends(self._source.size, slot.key)
            self._make_room(slot, size * len(self.devices))
            copies = {
                worker: await run_in_thread_that_ends(self._source.load, slot.key, device)
                for worker, device in self.devices.items()
            }
            info = next(iter(copies.values())).info
            self._check_name(slot, info.name)
            slot.name, slot.info = info.name, info
            self._make_room(slot, sum(map(weight_bytes, copies.values())))
            slot.copies, slot.state = copies, ModelState.LOADED
            slot.loads += 1
        except UnavailableError:
            slot.state = ModelState.ABSENT
            raise
        except Exception as error:
            log.critical("model %s could not be loaded", slot.key, exc_info=True)
            self._fail(slot, error)
            raise UnavailableError(slot.reason) from error
        finally:
            slot.loading = None
            if not slot.copies:
                slot.bytes = 0

    def _make_room(self, slot: _Slot, needed: int) -> None:
        """Reserve so many bytes for a slot, and put others away until they are free."""
        slot.bytes = needed
        if not self.budget:
            return
        idle = [
            other
            for other in self._slots.values()
            if other.copies and other is not slot and not self._is_used(other.key)
        ]
        excess = sum(other.bytes for other in self._slots.values()) - self.budget
        going: list[_Slot] = []
        for other in sorted(idle, key=lambda other: other.asked_at):
            if excess <= 0:
                break
            going.append(other)
            excess -= other.bytes
        if excess > 0:  # then nobody goes in vain
            raise UnavailableError(
                f"model {slot.name!r} needs {needed} bytes, and those in use leave less of "
                f"{self.budget}: try again later"
            )
        for other in going:
            log.info("putting away model %s", other.key)
            other.copies, other.bytes, other.state = {}, 0, ModelState.ABSENT


def weight_bytes(pipeline: Pipeline) -> int:
    """The bytes of a pipeline's weights."""
    modules = (pipeline.backbone, pipeline.tokenizer)
    return sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
