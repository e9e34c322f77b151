from unmask.evaluation.clips.tracks import link
from unmask.scenes.judge import Found, Sight


def _found(x: float, noun: str = "cat", whole: float = 1.0) -> Found:
    return Found(x, 20.0, 24.0, whole, noun, (), ("red",))


def _sights(*frames: list[Found]) -> list[Sight]:
    return [Sight(tuple(found), (), "white") for found in frames]


def _places(sights: list[Sight]) -> list[list[float]]:
    return [[seen.found.x for seen in track.seen] for track in link(sights)]


def test_the_nearest_goes_on() -> None:
    sights = _sights([_found(10), _found(40)], [_found(42), _found(12)], [_found(14), _found(44)])
    assert _places(sights) == [[10, 12, 14], [40, 42, 44]]


def test_those_that_cross_go_on_as_what_they_were() -> None:
    steps = [[_found(10 + 4 * i), _found(34 - 4 * i, "dog")] for i in range(7)]
    tracks = link(_sights(*steps))
    assert [track.noun for track in tracks] == ["cat", "dog"]
    assert [track.share(track.noun) for track in tracks] == [1.0, 1.0]


def test_one_that_was_hidden_goes_on_where_it_can_have_got_to() -> None:
    (track,) = link(_sights([_found(10)], [], [], [_found(24)]))
    assert [seen.frame for seen in track.seen] == [0, 3]
    assert not track.jumped


def test_one_that_is_elsewhere_has_jumped_and_another_noun_is_another_thing() -> None:
    (track,) = link(_sights([_found(10)], [_found(50)]))
    assert track.jumped
    assert len(link(_sights([_found(10)], [_found(50, "dog")]))) == 2


def test_one_that_becomes_another_in_its_place_is_one_track() -> None:
    (track,) = link(_sights(*[[_found(10)]] * 3, *[[_found(10, "dog")]] * 2))
    assert track.noun == "cat"
    assert track.share("cat") == 0.6
    assert track.colour_share("red") == 1.0


def test_some_frames_alone_can_be_linked() -> None:
    sights = _sights([_found(10)], [_found(50, "dog")], [_found(12)])
    (track,) = link(sights, (0, 2))
    assert [seen.frame for seen in track.seen] == [0, 2]


def test_broken_ones_are_linked_but_tell_neither_noun_nor_colour() -> None:
    broken = Sight((), (_found(12, "dog", whole=0.2),), "white")
    (track,) = link([*_sights([_found(10)]), broken, broken])
    assert (track.noun, len(track.seen), len(track.clear)) == ("cat", 3, 1)
