"""From what a user asks for to the ids that a backbone reads."""

import re
import string
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, Self

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from unmask.errors import ConfigError, PromptTooLongError, RequestError, choices
from unmask.models.base import Condition

PAD, START = 0, 1
MOST_CHOICES = 10  # that a message lists
WORDS = "words.txt"
PUNCTUATION = string.punctuation + "\u2019\u201d"


class ConditionEncoder(Protocol):
    """Turns prompts into conditions; an empty prompt is the null condition of guidance."""

    @property
    def vocabulary(self) -> int:
        """How many ids there are."""
        ...

    @property
    def length(self) -> int:
        """The positions of a condition."""
        ...

    @property
    def max_text_tokens(self) -> int | None:
        """How many text tokens a prompt may have, without those around it; None: it is no text."""
        ...

    @property
    def max_chunks(self) -> int:
        """How many texts of at most so many tokens a long prompt may be read as; 1: it is refused
        whatever is asked for."""
        ...

    def __call__(self, prompts: Sequence[str], chunks: int = 1) -> Condition:
        """One row a prompt, of ``chunks`` times ``length`` ids; RequestError if the model cannot
        read one, PromptTooLongError if only for its length."""
        ...

    def chunks(self, prompt: str) -> int:
        """How many chunks a prompt takes."""
        ...

    def count(self, prompt: str) -> int:
        """How many ids a prompt is, with those around it and without padding."""
        ...

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        """The positions in the condition of each place where the word stands in the prompt."""
        ...

    @property
    def words(self) -> tuple[str, ...] | None:
        """The words that the model was taught, sorted; None: that cannot be told."""
        ...

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """The words, as they stand in the prompt, that the model was not taught; none where that
        cannot be told."""
        ...

    def save(self, folder: Path) -> None:
        """Write what ``load`` of the same class reads."""
        ...


class OneText:
    """What conditions share that read a prompt whole or not at all."""

    max_chunks = 1

    def chunks(self, prompt: str) -> int:
        """One, as there are no more."""
        return 1


class TextCondition(OneText):
    """Byte-level BPE learned from the training captions; a start token, then the words, then
    padding. ``words`` are those of the captions.
    """

    def __init__(
        self, tokenizer: Tokenizer, length: int, words: Sequence[str] | None = None
    ) -> None:
        self.tokenizer, self.length = tokenizer, length
        self._known = None if words is None else frozenset(words)

    @property
    def words(self) -> tuple[str, ...] | None:
        return None if self._known is None else tuple(sorted(self._known))

    @classmethod
    def of_captions(cls, tokenizer: Tokenizer, length: int, captions: Iterable[str]) -> Self:
        """A text tokenizer that was learned from captions, and their words."""
        normalized = (tokenizer.normalizer.normalize_str(caption) for caption in captions)
        words = {word for caption in normalized for word in _words(caption)}
        return cls(tokenizer, length, [word for word in words if word.isprintable()])

    def with_words(self, words: Iterable[str]) -> "TextCondition":
        """The same with more words, if it has a list of them."""
        if self._known is None:
            return self
        return TextCondition(self.tokenizer, self.length, [*self._known, *words])

    @classmethod
    def learn(cls, captions: Iterable[str], vocabulary: int, length: int) -> "TextCondition":
        """Learn at most ``vocabulary`` text tokens from captions."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Strip(), normalizers.Lowercase()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["[pad]", "[start]"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        captions = list(captions)
        tokenizer.train_from_iterator(captions, trainer)
        return cls.of_captions(tokenizer, length, captions)

    @classmethod
    def load(cls, folder: Path, length: int) -> "TextCondition":
        """Read the text tokenizer of a model folder, and its words if they were kept; ConfigError
        if there is none to read."""
        path, list_of_words = folder / "text_tokenizer.json", folder / WORDS
        words = _read_lines(list_of_words) if list_of_words.exists() else None
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for every fault
            raise ConfigError(f"{path}: not a text tokenizer: {error}") from error
        return cls(tokenizer, length, words)

    @property
    def vocabulary(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    @property
    def max_text_tokens(self) -> int:
        return self.length - 1

    def __call__(self, prompts: Sequence[str], chunks: int = 1) -> Condition:
        ids = torch.full((len(prompts), self.length), PAD)
        for row, encoding in enumerate(
            self.tokenizer.encode_batch(list(prompts), add_special_tokens=False)
        ):
            words = [START, *encoding.ids] if prompts[row].strip() else [START]
            if len(words) > self.length:
                raise PromptTooLongError(
                    f"the prompt is {len(words) - 1} text tokens long; this model reads at most "
                    f"{self.max_text_tokens}",
                    "prompt",
                )
            ids[row, : len(words)] = torch.tensor(words)
        return Condition(ids, ids != PAD)

    def count(self, prompt: str) -> int:
        return int(self([prompt]).mask.sum())

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        encoding = self.tokenizer.encode(prompt, add_special_tokens=False)
        text = prompt.lower()
        found = []
        for match in re.finditer(rf"(?<!\w){re.escape(word.lower())}(?!\w)", text):
            start, end = match.span()
            # Token 0 of the condition is the start token.
            places = [
                place + 1
                for place, (first, last) in enumerate(encoding.offsets)
                if first < end and last > start
            ]
            if places:
                found.append(tuple(places))
        return found

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        known, normalizer = self._known, self.tokenizer.normalizer
        if known is None:
            return ()
        found = [
            word
            for word in _words(prompt.strip())
            if not known.issuperset(_words(normalizer.normalize_str(word)))
        ]
        return tuple(dict.fromkeys(found))

    def save(self, folder: Path) -> None:
        self.tokenizer.save(str(folder / "text_tokenizer.json"))
        if self.words is not None:
            _write_lines(folder / WORDS, self.words)


class LabelCondition(OneText):
    """Class labels by name, in any case, or number; the id after the last label is the null
    condition.
    """

    length = 1
    max_text_tokens = None
    words = None  # what is no label is refused

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self._ids: dict[str, int] = {}
        for i, label in enumerate(labels):
            if self._ids.setdefault(label.casefold(), i) != i:
                raise ValueError(f"label {label!r} stands for more than one class")

    @classmethod
    def load(cls, folder: Path) -> "LabelCondition":
        """Read the labels of a model folder, one a line; ConfigError if they cannot be read."""
        path = folder / "labels.txt"
        try:
            return cls(_read_lines(path))
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error

    @property
    def vocabulary(self) -> int:
        return len(self.labels) + 1

    def __call__(self, prompts: Sequence[str], chunks: int = 1) -> Condition:
        ids = torch.tensor([[self._id(prompt.strip())] for prompt in prompts])
        return Condition(ids, torch.ones_like(ids, dtype=torch.bool))

    def count(self, prompt: str) -> int:
        return 1

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        """None: a label has no words."""
        return []

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """None: a label has no words."""
        return ()

    def save(self, folder: Path) -> None:
        _write_lines(folder / "labels.txt", self.labels)

    def _id(self, prompt: str) -> int:
        if not prompt:
            return len(self.labels)
        if prompt.isascii() and prompt.isdigit() and int(prompt[:9]) < len(self.labels):
            return int(prompt[:9])
        if prompt.casefold() in self._ids:
            return self._ids[prompt.casefold()]
        # All the names of ImageNet would bury the nearest ones.
        near = get_close_matches(prompt[:80], self.labels, MOST_CHOICES, cutoff=0.5)
        listed = self.labels if len(self.labels) <= MOST_CHOICES else near
        known = f"{choices(prompt[:80], listed)}, " if listed else "choose a class's name, "
        raise RequestError(
            f"label {prompt[:80]!r}: {known}or a number from 0 to {len(self.labels) - 1}", "prompt"
        )


class NoCondition(OneText):
    """Unconditional models: every prompt gives the same single token."""

    length = 1
    vocabulary = 1
    max_text_tokens = None
    words = ()

    def __call__(self, prompts: Sequence[str], chunks: int = 1) -> Condition:
        ids = torch.zeros(len(prompts), 1, dtype=torch.long)
        return Condition(ids, torch.ones_like(ids, dtype=torch.bool))

    def count(self, prompt: str) -> int:
        return 1

    def positions(self, prompt: str, word: str) -> list[tuple[int, ...]]:
        """None: there is no text."""
        return []

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """All: nothing is read."""
        return tuple(dict.fromkeys(prompt.split()))

    def save(self, folder: Path) -> None:
        """Nothing to write."""


def _words(text: str) -> list[str]:
    """What stands between spaces, without the punctuation behind it: text tokens of a word that
    follows anything else are others."""
    return [word for part in text.split(" ") if (word := part.rstrip(PUNCTUATION))]


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read") from error


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
