import pytest
import torch

from unmask.evaluation.clips.motions import CHECKS
from unmask.evaluation.clips.tracks import Seen, Track
from unmask.scenes.judge import Found
from unmask.scenes.moving.truth import MOTION_NAMES

FRAMES = torch.zeros(17, 3, 64, 64)


def _track(xs: list[float], ys: list[float] | None = None, side: float = 24.0) -> Track:
    places = zip(xs, ys or [32.0] * len(xs), strict=True)
    return Track(
        [
            Seen(frame, Found(x, y, side, 1.0, "cat", (), ()), True)
            for frame, (x, y) in enumerate(places)
        ]
    )


def _ramp(speed: float, rest: int = 16) -> list[float]:
    return [12 + speed * min(frame, rest) for frame in range(17)]


def test_every_motion_has_a_check() -> None:
    assert tuple(CHECKS) == MOTION_NAMES


@pytest.mark.parametrize("rest", [4, 8, 16])
def test_speeds_are_told_apart_however_soon_it_comes_to_rest(rest: int) -> None:
    check = CHECKS["moves right"]
    slow, quick = _track(_ramp(2, rest)), _track(_ramp(4, min(rest, 8)))
    assert check(slow, FRAMES, "slowly") is None
    assert check(slow, FRAMES, "quickly") == "wrong speed"
    assert check(quick, FRAMES, "quickly") is None
    assert check(quick, FRAMES, "slowly") == "wrong speed"
    assert check(slow, FRAMES, None) is None


def test_a_direction_is_one_along_its_axis() -> None:
    right = _track(_ramp(2))
    assert CHECKS["moves left"](right, FRAMES, None) == "wrong direction"
    assert CHECKS["moves up"](right, FRAMES, None) == "wrong direction"
    assert CHECKS["moves right"](_track(_ramp(2), _ramp(2)), FRAMES, None) == "wrong direction"
    assert CHECKS["moves right"](_track([12.0] * 17), FRAMES, None) == "frozen"
    assert CHECKS["still"](right, FRAMES, None) == "wrong motion"


def test_what_jumps_turns_more_often_than_what_bounces() -> None:
    once = [40 - 2.0 * (8 - abs(8 - frame)) for frame in range(17)]
    twice = [40.0 - 2 * (4 - abs(4 - frame % 8)) for frame in range(17)]
    for ys, right, wrong in ((once, "bounces", "jumps"), (twice, "jumps", "bounces")):
        track = _track([32.0] * 17, ys)
        assert CHECKS[right](track, FRAMES, None) is None
        assert CHECKS[wrong](track, FRAMES, None) == "wrong motion"
    downwards = _track([32.0] * 17, [64 - y for y in twice])
    assert CHECKS["jumps"](downwards, FRAMES, None) == "wrong motion"


def _turning(turns: list[int]) -> torch.Tensor:
    """A corner in a box around (32, 32), turned at the end of each slot."""
    frames = torch.zeros(17, 3, 64, 64)
    shape = torch.zeros(3, 24, 24)
    shape[:, :12, :8] = 1
    for frame in range(17):
        frames[frame, :, 20:44, 20:44] = torch.rot90(shape, -turns[frame // 4], (-2, -1))
    return frames


def test_what_spins_is_turned_further_at_every_slot() -> None:
    ends = Track([seen for seen in _track([32.0] * 17).seen if seen.frame in (0, 16)])
    check = CHECKS["spins"]
    assert check(ends, _turning([0, 1, 2, 3, 4]), None) is None
    assert check(ends, _turning([0, 3, 2, 1, 0]), None) is None
    assert check(ends, _turning([0] * 5), None) == "frozen"
    assert check(ends, _turning([0, 1, 0, 1, 0]), None) == "wrong motion"
    # Nothing is there that could be seen to turn.
    assert check(ends, FRAMES, None) is None


def _shown(opacity: list[float]) -> torch.Tensor:
    frames = torch.zeros(17, 3, 64, 64)
    frames[:, :, 20:44, 20:44] = torch.tensor(opacity).view(17, 1, 1, 1)
    return frames


def test_what_appears_does_so_within_a_slot_and_what_fades_in_takes_them_all() -> None:
    track = Track(_track([32.0] * 17).seen[10:])
    fading, sudden = (
        _shown([frame / 16 for frame in range(17)]),
        _shown([min(max((frame - 8) / 4, 0.0), 1.0) for frame in range(17)]),
    )
    assert CHECKS["fades in"](track, fading, None) is None
    assert CHECKS["appears"](track, sudden, None) is None
    assert CHECKS["fades in"](track, sudden, None) == "wrong motion"
    assert CHECKS["appears"](track, fading, None) == "wrong motion"
    assert CHECKS["disappears"](track, sudden, None) == "wrong end"
    assert CHECKS["appears"](_track([32.0] * 17), sudden, None) == "frozen"
