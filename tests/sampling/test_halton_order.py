"""The order of Halton-MaskGIT, cell by cell."""

from hashlib import sha256

import pytest

from unmask.sampling.schedulers.halton import halton_order


@pytest.mark.parametrize(
    ("side", "digest"),
    [(16, "fff36ffda9b95f99"), (24, "c65fa6b3be88960e"), (32, "dc5510c11074da98")],
)
def test_the_order_is_the_published_one(side: int, digest: str) -> None:
    cells = ",".join(map(str, halton_order((side, side)).tolist()))
    assert sha256(cells.encode()).hexdigest()[:16] == digest


def test_the_cells_that_the_published_points_miss_come_last() -> None:
    """10,000 points leave six of 64 x 64 cells masked; ours follow them in the same order."""
    last = halton_order((64, 64))[-6:].tolist()
    assert {divmod(cell, 64) for cell in last} == {
        (0, 54),
        (7, 16),
        (17, 28),
        (29, 4),
        (55, 35),
        (59, 40),
    }
