"""Hostile files and forms against a real server: no crash, no server error, nothing of a decoder,
a path or an address in any answer, and memory that stays. ``make fuzz`` sends more of them."""

import base64
import io
import json
import os
import random
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.worlds.server import FakePipeline, live_server, wait_until
from tests.worlds.uploads import EDITS, MASK, OUTPAINT, PNG, VARIATIONS, file, noise
from unmask.server.engine.engine import EngineState

CASES = int(os.environ.get("HOSTILE_CASES", "300"))
MOST_GROWN = 24 << 20  # bytes; what the allocator keeps is a part of it
STATUSES = {200, 400, 404, 413, 415}
# What an answer would hold if a decoder, a traceback or a repr spoke through it.
TELLTALES = (
    *("Traceback", 'File "', "site-packages", "0x7f", "<_io", "BytesIO", "PIL", "Pillow", "libpng"),
    *("truncated", "broken data", "decoder", "cannot identify", "Errno", "zlib", "struct.error"),
    *("passwd", "OSError", "ValueError"),
    # Where things are on this machine: the folders at its root that hold any of them.
    *{f"/{Path(place).parts[1]}/" for place in (__file__, sys.prefix, gettempdir(), Path.home())},
    *("/usr/", "/etc/", "/home/"),
)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _huge(width: int, height: int) -> bytes:
    """A png of few bytes that says it is that large."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9))
    return PNG[:8] + head + pixels + _chunk(b"IEND", b"")


def _still(kind: str, mode: str = "RGB") -> bytes:
    return file(noise().convert(mode), kind)


def _animated(kind: str) -> bytes:
    more = [Image.new("RGB", (40, 24), colour) for colour in ("red", "blue")]
    return file(noise(), kind, save_all=True, append_images=more)


def _deep() -> bytes:
    return file(Image.fromarray(np.full((24, 40), 40_000, np.uint16)), "png")


FILES: dict[str, bytes] = {
    "png": PNG,
    "jpeg": _still("jpeg"),
    "webp": _still("webp"),
    "cmyk": _still("jpeg", "CMYK"),
    "palette": _still("png", "P"),
    "16 bits": _deep(),
    "gif": _still("gif"),
    "bmp": _still("bmp"),
    "tiff": _still("tiff"),
    "ico": _still("ico"),
    "phone": _animated("mpo"),
    "animated png": _animated("png"),
    "animated webp": _animated("webp"),
    "bomb": _huge(20_000, 20_000),
    "endless": _huge(2**31 - 1, 2**31 - 1),
    "lying": _huge(1000, 1000),
    "unfolding": PNG[:33] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8 << 20), 9)) + PNG[33:],
    "profile": PNG[:33] + _chunk(b"iCCP", b"a\0\0" + zlib.compress(b"rubbish" * 99)) + PNG[33:],
    "exif": b"\xff\xd8\xff\xe1\0\x10Exif\0\0rubbish!" + _still("jpeg")[2:],
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "text": b"not a picture",
    "nothing": b"",
    "zeros": bytes(4096),
}

Harm = Callable[[bytes, random.Random], bytes]


def _as_it_is(data: bytes, chance: random.Random) -> bytes:
    return data


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    spoiled = bytearray(data)
    for _ in range(chance.randint(1, 12) if spoiled else 0):
        spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
    return bytes(spoiled)


def _filled(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.randbytes(chance.randint(1, 2000)) + data[place:]


def _swapped(data: bytes, chance: random.Random) -> bytes:
    """The head of one file before the body of another."""
    length = chance.randint(4, 40)
    return chance.choice(list(FILES.values()))[:length] + data[length:]


HARMS: tuple[Harm, ...] = (_as_it_is, _cut, _flipped, _filled, _swapped)
NAMES = ("a.png", "../../etc/passwd", "a\0.png", "", "x" * 3000, 'a"; filename="b', "été.webp")
TYPES = (
    "image/png",
    "image/jpeg",
    "text/html",
    "application/x-python-pickle",
    "",
    "image/png; x=y",
)
FIELDS: dict[str, tuple[Any, ...]] = {
    "prompt": ("a red cat", "", "\x01\x02", "x" * 5000, "é" * 30, "%s%n{0}", "../../etc/passwd"),
    "n": ("1", "0", "-1", "9" * 400, "1e9", "[1]", ["1", "2"], "null"),
    "seed": ("7", "1.5", "NaN", "9" * 5000),
    "strength": ("0.5", "0", "Infinity", "-0", "0.5.5", "true"),
    "feather": ("3", "2.5", str(10**30), "{}"),
    "mask_mode": ("alpha", "white", "wihte"),
    "subjects": ("[[[[", "[" * 3000, '[["red"]]', "red"),
    "model": ("None", "../../etc/passwd", "\0", "storybook", "file:///etc/passwd"),
    "size": ("64x64", "0x0", "99999x99999", "64X64", "-1x5"),
    "mask_shares": ("[0.5, 0]", "0.5", "[" + "0.1," * 300 + "0]", "[NaN]"),
    "left": ("8", "-1", "99999999999", "0.5"),
    "sort": ("me",),
    "__class__": ("x",),
    "user[]": ("a", ["a", "b"]),
}
URLS = (
    "data:image/png;base64,",
    "data:text/html,",
    "file:///etc/passwd",
    "http://127.0.0.1:1/",
    "",
)


def _requests(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Arguments of ``post``, without end: forms, JSON bodies, and forms that are none."""
    while True:
        url = chance.choice((EDITS, EDITS, OUTPAINT, VARIATIONS))
        image, mask = (
            chance.choice(HARMS)(chance.choice(list(FILES.values())), chance) for _ in range(2)
        )
        if chance.random() < 0.3:
            image = PNG  # so that the mask is looked at
        names = chance.sample(sorted(FIELDS), chance.choice((0, 0, 1, 2)))
        fields = {"prompt": "a red cat"} | {name: chance.choice(FIELDS[name]) for name in names}
        kind = chance.random()
        if kind < 0.75:
            files = [("image", (chance.choice(NAMES), image, chance.choice(TYPES)))]
            if chance.random() < 0.4:
                files.append(("mask", (chance.choice(NAMES), mask, chance.choice(TYPES))))
            yield {"url": url, "data": fields, "files": files}
        elif kind < 0.9:
            address = chance.choice(URLS) + base64.b64encode(image).decode()
            body: dict[str, Any] = fields | {"images": [{"image_url": address}]}
            if chance.random() < 0.4:
                body["mask"] = {"image_url": base64.b64encode(mask).decode()}
            yield {"url": url, "json": body}
        else:
            content = b"--x\r\n" + chance.randbytes(chance.randint(0, 400)) + image
            kinds = ("multipart/form-data; boundary=x", "multipart/form-data", "application/json")
            yield {
                "url": url,
                "content": content,
                "headers": {"content-type": chance.choice(kinds)},
            }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _check(answer: httpx2.Response) -> None:
    assert answer.status_code in STATUSES, answer.text[:500]
    if answer.status_code == 200:
        for item in answer.json()["data"]:
            Image.open(io.BytesIO(base64.b64decode(item["b64_json"]))).load()
        return
    body = json.loads(answer.content)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    # What was sent may be told back: it is no secret of the server's.
    own = answer.text.replace("../../etc/passwd", "").replace("file:///etc/passwd", "")
    found = [word for word in TELLTALES if word in own]
    assert not found, (found, answer.text[:500])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by /proc")
def test_hostile_files_and_forms_are_answered_and_leave_nothing_behind(
    pipeline: FakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(15)
    good: dict[str, Any] = {"data": {"prompt": "cat", "seed": "3"}, "files": {"image": PNG}}
    good["files"] |= {"mask": MASK}
    statuses: Counter[int] = Counter()
    with live_server(lambda key, device: pipeline) as server:
        wait_until(lambda: server.engine.state is EngineState.READY)
        address = f"http://127.0.0.1:{server.bound_port}"
        with httpx2.Client(base_url=address, timeout=60) as client:
            before = client.post(EDITS, **good).json()["data"]
            middle = 0
            for number, arguments in zip(range(CASES), _requests(chance), strict=False):
                answer = client.post(**arguments)
                _check(answer)
                statuses[answer.status_code] += 1
                pipeline.drawn.clear()
                if number == CASES // 2:
                    middle = _resident()
            grown = _resident() - middle
            assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
            assert client.post(EDITS, **good).json()["data"] == before
    told = f"{CASES} hostile requests: {dict(sorted(statuses.items()))}, "
    print(f"{told}{grown / 2**20:.1f} MiB more at the end than in the middle")
    assert "Traceback" not in caplog.text
    assert statuses[200] >= CASES / 20  # some are files that can be read after all
    assert statuses[400] >= CASES / 3
    assert grown < MOST_GROWN
