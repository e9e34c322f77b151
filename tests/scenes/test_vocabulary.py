from unmask.scenes.sprites import SHAPES
from unmask.scenes.vocabulary import (
    COLOURS,
    held_out,
)


def test_what_is_held_out_stays_so_for_ever() -> None:
    kept = [(c, n) for c in COLOURS for n in SHAPES if held_out(8, c, n)]
    assert kept == [("orange", "circle"), ("yellow", "ring"), ("pink", "diamond")]


def test_held_out_shares_nest() -> None:
    words = [(a, b) for a in COLOURS for b in SHAPES]
    shares = [{pair for pair in words if held_out(percent, *pair)} for percent in (0, 8, 30, 100)]
    assert not shares[0]
    assert shares[0] <= shares[1] <= shares[2] <= shares[3] == set(words)
