"""Whatever is sent, the answer is images or a refusal in the envelope; never a 5xx, never a 422."""

import json

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worlds.server import CheckFault
from unmask.server.http.schemas import GenerationBody

URL = "/v1/images/generations"
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-1, 70)
    | st.floats()
    | st.text()
    | st.text(st.characters(), max_size=3)  # surrogates too
    | st.sampled_from(["auto", "64x64", "0x0", "png", "webp", "jpeg", "halton", "linear", "low"])
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3)
)
names = st.sampled_from(sorted(GenerationBody.model_fields)) | st.text(max_size=12)
bodies = st.dictionaries(names, values, max_size=4)
valid_but_for_some = bodies.map(lambda body: {"prompt": "cat"} | body)


def post(client: TestClient, fault: CheckFault, body: bytes) -> int:
    answer = client.post(URL, content=body, headers={"content-type": "application/json"})
    if answer.status_code == 200:
        assert answer.json()["data"]
    else:
        assert answer.status_code in (400, 404)
        fault(answer)
    status: int = answer.status_code
    return status


@pytest.mark.slow
@FUZZ
@given(body=valid_but_for_some | bodies | values)
def test_any_json_is_served_or_refused(client: TestClient, fault: CheckFault, body: bytes) -> None:
    post(client, fault, json.dumps(body).encode())


@pytest.mark.slow
@FUZZ
@given(name=st.sampled_from(sorted(GenerationBody.model_fields)), value=scalars)
def test_any_value_of_any_field_is_served_or_refused(
    client: TestClient, fault: CheckFault, name: str, value: object
) -> None:
    body = json.dumps({"prompt": "cat"} | {name: value}, ensure_ascii=False)
    post(client, fault, body.encode(errors="surrogatepass"))


@pytest.mark.slow
@FUZZ
@given(body=st.binary())
def test_any_bytes_are_refused(client: TestClient, fault: CheckFault, body: bytes) -> None:
    assert post(client, fault, body) == 400
