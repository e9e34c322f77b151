import pytest

from unmask import errors
from unmask.errors import NotFoundError, RequestError, UnmaskError, choices, named


def test_every_error_is_an_unmask_error_and_says_when_it_is_raised() -> None:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in found if issubclass(kind, Exception)]
    assert len(kinds) == 11
    for kind in kinds:
        assert issubclass(kind, UnmaskError)
        assert kind.__doc__
        assert kind.__name__ in (errors.__doc__ or "")


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
    assert named("size", {"big": 1}, "big") == 1
    with pytest.raises(RequestError, match="size 'bigg': did you mean 'big'") as caught:
        named("size", {"big": 1, "small": 2}, "bigg")
    assert caught.value.param == "size"
    with pytest.raises(RequestError) as caught:
        named("size", {"big": 1}, "x" * 10_000)
    assert len(str(caught.value)) < 200
