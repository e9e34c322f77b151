"""Mp4 and webm files that clients send, broken and odd ones: the right frames or a clear error."""

import io
import struct
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.worlds.clips import FRAMES, RATE, SIDE, Film, decoded, moving, psnr, refusal
from unmask.clips.child import Report
from unmask.clips.kinds import cut_short, kind_of
from unmask.clips.limits import ClipLimits
from unmask.clips.shown import DAMAGED
from unmask.errors import RequestError

av = pytest.importorskip("av", reason="needs the extra video")

LARGE = moving().repeat(4, 1).repeat(4, 2)
MATRIX = 44  # bytes from the name of a tkhd box to its matrix of display
both = pytest.mark.parametrize("container", ["mp4", "webm"])


def _film(
    data: bytes, limits: ClipLimits | None = None, rate: float | None = None
) -> tuple[Report, NDArray[np.uint8]]:
    assert kind_of(data) in ("mp4", "webm")
    return decoded(data, limits, rate)


def _changed(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


@both
def test_a_plain_film_is_read(container: str) -> None:
    report, frames = _film(Film(container).bytes(LARGE))
    assert (report.rate, len(frames), report.size) == (RATE, FRAMES, (4 * SIDE, 4 * SIDE))
    assert psnr(frames, LARGE) > 30


@both
def test_a_film_that_is_cut_short_is_seen_to_be(container: str) -> None:
    data = Film(container).bytes(LARGE)
    assert not cut_short(data, container)
    for length in (60, len(data) // 3, len(data) // 2, len(data) - 1):
        assert refusal(data[:length]) == DAMAGED, length


@both
def test_a_damaged_film_is_an_error_of_its_decoder_or_has_frames(container: str) -> None:
    """The child tells every error but RequestError as damage; none may end the process."""
    data = Film(container).bytes(LARGE)
    random = np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(data)
        for place in random.integers(8, len(data), 12):
            damaged[place] = random.integers(256)
        try:
            report, _ = _film(bytes(damaged))
        except Exception as error:
            assert not isinstance(error, AssertionError)  # noqa: PT017
        else:
            assert 0 < report.frames <= FRAMES


@both
def test_sound_is_left_out_and_sound_alone_is_refused(container: str) -> None:
    report, frames = _film(Film(container, sound=True).bytes(LARGE))
    assert (report.rate, len(frames)) == (RATE, FRAMES)
    heard = Film(container, sound=True, pictures=False).bytes(LARGE)
    assert "0 streams of pictures" in refusal(heard)


def test_an_mp4_without_frames_is_refused() -> None:
    data = Film("mp4").bytes(LARGE)
    place = data.index(b"stts") + 8  # no sample has a time, none has a length
    data = _changed(data, place, bytes(4))
    place = data.index(b"stsz") + 12
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the decoder raises
        _film(_changed(data, place, bytes(4)))


@both
def test_a_variable_rate_keeps_the_times(container: str) -> None:
    times = (0, 125, 250, 300, 700, 811, 1000, 1125, 1300)
    report, frames = _film(Film(container, times=times).bytes(LARGE), rate=8.0)
    assert len(frames) == 11
    seen = [int(np.argmin([((frame - still) ** 2).mean() for still in LARGE])) for frame in frames]
    assert seen == [0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 7]
    report, frames = _film(Film(container, times=times).bytes(LARGE))
    assert report.rate == 20.0  # that of the shortest, 50 ms
    assert len(frames) == pytest.approx(1.35 * 20, abs=1)
    assert set(report.picks) == set(range(FRAMES))


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), np.rot90(LARGE, -1, (1, 2))),
        ((-1, 0, 0, -1), np.rot90(LARGE, 2, (1, 2))),
        ((0, -1, 1, 0), np.rot90(LARGE, 1, (1, 2))),
        ((-1, 0, 0, 1), LARGE[:, :, ::-1]),
    ],
)
def test_a_film_is_turned_as_it_says(matrix: tuple[int, ...], turned: NDArray[np.uint8]) -> None:
    a, b, c, d = (number << 16 for number in matrix)
    data = Film().bytes(LARGE)
    told = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    _, frames = _film(_changed(data, data.index(b"tkhd") + MATRIX, told))
    assert psnr(frames, np.ascontiguousarray(turned)) > 30


def test_a_film_that_leans_is_refused() -> None:
    data = Film().bytes(LARGE)
    lean = struct.pack(">9i", 46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    assert "right angle" in refusal(_changed(data, data.index(b"tkhd") + MATRIX, lean))


def test_ten_bits_become_eight() -> None:
    _, frames = _film(Film(pixels="yuv420p10le").bytes(LARGE))
    assert len(frames) == FRAMES
    assert psnr(frames, LARGE) > 30


def test_interlaced_frames_are_refused() -> None:
    film = Film(options=(("x264-params", "tff=1"),))
    assert "interlaced" in refusal(film.bytes(LARGE))


@both
def test_high_dynamic_range_is_refused(container: str) -> None:
    for transfer in (16, 18):
        film = Film(container, context=(("color_trc", transfer),))
        assert "dynamic range" in refusal(film.bytes(LARGE))


@both
def test_odd_sizes_are_read(container: str) -> None:
    frames = moving(FRAMES, 63, 61)
    report, read = _film(Film(container, pixels="yuv444p").bytes(frames))
    assert report.size == (63, 61)
    assert psnr(read, frames) > 30


def test_pixels_that_are_no_squares_are_refused() -> None:
    film = Film(context=(("sample_aspect_ratio", Fraction(4, 3)),))
    assert "squares" in refusal(film.bytes(LARGE))


def test_transparency_is_refused() -> None:
    film = Film("webm", pixels="yuva420p", options=(("auto-alt-ref", "0"),))
    frames = np.concatenate([LARGE, np.full_like(LARGE[..., :1], 99)], axis=3)
    assert "transparency" in refusal(film.bytes(frames))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_other_codecs_are_refused(container: str) -> None:
    film = Film(container, codec="mjpeg", pixels="yuvj420p")
    assert "av1, h264, hevc, mpeg4, vp8, vp9" in refusal(film.bytes(LARGE))


@both
def test_frames_are_counted_while_they_are_decoded(container: str) -> None:
    film = Film(container, times=range(300)).bytes(moving(5).repeat(60, 0))
    assert "more than 200 frames" in refusal(film, ClipLimits(max_frames=200))
    with pytest.raises(RequestError, match="would have 300 frames"):
        _film(Film(container).bytes(LARGE), ClipLimits(max_frames=299), rate=300 / 1.125)


@both
def test_seconds_are_counted_by_the_times_of_frames(container: str) -> None:
    """An hour between two frames costs no more than to read its number."""
    film = Film(container, times=(*range(0, 1000, 125), 3_600_000)).bytes(LARGE)
    assert "the bound is 60" in refusal(film)
    if container == "mp4":  # a header that says otherwise changes nothing
        place = film.index(b"mvhd") + 20
        assert "the bound is 60" in refusal(_changed(film, place, struct.pack(">I", 1)))


@both
def test_a_header_that_says_another_duration_is_not_believed(container: str) -> None:
    film = Film(container).bytes(LARGE)
    if container == "mp4":
        film = _changed(film, film.index(b"mvhd") + 20, struct.pack(">I", 1 << 31))
    else:
        film = _changed(film, film.index(b"\x44\x89\x88") + 3, struct.pack(">d", 1e12))
    report, frames = _film(film)
    assert (report.rate, len(frames)) == (RATE, FRAMES)


@both
def test_pixels_are_counted_before_and_while_they_are_decoded(container: str) -> None:
    data = Film(container).bytes(LARGE)
    assert "256x256 pixels; the bound is 65535" in refusal(data, ClipLimits(max_pixels=65535))
    if container == "mp4":  # the size in the container is small, that in the stream is not
        data = _changed(data, data.index(b"avc1", 64) + 28, struct.pack(">HH", 8, 8))
        with pytest.raises(Exception, match=r"bound is 65535|Invalid|Error"):
            _film(data, ClipLimits(max_pixels=65535))


@both
def test_the_pixels_of_all_frames_are_bounded(container: str) -> None:
    limits = ClipLimits(max_clip_pixels=8 * 256 * 256)
    assert "9 frames of 256x256 pixels are too many" in refusal(
        Film(container).bytes(LARGE), limits
    )
    assert len(_film(Film(container).bytes(LARGE), limits, rate=4.0)[1]) == 5


@pytest.mark.parametrize(
    ("container", "option"),
    [("mp4", ("movflags", "frag_keyframe+empty_moov")), ("webm", ("live", "1"))],
)
def test_a_stream_that_does_not_know_its_end_is_read(
    container: str, option: tuple[str, str]
) -> None:
    data = Film(container, container_options=(option,)).bytes(LARGE)
    assert not cut_short(data, container)
    report, frames = _film(data)
    assert (report.rate, len(frames)) == (RATE, FRAMES)


def test_a_size_that_changes_on_the_way_is_refused() -> None:
    output = io.BytesIO()
    with av.open(output, "w", format="webm") as joined:
        stream = None
        for number, frames in enumerate((LARGE, LARGE[:, ::2, ::2])):
            with av.open(io.BytesIO(Film("webm").bytes(frames)), "r") as part:
                stream = stream or joined.add_stream_from_template(part.streams.video[0])
                for packet in part.demux(video=0):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts += 1125 * number
                        packet.dts += 1125 * number
                        packet.stream = stream
                        joined.mux(packet)
    assert "not all of one size" in refusal(output.getvalue())
