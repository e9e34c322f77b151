"""Mp4 and webm, written by PyAV. Only who has the extra ``unmask[video]`` can import this."""

from fractions import Fraction
from io import BytesIO
from typing import NamedTuple, cast

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from numpy.typing import NDArray

from unmask.clips.enlargement import enlargement, note
from unmask.errors import MissingExtraError, RequestError

FINEST_RATE = 1001  # the largest denominator of a rate: 24000/1001 is one
BT709 = 1  # the colours that films have, in the numbers of the standard H.273
LIMITED = 1  # luminance from 16 to 235


class Container(NamedTuple):
    """How a container is written, and its encoders: the first that the build of PyAV has."""

    options: dict[str, str]
    encoders: dict[str, dict[str, str]]


_VP9 = {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4"}
_AV1 = {"crf": "20", "preset": "8"}
CONTAINERS = {
    "mp4": Container(
        # In fragments: written in one go, without going back, and played while it arrives.
        {"movflags": "frag_keyframe+empty_moov+default_base_moof", "fflags": "+bitexact"},
        {
            "libx264": {"crf": "16", "bf": "0"},  # frames that wait for later ones start late
            "libopenh264": {"b": "4M"},
            "libsvtav1": _AV1,
            "libvpx-vp9": _VP9,
            "mpeg4": {"b": "8M"},
        },
    ),
    # Without bitexact the file would hold random numbers.
    "webm": Container({"fflags": "+bitexact"}, {"libvpx-vp9": _VP9, "libsvtav1": _AV1}),
}


def encode_film(name: str, frames: NDArray[np.uint8], rate: float, comment: str) -> bytes:
    """The bytes of a film in the container ``name``: mp4 or webm.

    MissingExtraError if the build has no encoder for it; RequestError for pictures or rates that
    the encoder refuses, such as very large ones.
    """
    container = CONTAINERS[name]
    encoder = _encoder(name)
    exact = Fraction(rate).limit_denominator(FINEST_RATE)
    height, width = frames.shape[1:3]
    factor = enlargement(width, height)
    file = BytesIO()
    try:
        with av.open(file, "w", format=name, options=container.options) as output:
            output.metadata["comment"] = comment
            output.metadata["description"] = note(factor)
            stream = cast(
                av.VideoStream,
                output.add_stream(encoder, rate=exact, options=container.encoders[encoder]),
            )
            stream.width, stream.height, stream.pix_fmt = width * factor, height * factor, "yuv420p"
            context = stream.codec_context
            context.thread_count = 1  # the same bytes on every machine
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
            for number, frame in enumerate(frames):
                drawn = np.ascontiguousarray(frame.repeat(factor, 0).repeat(factor, 1))
                picture = av.VideoFrame.from_ndarray(drawn).reformat(
                    format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
                )
                picture.pts, picture.time_base, picture.duration = number, 1 / exact, 1
                output.mux(stream.encode(picture))
            output.mux(stream.encode(None))
    except (av.FFmpegError, ZeroDivisionError, OverflowError):
        raise RequestError(
            f"format {name}: {width * factor}x{height * factor} pixels at {rate:g} frames a second "
            "cannot be encoded; choose webp or apng",
            "format",
        ) from None
    return file.getvalue()


def _encoder(name: str) -> str:
    encoders = CONTAINERS[name].encoders
    for encoder in encoders:
        try:
            av.Codec(encoder, "w")
        except UnknownCodecError:
            continue
        return encoder
    raise MissingExtraError(
        f"format {name}: this build of PyAV has none of its encoders: {', '.join(encoders)}; "
        "webp, gif, apng and folders of frames go without them",
        "format",
    )
