"""Small clips, and films with whatever a client's may have, written by PyAV."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from unmask.clips.child import Order, Report, decode
from unmask.clips.kinds import kind_of
from unmask.clips.limits import ClipLimits
from unmask.errors import RequestError

FRAMES, SIDE, RATE = 9, 64, 8.0
CODEC_OF = {"mp4": "libx264", "webm": "libvpx-vp9"}


def moving(frames: int = FRAMES, width: int = SIDE, height: int = SIDE) -> NDArray[np.uint8]:
    """A red square with a green spot that moves over blue, above a yellow floor."""
    made = np.full((frames, height, width, 3), (40, 90, 200), np.uint8)
    for number, frame in enumerate(made):
        left = 2 + 2 * number
        frame[20:40, left : left + 20] = (250, 30, 60)
        frame[24:30, left + 4 : left + 12] = (10, 220, 30)
        frame[50:] = (240, 230, 40)
    return made


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """How alike frames are, in dB; infinite if they are equal."""
    assert first.shape == second.shape
    error = float(((first.astype(float) - second) ** 2).mean())
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


class Film(NamedTuple):
    """How a film is written; ``times`` are those of its frames, in thousandths of a second."""

    container: str = "mp4"
    codec: str = ""
    pixels: str = "yuv420p"
    times: Sequence[int] = range(0, 125 * FRAMES, 125)
    sound: bool = False
    pictures: bool = True
    context: tuple[tuple[str, object], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    container_options: tuple[tuple[str, str], ...] = ()

    def bytes(self, frames: NDArray[np.uint8]) -> bytes:
        """The film of these frames."""
        av = pytest.importorskip("av", reason="needs the extra video")
        file = io.BytesIO()
        options = dict(self.container_options)
        with av.open(file, "w", format=self.container, options=options) as output:
            if self.pictures:
                stream = cast(
                    Any,
                    output.add_stream(
                        self.codec or CODEC_OF[self.container],
                        rate=1000,
                        options=dict(self.options),
                    ),
                )
                stream.height, stream.width = frames.shape[1:3]
                stream.pix_fmt = self.pixels
                stream.codec_context.time_base = Fraction(1, 1000)
                stream.codec_context.max_b_frames = 0
                for name, value in self.context:
                    setattr(stream.codec_context, name, value)
            if self.sound:
                heard = cast(Any, output.add_stream("libopus", rate=48000, layout="mono"))
            if self.pictures:
                for time, frame in zip(self.times, frames, strict=True):
                    kind = {3: "rgb24", 4: "rgba"}[frame.shape[2]]
                    picture = av.VideoFrame.from_ndarray(frame, kind).reformat(format=self.pixels)
                    picture.pts, picture.time_base = time, Fraction(1, 1000)
                    output.mux(stream.encode(picture))
                output.mux(stream.encode(None))
            if self.sound:
                silence = np.zeros((1, 960), np.float32)
                for number in range(50):
                    part = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                    part.sample_rate, part.pts = 48000, 960 * number
                    output.mux(heard.encode(part))
                output.mux(heard.encode(None))
        return file.getvalue()


def decoded(
    data: bytes, limits: ClipLimits | None = None, rate: float | None = None
) -> tuple[Report, NDArray[np.uint8]]:
    """What the child makes of a file: its report, and the frames of the clip."""
    kind = kind_of(data)
    assert kind is not None
    output = io.BytesIO()
    report = decode(data, Order(kind, limits or ClipLimits(), rate), output)
    width, height = report.size
    frames = np.frombuffer(output.getvalue(), np.uint8)
    return report, frames.reshape(report.frames, height, width, 3)[report.picks]


def refusal(data: bytes, limits: ClipLimits | None = None) -> str:
    """Why a file is refused."""
    with pytest.raises(RequestError) as error:
        decoded(data, limits)
    return str(error.value)
