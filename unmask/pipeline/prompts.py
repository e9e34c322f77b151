"""Prompts and what the model reads of them, kept for the next request that asks."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

import torch

from unmask.models.base import Condition
from unmask.models.conditions import ConditionEncoder
from unmask.pipeline.request import DrawRequest
from unmask.sampling.backbone import RowTensors
from unmask.sampling.scheduler import Subjects

KEPT_BYTES = 64 << 20  # of encoded prompts


class EncodedPrompts:
    """Prefixes by prompt; those that were asked for longest ago are dropped first."""

    def __init__(
        self,
        condition: ConditionEncoder,
        encode: Callable[[Condition], RowTensors],
        device: torch.device,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.condition, self.encode, self.device = condition, encode, device
        self.kept_bytes = kept_bytes
        self._prefixes: OrderedDict[tuple[str, int], RowTensors] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()  # a worker steps and finishes in threads of their own

    def __len__(self) -> int:
        return len(self._prefixes)

    def __call__(self, prompts: Sequence[str], chunks: int = 1) -> RowTensors:
        """The prefixes of prompts, read in so many chunks; an empty one gives the null condition.

        Each is encoded alone, so that none depends on its neighbours (docs/numerics.md).
        """
        with self._lock:
            encoded = [self._one(prompt, chunks) for prompt in prompts]
            while self._bytes > self.kept_bytes and len(self._prefixes) > 2:
                self._bytes -= self._prefixes.popitem(last=False)[1].nbytes
        return type(encoded[0]).join(encoded)

    def _one(self, prompt: str, chunks: int) -> RowTensors:
        prefix = self._prefixes.pop((prompt, chunks), None)
        if prefix is None:
            condition = self.condition([prompt], chunks)
            prefix = self.encode(condition.on(self.device))
            self._bytes += prefix.nbytes
        self._prefixes[prompt, chunks] = prefix  # now the youngest
        return prefix


def chunks_of(condition: ConditionEncoder, requests: Sequence[DrawRequest]) -> int:
    """How many chunks all prompts of the requests are read in: as many as the longest takes."""
    if not any(request.long_prompt for request in requests):
        return 1
    prompts = [prompt for request in requests for prompt in request.all_prompts]
    return max(map(condition.chunks, prompts))


def subject_positions(
    condition: ConditionEncoder, prompt: str, subjects: Sequence[Sequence[str]]
) -> Subjects:
    """The text positions of each word of each subject; of the n-th mention the n-th place."""
    mentions: Counter[str] = Counter()
    found = []
    for words in subjects:
        places = []
        for word in words:
            all_places = condition.positions(prompt, word)
            if all_places:
                places.append(all_places[min(mentions[word], len(all_places) - 1)])
            mentions[word] += 1
        if places:
            found.append(tuple(places))
    return tuple(found)
