import re

import pytest
from fastapi import FastAPI

from unmask import errors
from unmask.errors import (
    LimitError,
    NotFoundError,
    QueueFullError,
    RequestError,
    UnmaskError,
    choices,
    look_up,
)
from unmask.server.http.errors import add_error_handlers, error_body

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UnmaskError)
]


def test_every_error_is_an_unmask_error_and_says_when_it_is_raised() -> None:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in found if issubclass(kind, Exception)]
    assert kinds
    for kind in kinds:
        assert issubclass(kind, UnmaskError)
        assert kind.__doc__
        assert kind.__name__ in (errors.__doc__ or "")


def _tree() -> dict[str, tuple[str, int | None]]:
    """What the page of errors draws: from a name to the one above it and the HTTP status."""
    drawn: dict[str, tuple[str, int | None]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─ ]*)(\w+Error)\b(?:.*\(HTTP (\d+)\))?", line):
            indent, name, status = len(found[1]), found[2], found[3]
            above = [place for place in above if place[0] < indent]
            drawn[name] = (above[-1][1] if above else "Exception", int(status) if status else None)
            above.append((indent, name))
    return drawn


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = {name: parent for name, (parent, _) in _tree().items()}
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_answered_with_the_status_that_is_drawn(kind: type[UnmaskError]) -> None:
    """One without a status is not the caller's to mend: its message stays in the log."""
    _, status = _tree()[kind.__name__]
    message = "told to nobody else"
    told = (message, 3) if issubclass(kind, QueueFullError | LimitError) else (message,)
    error = kind(*told)
    answer = error_body(error)
    assert answer.status_code == (status or 500)
    assert (message.encode() in bytes(answer.body)) == (status is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_with_a_status_reach_their_handler(kind: type[UnmaskError]) -> None:
    app = FastAPI()
    before = set(app.exception_handlers)
    add_error_handlers(app)
    handled = set(app.exception_handlers) - before
    assert bool(handled.intersection(kind.__mro__)) == (_tree()[kind.__name__][1] is not None)


def test_a_request_error_names_its_parameter() -> None:
    error = NotFoundError("no model 'x'", param="model")
    assert isinstance(error, RequestError)
    assert (error.param, str(error)) == ("model", "no model 'x'")
    assert RequestError("bad").param is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("haltn", "did you mean 'halton'? choose one of: halton, random"),
        ("zzz", "choose one of: halton, random"),
    ],
)
def test_choices_lists_what_is_known_and_the_nearest_first(name: str, said: str) -> None:
    assert choices(name, ["random", "halton"]) == said


def test_unknown_names_list_the_choices() -> None:
    assert look_up("size", {"big": 1}, "big") == 1
    with pytest.raises(RequestError, match="size 'bigg': did you mean 'big'") as caught:
        look_up("size", {"big": 1, "small": 2}, "bigg")
    assert caught.value.param == "size"
    with pytest.raises(RequestError) as caught:
        look_up("size", {"big": 1}, "x" * 10_000)
    assert len(str(caught.value)) < 200
