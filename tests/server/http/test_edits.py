import base64
import io
import json
import struct
import threading
import zlib
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until
from tests.worlds.uploads import (
    IMAGE,
    MASK,
    OUTPAINT,
    PNG,
    VARIATIONS,
    file,
    left_half,
    noise,
    post,
)
from unmask.editing import Edit
from unmask.pipeline import DrawRequest, Pipeline, PreparedRequest


def text_of(image: Image.Image) -> dict[str, str]:
    assert isinstance(image, PngImageFile)
    return dict(image.text)


def edit_of(request: DrawRequest) -> Edit:
    assert isinstance(request.edit, Edit)
    return request.edit


def drawn(answer: httpx2.Response, index: int = 0) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][index]["b64_json"])))


def test_inpainting_keeps_what_the_mask_does_not_select(
    client: TestClient, pipeline: FakePipeline
) -> None:
    answer = post(client, image=PNG, mask=MASK)
    image = drawn(answer)
    assert (image.mode, image.size) == ("RGB", (40, 24))
    assert image.crop((20, 0, 40, 24)).tobytes() == IMAGE.crop((20, 0, 40, 24)).tobytes()
    assert image.crop((0, 0, 20, 24)).tobytes() != IMAGE.crop((0, 0, 20, 24)).tobytes()
    [request] = pipeline.drawn
    assert (request.prompt, request.size, edit_of(request).kind) == (
        "a red cat",
        (40, 24),
        "inpaint",
    )
    body = answer.json()
    assert (body["size"], body["background"]) == ("40x24", "opaque")
    assert body["edit"] == edit_of(request).summary()


def test_the_file_tells_the_edit_and_holds_no_more_of_it_than_a_digest(
    client: TestClient, pipeline: FakePipeline
) -> None:
    image = drawn(post(client, data={"prompt": "cat", "feather": "3"}, image=PNG, mask=MASK))
    notes = json.loads(text_of(image)["unmask"])
    assert notes["edit"] == edit_of(pipeline.drawn[0]).summary()
    assert notes["edit"]["feather"] == 3
    assert (notes["prompt"], notes["steps"], notes["size"]) == ("cat", 12, "40x24")
    assert len(text_of(image)["unmask"]) < 2000


@pytest.mark.parametrize(
    ("fields", "files", "expected"),
    [
        ({}, {"mask": MASK}, ("inpaint", 0, 1.0, None)),
        ({"feather": "2"}, {"mask": MASK}, ("inpaint", 2, 1.0, None)),
        ({}, {"mask": file(left_half("L", 255, 0))}, ("inpaint", 0, 1.0, None)),
        ({}, {}, ("revise", 0, 1.0, 0.5)),
        ({"share": "0.1"}, {}, ("revise", 0, 1.0, 0.1)),
        ({"share": "1", "feather": "4"}, {"mask": MASK}, ("revise", 4, 1.0, 1.0)),
        ({"strength": "0.5"}, {}, ("image_to_image", 0, 0.5, None)),
        ({"strength": "0.5", "feather": "1"}, {"mask": MASK}, ("image_to_image", 1, 0.5, None)),
    ],
)
def test_what_is_sent_decides_the_kind_of_edit(
    client: TestClient,
    pipeline: FakePipeline,
    fields: dict[str, str],
    files: dict[str, Any],
    expected: object,
) -> None:
    assert post(client, data={"prompt": "cat", **fields}, image=PNG, **files).status_code == 200
    edit = edit_of(pipeline.drawn[0])
    assert (edit.kind, edit.feather, edit.strength, edit.share) == expected
    assert edit.mask.mean() == (0.5 if files else 1)


@pytest.mark.parametrize(
    ("fields", "kind"), [({}, "inpaint"), ({"strength": "0.5"}, "image_to_image")]
)
def test_without_a_mask_transparent_pixels_are_one(
    client: TestClient, pipeline: FakePipeline, fields: dict[str, str], kind: str
) -> None:
    image = IMAGE.copy()
    image.putalpha(left_half("L", 0, 255))
    answer = post(client, data={"prompt": "cat", **fields}, image=file(image))
    assert drawn(answer).mode == "RGB"
    edit = edit_of(pipeline.drawn[0])
    assert edit.kind == kind
    assert (edit.mask == (np.asarray(image)[..., 3] == 0)).all()


def test_transparency_outside_the_mask_stays(
    client: TestClient, pipeline: FakePipeline, fault: CheckFault
) -> None:
    image = noise("RGBA")
    files: dict[str, Any] = {"image": file(image), "mask": MASK}
    answer = post(client, **files)
    result = drawn(answer)
    assert answer.json()["background"] == "transparent"
    assert result.crop((20, 0, 40, 24)).tobytes() == image.crop((20, 0, 40, 24)).tobytes()
    as_webp = post(client, data={"prompt": "cat", "output_format": "webp"}, **files)
    assert drawn(as_webp).mode == "RGBA"
    as_jpeg = post(client, data={"prompt": "cat", "output_format": "jpeg"}, **files)
    fault(as_jpeg, 400, "output_format")
    fault(post(client, data={"prompt": "cat", "background": "opaque"}, **files), 400, "background")


def test_outpainting_makes_the_picture_larger_by_so_much(
    client: TestClient, pipeline: FakePipeline
) -> None:
    sides = {"left": "8", "right": "16", "bottom": "1"}
    answer = post(client, OUTPAINT, {"prompt": "cat", "feather": "2", **sides}, image=PNG)
    image = drawn(answer)
    assert image.size == (64, 25)
    assert image.crop((8, 0, 48, 24)).tobytes() == IMAGE.tobytes()
    assert answer.json()["edit"]["kind"] == "outpaint"
    assert edit_of(pipeline.drawn[0]).feather == 2


def test_a_variation_needs_no_prompt(client: TestClient, pipeline: FakePipeline) -> None:
    answer = post(client, VARIATIONS, {"n": "2"}, image=PNG)
    assert drawn(answer, 1).size == (40, 24)
    post(client, VARIATIONS, {"prompt": "cat", "strength": "0.25"}, image=PNG)
    first, second = pipeline.drawn
    assert (first.prompt, first.n, edit_of(first).kind) == ("", 2, "variation")
    assert (edit_of(first).strength, edit_of(second).strength) == (0.5, 0.25)
    assert second.prompt == "cat"


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_every_format_that_is_read_is_taken_and_turned_upright(
    client: TestClient, kind: str
) -> None:
    exif = IMAGE.getexif()
    exif[0x0112] = 6
    answer = post(client, OUTPAINT, {"prompt": "", "top": "1"}, image=file(IMAGE, kind, exif=exif))
    assert drawn(answer).size == (24, 41)


def test_texts_are_read_as_strictly_as_json(client: TestClient, pipeline: FakePipeline) -> None:
    data = {
        "prompt": "2",
        "n": "2",
        "seed": str(2**64 - 1),
        "size": "40x24",
        "output_format": "webp",
        "stream": "false",
        "partial_images": "0",
        "temperature": "1",
        "guidance_scale": "2.0",
        "guidance": "interval",
        "guidance_interval": "[0.25, 0.5]",
        "mask_shares[]": ["0.5", "0"],  # how OpenAI's client sends a list
        "zigzag": "true",
        "eta": "null",
        "subjects": '[["2"]]',
        "user": "true",
    }
    answer = post(client, data=data, image=PNG, mask=MASK)
    assert answer.status_code == 200, answer.text
    [request] = pipeline.drawn
    assert (request.prompt, request.n, request.seed) == ("2", 2, 2**64 - 1)
    assert request.subjects == (("2",),)
    options = request.options.flat()
    assert (options["temperature"], options["guidance_interval"]) == (1.0, (0.25, 0.5))
    assert (options["mask_shares"], options["zigzag"]) == ((0.5, 0.0), True)
    assert "eta" not in options
    assert answer.json()["output_format"] == "webp"


@pytest.mark.parametrize(
    ("param", "text"),
    [
        ("n", "2.0"),
        ("n", ""),
        ("n", "two"),
        ("n", "2, 3"),
        ("n", "9" * 5000),
        ("seed", "-2"),
        ("zigzag", "True"),
        ("temperature", "NaN"),
        ("temperature", "1e999"),
        ("guidance_interval", "[0.9, 0.1]"),
        ("guidance_interval[]", "0.5"),
        ("subjects", "[" * 50_000),
        ("stream", "yes"),
        ("partial_images", "1"),
        ("size", "64x64"),  # the picture has 40x24
        ("prompt", "a\0b"),
        ("strength", "0"),
        ("strength", "1.5"),
        ("share", "-1"),
        ("feather", "-1"),
        ("feather", "257"),
        ("feather", "1.5"),
        ("scheduler", "euler"),
        ("background", "transparent"),
        ("left", "3"),
        ("markup", "x"),
        ("svg[model]", "x"),
        ("image[]", "text"),
        ("mask", "text"),
    ],
)
def test_a_bad_text_is_refused_by_name(
    client: TestClient, fault: CheckFault, param: str, text: str
) -> None:
    files: dict[str, Any] = {"mask": MASK} if param == "feather" else {}
    answer = post(client, data={"prompt": "cat", param: text}, image=PNG, **files)
    fault(answer, 400, param.partition("[")[0])


def test_share_and_strength_exclude_each_other(client: TestClient, fault: CheckFault) -> None:
    data = {"prompt": "cat", "share": "0.5", "strength": "0.5"}
    fault(post(client, data=data, image=PNG), 400, "share")


def test_a_feather_without_a_mask_is_refused(client: TestClient, fault: CheckFault) -> None:
    fault(post(client, data={"prompt": "cat", "feather": "2"}, image=PNG), 400, "feather")


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (1 + width) * 400, 9)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def animated(kind: str) -> bytes:
    return file(IMAGE, kind, save_all=True, append_images=[Image.new("RGB", IMAGE.size)])


@pytest.mark.parametrize("name", ["image", "mask"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"not an image", "png, jpeg or webp"),
        (bomb(20_000, 20_000), "pixels; the bound is"),
        (PNG[: len(PNG) // 2], "cut short"),
        (animated("gif"), "png, jpeg or webp"),
        (animated("png"), "2 frames"),
        (animated("webp"), "2 frames"),
        (file(Image.new("I;16", (40, 24))), "16 bits"),
    ],
)
def test_a_file_that_is_no_picture_to_edit_is_refused(
    client: TestClient, fault: CheckFault, name: str, content: bytes, words: str
) -> None:
    files: dict[str, Any] = {"image": PNG, "mask": MASK, name: content}
    error = fault(post(client, **files), 400, name)
    assert words in error["message"]


@pytest.mark.parametrize(
    "mask",
    [
        left_half("L", 255, 0, (24, 40)),
        Image.new("L", (40, 24)),
        Image.new("RGBA", (40, 24), "white"),
    ],
)
def test_a_mask_that_does_not_fit_or_selects_nothing_is_refused(
    client: TestClient, fault: CheckFault, mask: Image.Image
) -> None:
    fault(post(client, image=PNG, mask=file(mask)), 400, "mask")


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "cat"}, "left"),
        ({"prompt": "cat", "left": "-1"}, "left"),
        ({"prompt": "cat", "left": "x"}, "left"),
        ({"prompt": "cat", "top": "1000000000000"}, "top"),
        ({"prompt": "cat", "bottom": "1000000"}, "bottom"),
        ({"prompt": "cat", "left": "1", "mask": "x"}, "mask"),
    ],
)
def test_outpainting_that_cannot_be_done_is_refused(
    client: TestClient, fault: CheckFault, data: dict[str, object], param: str
) -> None:
    fault(post(client, OUTPAINT, data, image=PNG), 400, param)


@pytest.mark.slow
def test_the_bundled_model_edits_through_the_server(serve: Serve, until: Until) -> None:
    with serve(lambda: Pipeline.load("storybook")) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        data = {"prompt": "a red cat", "seed": "7", "steps": "4"}
        image = drawn(post(client, data=data, image=PNG, mask=MASK))
        assert image.crop((20, 0, 40, 24)).tobytes() == IMAGE.crop((20, 0, 40, 24)).tobytes()
        assert image.tobytes() == drawn(post(client, data=data, image=PNG, mask=MASK)).tobytes()
        revised = post(client, data=data, image=PNG)
        assert drawn(revised).size == (40, 24)
        assert drawn(post(client, VARIATIONS, {"n": "1"}, image=PNG)).size == (40, 24)
        larger = drawn(post(client, OUTPAINT, {**data, "right": "40"}, image=PNG))
        assert larger.crop((0, 0, 40, 24)).tobytes() == IMAGE.tobytes()


def test_an_edit_is_prepared_once_for_all_its_images_and_beside_the_worker(
    client: TestClient, pipeline: FakePipeline
) -> None:
    threads: list[str] = []
    prepare = pipeline.prepare

    def prepare_heard(request: DrawRequest) -> PreparedRequest:
        threads.append(threading.current_thread().name)
        return prepare(request)

    pipeline.prepare = prepare_heard  # type: ignore[method-assign]
    data = {"prompt": "cat", "n": "4"}
    assert post(client, data=data, image=PNG, mask=MASK).status_code == 200
    assert threads == ["once-weigh"]


def test_mask_mode_reads_an_opaque_mask_with_an_alpha_channel_by_its_colours(
    client: TestClient, fault: CheckFault, pipeline: FakePipeline
) -> None:
    mask = file(left_half("RGBA", (255, 255, 255, 255), (0, 0, 0, 255)))
    fault(post(client, image=PNG, mask=mask), 400, "mask")
    data = {"prompt": "cat", "mask_mode": "white"}
    assert post(client, data=data, image=PNG, mask=mask).status_code == 200
    [request] = pipeline.drawn
    edit = edit_of(request)
    assert edit.mask[:, :20].all()
    assert not edit.mask[:, 20:].any()
    fault(post(client, data=data, image=PNG), 400, "mask_mode")
    fault(post(client, data=data | {"mask_mode": "black"}, image=PNG, mask=mask), 400, "mask_mode")
