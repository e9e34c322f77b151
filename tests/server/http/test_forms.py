"""Forms as forms: what is no such form, what is too large, and whatever may be sent."""

import json
import tracemalloc
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from tests.worlds.server import CheckFault, FakePipeline, Serve, Until
from tests.worlds.uploads import EDITS, IMAGE, MASK, OUTPAINT, PNG, VARIATIONS, file, post
from unmask.server.http.app import create_app
from unmask.server.http.schemas import EditBody
from unmask.settings import Settings


@pytest.mark.parametrize("url", [EDITS, OUTPAINT, VARIATIONS])
def test_exactly_one_image_is_needed(client: TestClient, fault: CheckFault, url: str) -> None:
    error = fault(post(client, url, {"prompt": "cat", "top": "1"}, other=PNG), 400, "other")
    assert "image" in error["message"]
    data = {"prompt": "cat"}
    assert (
        "missing"
        in fault(client.post(url, files={"prompt": (None, "cat")}), 400, "image")["message"]
    )
    twice = [("image[]", ("a.png", PNG)), ("image[]", ("b.png", PNG))]
    several = fault(client.post(url, data=data, files=twice), 400, "image")["message"]
    assert "edit 1 picture at a time" in several
    mixed = [("image", ("a.png", PNG)), ("image[]", ("b.png", PNG))]
    fault(client.post(url, data=data, files=mixed), 400, "image")


def test_a_field_that_is_there_twice_is_refused(client: TestClient, fault: CheckFault) -> None:
    fault(post(client, data={"prompt": "cat", "n": ["1", "2"]}, image=PNG), 400, "n")
    fault(post(client, data={"prompt": "cat", "n": "1", "n[]": "2"}, image=PNG), 400, "n")


@pytest.mark.parametrize("name", ["guidance_interval", "guidance_interval[]"])
def test_a_list_may_come_as_a_part_a_value(client: TestClient, name: str) -> None:
    data = {"prompt": "cat", "guidance": "interval", "guidance_scale": "2"}
    answer = post(client, data=data | {name: ["0.25", "0.5"]}, image=PNG)
    assert answer.json()["guidance_interval"] == [0.25, 0.5]


def test_a_list_of_lists_may_come_as_a_part_a_list(client: TestClient) -> None:
    subjects = ['["red", "apple"]', '["blue", "book"]']
    for value in (subjects, f"[{', '.join(subjects)}]"):
        data = {"prompt": "a red apple and a blue book", "subjects": value}
        answer = post(client, data=data, image=PNG)
        assert answer.json()["subjects"] == [["red", "apple"], ["blue", "book"]]


def test_a_list_of_lists_whose_ends_are_lost_is_refused_with_a_way_out(
    client: TestClient, fault: CheckFault
) -> None:
    data = {"prompt": "a red apple", "subjects[][]": ["red", "apple"]}
    assert "as JSON" in fault(post(client, data=data, image=PNG), 400, "subjects")["message"]


@pytest.mark.parametrize("name", sorted(EditBody.model_fields.keys() - {"prompt"}))
def test_null_is_as_good_as_absent_for_every_field(
    client: TestClient, pipeline: FakePipeline, name: str
) -> None:
    answer = post(client, data={"prompt": "null", name: "null"}, image=PNG)
    assert answer.status_code == 200, answer.text
    assert pipeline.drawn[0].prompt == "null"


@pytest.mark.parametrize("url", [EDITS, OUTPAINT, VARIATIONS])
@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/mixed"]
)
def test_another_content_type_is_refused(
    client: TestClient, fault: CheckFault, url: str, kind: str
) -> None:
    headers = {"content-type": kind} if kind else {}
    error = fault(client.post(url, content=b"{}", headers=headers), 415)
    assert "multipart/form-data" in error["message"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"--x",
        b"--x\r\n\r\n",
        b"--x\r\ncontent-disposition: form-data\r\n\r\n1\r\n--x--\r\n",
        b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\ncat',
        b"--y\r\n" * 1000,
    ],
)
def test_a_form_that_is_none_is_refused(
    client: TestClient, fault: CheckFault, content: bytes
) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    fault(client.post(EDITS, content=content, headers=headers), 400)
    fault(client.post(EDITS, content=content, headers={"content-type": "multipart/form-data"}), 400)


def test_too_many_parts_and_too_long_ones_are_refused(
    client: TestClient, fault: CheckFault
) -> None:
    many_fields = {"prompt": "cat", "n": ["1"] * 300}
    assert "Too many fields" in fault(post(client, data=many_fields, image=PNG), 400)["message"]
    many_files = [("image", ("a.png", b"x"))] * 20
    assert "Too many files" in fault(client.post(EDITS, files=many_files), 400)["message"]
    long = {"prompt": "x" * 70_000}
    assert "maximum size" in fault(post(client, data=long, image=PNG), 400)["message"]


def test_forms_have_a_limit_of_their_own(
    serve: Serve, pipeline: FakePipeline, until: Until, fault: CheckFault
) -> None:
    with serve(lambda: pipeline, max_body_bytes=1000, max_upload_bytes=len(PNG) + 2000) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        assert post(client, image=PNG).status_code == 200
        assert fault(post(client, image=PNG + b"\0" * 3000), 413)["code"] == "body_too_large"
        as_json = client.post("/v1/images/generations", json={"prompt": "x" * 1000})
        fault(as_json, 413)


@pytest.mark.anyio
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_of_300_megabytes_is_refused_and_never_held(announced: bool) -> None:
    total, size, taken = 300 << 20, 1 << 16, 0
    start = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    zeros = bytes(size)
    sent = []

    async def receive() -> Message:
        nonlocal taken
        body = zeros if taken else start
        taken += len(body)
        return {"type": "http.request", "body": body, "more_body": taken < total}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    if announced:
        headers.append((b"content-length", str(total).encode()))
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": EDITS, "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "server": ("x", 80)}
    app = create_app(Settings())
    tracemalloc.start()
    try:
        await app(scope, receive, send)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["error"]["code"] == "body_too_large"
    assert taken <= (0 if announced else (20 << 20) + size)
    assert peak < 8 << 20


texts = (
    st.sampled_from(["", "1", "-1", "0.5", "true", "null", "[0.1, 0.2]", "[[]]", "NaN", "halton"])
    | st.text(max_size=5)
    | st.integers().map(str)
)
names = st.sampled_from(sorted(EditBody.model_fields)) | st.text(max_size=8)
contents = st.sampled_from([PNG, MASK, file(IMAGE, "jpeg"), b""]) | st.binary(max_size=40)


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    url=st.sampled_from([EDITS, OUTPAINT, VARIATIONS]),
    fields=st.dictionaries(names, texts, max_size=3),
    files=st.dictionaries(st.sampled_from(["image", "mask", "x"]), contents, max_size=2),
    whole=st.booleans(),
)
def test_any_form_is_served_or_refused(
    client: TestClient,
    fault: CheckFault,
    url: str,
    fields: dict[str, str],
    files: dict[str, Any],
    whole: object,
) -> None:
    if whole:  # but for one field or file
        fields, files = {"prompt": "cat"} | fields, {"image": PNG} | files
    answer = post(client, url, fields, **files)
    if answer.status_code != 200:
        assert answer.status_code in (400, 404)
        fault(answer)
