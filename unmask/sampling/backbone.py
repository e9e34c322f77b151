"""What sampling asks of a backbone."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from torch import Tensor


class Prefix(Protocol):
    """Encoded conditions, one a row."""

    def select(self, rows: Tensor) -> Self: ...

    @classmethod
    def join(cls, prefixes: Sequence[Self]) -> Self:
        """The rows of all of them, one behind the other."""
        ...


class Cache(Protocol):
    """Keys and values of every image token, one a row: what local passes reuse."""

    def select(self, rows: Tensor) -> Self: ...

    @classmethod
    def join(cls, caches: Sequence[Self]) -> Self:
        """The rows of all of them, one behind the other."""
        ...


P = TypeVar("P", bound=Prefix)
C = TypeVar("C", bound=Cache)
PrefixOf = TypeVar("PrefixOf", bound=Prefix, contravariant=True)


class Pass(NamedTuple):
    """A full pass: ``logits`` (rows, tokens, codebook), and what was asked for besides.

    ``attention`` is (rows, tokens, text positions), the mean over layers and heads.
    """

    logits: Tensor
    cache: Cache | None = None
    attention: Tensor | None = None


class Backbone(Protocol[PrefixOf]):
    """Tokens (rows, tokens) and their prefixes to logits (rows, tokens, codebook)."""

    @property
    def mask_id(self) -> int: ...

    def full(
        self,
        tokens: Tensor,
        prefix: PrefixOf,
        /,
        *,
        left: Tensor,
        keep: bool,
        attend: Tensor | None,
    ) -> Pass:
        """A pass over all tokens. ``left`` (rows,) int64 is how many steps of its plan each row has
        behind this one, ``keep`` asks for the cache, ``attend`` for the attention of the rows that
        it lists (its rows are theirs)."""
        ...

    def local(
        self,
        tokens: Tensor,
        positions: Tensor,
        prefix: PrefixOf,
        cache: Any,
        /,
        *,
        left: Tensor,
    ) -> Tensor:
        """Logits (rows, some, codebook) of the tokens at ``positions`` (rows, some), which see each
        other afresh and all other tokens as ``cache`` holds them."""
        ...
