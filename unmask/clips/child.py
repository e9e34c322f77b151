"""The process that decodes: bytes of strangers meet decoders here, and nothing else of value.

It reads a file from standard input and its order from the command line, and writes to standard
output the pixels of the frames, one after another, then a report as JSON, then the length of that
in 8 bytes. It starts without torch and numpy, which would take longer than the decoding.
"""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import BinaryIO

from unmask.clips.kinds import FILMS, cut_short
from unmask.clips.limits import ClipLimits
from unmask.clips.shown import DAMAGED, NAMELESS, Shown
from unmask.clips.timing import arrange, instants
from unmask.errors import RequestError

LENGTH_BYTES = 8  # that tell the length of the report
LONGEST_REPORT = 1 << 20  # bytes
SLACK_SECONDS = 0.05  # times are rounded; a clip of just the longest duration is read


@dataclass(frozen=True)
class Order:
    """What is to be decoded, and at which rate it is wanted."""

    kind: str
    limits: ClipLimits
    rate: float | None

    def text(self) -> str:
        """The order as a word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> "Order":
        """What :meth:`text` told."""
        values = json.loads(text)
        return cls(values["kind"], ClipLimits(**values["limits"]), values["rate"])


@dataclass(frozen=True)
class Report:
    """What came of an order: an error, or frames of this size, and which of them is seen at each
    place of a clip of this rate.
    """

    error: str = ""
    size: tuple[int, int] = (0, 0)
    rate: float = 0.0
    frames: int = 0
    picks: list[int] = field(default_factory=list)


def decode(data: bytes, order: Order, output: BinaryIO) -> Report:
    """Write the pixels of a file's frames; RequestError for what is cut short or beyond the
    limits.

    At a wanted rate, frames that no place of the clip shows are not written.
    """
    if cut_short(data, order.kind):
        raise RequestError(DAMAGED)
    limits = order.limits
    starts: list[float] = []
    size, origin, end = (0, 0), None, 0.0
    for number, shown in enumerate(_frames(data, order)):
        if number == limits.max_frames:
            raise RequestError(f"it has more than {limits.max_frames} frames, which is the bound")
        if origin is None:
            origin = shown.start
        start, end = shown.start - origin, max(end, shown.stop - origin)
        if end > limits.max_seconds + SLACK_SECONDS:
            raise RequestError(
                f"it lasts {end:.1f} seconds or more; the bound is {limits.max_seconds:g}"
            )
        if order.rate is not None and starts and not instants(start, end, order.rate):
            continue
        picture = shown.draw()
        if size not in ((0, 0), picture.size):
            raise RequestError("its frames are not all of one size")
        size = picture.size
        starts.append(start)
        _check_clip(len(starts), size, limits)
        output.write(picture.tobytes())
    if not starts:
        raise RequestError("it has no frames")
    rate, picks = arrange(starts, end, order.rate)
    _check_clip(len(picks), size, limits)
    return Report("", size, rate, len(starts), picks)


def _frames(data: bytes, order: Order) -> Iterator[Shown]:
    if order.kind in FILMS:
        from unmask.clips.film_frames import film_frames

        return film_frames(data, order.kind, order.limits)
    from unmask.clips.picture_frames import picture_frames

    return picture_frames(data, order.kind, order.limits)


def _check_clip(frames: int, size: tuple[int, int], limits: ClipLimits) -> None:
    if frames > limits.max_frames:
        raise RequestError(f"it would have {frames} frames; the bound is {limits.max_frames}")
    width, height = size
    if frames * width * height > limits.max_clip_pixels:
        raise RequestError(
            f"{frames} frames of {width}x{height} pixels are too many; the bound is "
            f"{limits.max_clip_pixels} pixels in all frames together"
        )


def confine(limits: ClipLimits) -> None:
    """Bound what this process may use, for ever: time, memory, the length of what it writes."""
    import resource  # not there on Windows

    signal.alarm(limits.timeout_seconds)  # should the parent die, this process does not stay
    for kind, most, slack in (
        (resource.RLIMIT_CPU, limits.timeout_seconds, 1),  # at the end of the slack it is killed
        (resource.RLIMIT_AS, limits.memory, 0),
        (resource.RLIMIT_FSIZE, 3 * limits.max_clip_pixels + LONGEST_REPORT, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        with suppress(OSError, ValueError):  # a system without it, or a lower limit already
            resource.setrlimit(kind, (most, most + slack))


def main() -> None:
    """Follow the order of the command line."""
    order = Order.of_text(sys.argv[1])
    confine(order.limits)
    data, output = sys.stdin.buffer.read(), sys.stdout.buffer
    try:
        report = decode(data, order, output)
    except RequestError as error:
        report = Report(str(error).removeprefix(f"{NAMELESS}: "))  # the parent names it
    except MemoryError:
        report = Report(f"decoding it takes more than {order.limits.memory >> 20} MiB of memory")
    except Exception:  # decoders raise anything, and their words are not for strangers
        report = Report(DAMAGED)
    text = json.dumps(asdict(report)).encode()
    output.write(text + len(text).to_bytes(LENGTH_BYTES))
    output.flush()


if __name__ == "__main__":
    main()
