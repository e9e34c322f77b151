"""Whatever arrives, the answer is a picture or an envelope, and the worker lives on."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.server.schemas import ImageBody

URL = "/v1/images/generations"
JSON = {"content-type": "application/json"}
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from(sorted(ImageBody.model_fields)) | words
# The client lives through all examples: that is the point.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


@shared
@given(body=st.dictionaries(fields, values, max_size=6) | values, prompted=st.booleans())
def test_no_json_breaks_the_server(client, fault, body, prompted):
    if prompted and isinstance(body, dict):
        body = {"prompt": "a cat", **body}
    response = client.post(URL, content=json.dumps(body), headers=JSON)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        fault(response)
    assert client.get("/readyz").status_code == 200


@shared
@given(raw=st.binary(max_size=60))
def test_no_bytes_break_the_server(client, fault, raw):
    fault(client.post(URL, content=raw, headers=JSON), 400)
