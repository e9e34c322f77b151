"""Clips from outside: untrusted bytes to frames, decoded by a process that is not this one."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from unmask.clips.child import LENGTH_BYTES, LONGEST_REPORT, Order, Report
from unmask.clips.clip import Clip
from unmask.clips.kinds import FILMS, kind_of
from unmask.clips.limits import ClipLimits
from unmask.clips.shown import DAMAGED
from unmask.containers import pixels_of
from unmask.errors import MissingExtraError, RequestError
from unmask.images import ImageLimits, check_length, read_file, read_image

CHILD = "unmask.clips.child"
GRACE_SECONDS = 5  # beyond its own timeout, after which a child is ended from here
LONGEST_ERROR = 300  # characters
_SLOW = (signal.SIGALRM, signal.SIGXCPU)

# So many files are decoded at once, however many threads ask: it bounds memory and processes.
_decoding = threading.BoundedSemaphore(2)


def read_clip(
    data: bytes, param: str = "clip", limits: ClipLimits | None = None, rate: float | None = None
) -> Clip:
    """The clip that an mp4, webm, gif, webp, png or jpeg file holds; a still picture is a clip of
    one frame that is shown for a second.

    At a ``rate``, the frame that is shown at the start of each frame of the clip is taken; without
    one all are, each as often as it is shown. RequestError, naming ``param``, for whatever else
    there is, and of its kind MissingExtraError for mp4 and webm without PyAV. No word of a decoder
    is told.
    """
    limits = limits or ClipLimits()
    if rate is not None and not 0 < rate < float("inf"):
        raise RequestError(f"rate {rate}: give frames a second, above 0", "rate")
    check_length(data, param, limits.max_bytes)
    kind = kind_of(data)
    if kind is None:
        raise RequestError(
            f"{param}: not a clip that is read; give mp4, webm, gif, webp, png or jpeg", param
        )
    if kind in FILMS and find_spec("av") is None:
        raise MissingExtraError(
            f"{param}: {kind} needs PyAV, so: pip install 'unmask[video]'; "
            "gif, webp, png and jpeg go without it",
            param,
        )
    with _decoding, tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as output:
        file.write(data)
        file.seek(0)
        order = Order(kind, limits, rate)
        if not _run(order, file, output):
            seconds = limits.timeout_seconds
            raise RequestError(f"{param}: decoding it takes longer than {seconds} s", param)
        return _clip(output, param, limits)


def read_picture_or_clip(
    data: bytes, param: str, pictures: ImageLimits, clips: ClipLimits, rate: float
) -> Image.Image | Clip:
    """The still picture that a file holds, or the clip, at a rate: its content tells which. Each
    has its limits; errors are those of :func:`read_clip`."""
    pixels = pixels_of(data)
    if kind_of(data) in (*FILMS, "gif") or (pixels is not None and pixels.frames > 1):
        return read_clip(data, param, clips, rate)
    return read_image(data, param, pictures)


def read_clip_file(
    path: Path, param: str = "clip", limits: ClipLimits | None = None, rate: float | None = None
) -> Clip:
    """What :func:`read_clip` makes of a file; RequestError too if it cannot be read."""
    limits = limits or ClipLimits()
    return read_clip(read_file(path, param, limits.max_bytes), param, limits, rate)


def _run(order: Order, file: BinaryIO, output: BinaryIO) -> bool:
    """Decode in a process of its own; False if it was too slow. However it ends, it has ended."""
    command = [sys.executable, "-P", "-S", "-W", "ignore", "-m", CHILD, order.text()]
    child = subprocess.Popen(
        command, stdin=file, stdout=output, stderr=subprocess.DEVNULL, env=_environment()
    )
    try:
        code = child.wait(order.limits.timeout_seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        child.kill()
        child.wait()
    return -code not in _SLOW


def _environment() -> dict[str, str]:
    """What the child needs to find what this process has imported, and none of its secrets."""
    paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}


def _clip(output: BinaryIO, param: str, limits: ClipLimits) -> Clip:
    """What a child wrote, which is believed no more than the file was."""
    length = output.seek(0, os.SEEK_END)
    try:
        output.seek(length - LENGTH_BYTES)
        told = int.from_bytes(output.read())
        output.seek(length - LENGTH_BYTES - min(told, LONGEST_REPORT))
        report = Report(**json.loads(output.read()[:-LENGTH_BYTES]))
        if report.error:
            raise RequestError(f"{param}: {report.error[:LONGEST_ERROR]}", param)
        width, height = report.size
        shown = len(report.picks) * width * height
        if len(report.picks) > limits.max_frames or shown > limits.max_clip_pixels:
            raise ValueError("a child that does not keep to its limits")
        output.seek(0)
        pixels = np.fromfile(output, np.uint8, length - LENGTH_BYTES - told)
        frames = pixels.reshape(report.frames, height, width, 3)
        if report.picks != list(range(len(frames))):
            frames = frames[report.picks]
        return Clip(frames, report.rate)
    except (OSError, ValueError, TypeError, IndexError):  # it ended before its report, or was taken
        raise RequestError(f"{param}: {DAMAGED}", param) from None
