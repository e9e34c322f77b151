"""What /metrics tells, and under which labels."""

from concurrent.futures import ThreadPoolExecutor

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from tests.worlds.server import FakePipeline, Gate, Serve, Until, wait_until
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile
from unmask.settings import load_settings

URL = "/v1/images/generations"
CAT = {"prompt": "cat", "steps": 3}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(client: TestClient, headers: dict[str, str] | None = None) -> Samples:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def test_a_drawing_is_counted_and_every_stage_has_its_seconds(client: TestClient) -> None:
    assert client.post(URL, json=CAT | {"n": 2}).status_code == 200
    samples, model = read(client), "storybook"
    assert value(samples, "unmask_images_total", model=model, key="") == 2
    assert value(samples, "unmask_tokens_total", model=model, key="") == 128
    assert value(samples, "unmask_drawings_total", end="finished") == 1
    asked = {"route": URL, "method": "POST", "status": "200", "key": ""}
    assert value(samples, "unmask_requests_total", **asked) == 1
    counts = {"queue": 1, "encode": 2, "steps": 2, "decode": 2}
    for stage, count in counts.items():
        labels = {"stage": stage, "model": model}
        assert value(samples, "unmask_stage_seconds_count", **labels) == count
        assert value(samples, "unmask_stage_seconds_bucket", **labels, le="+Inf") == count
    rows = value(samples, "unmask_step_rows_sum", model=model)
    assert rows == 6  # two images of three steps, in whatever batches
    assert value(samples, "unmask_step_seconds_count", model=model) <= rows
    assert value(samples, "unmask_answer_seconds_count", model=model) == 1
    assert value(samples, "unmask_model_bytes", model=model) == 100
    assert value(samples, "unmask_model_loads_total", model=model) == 1
    assert value(samples, "process_resident_memory_bytes") > 0


def test_what_waits_and_runs_is_told(
    serve: Serve, pipeline: FakePipeline, gate: Gate, until: Until
) -> None:
    pipeline.fake.during = gate
    with serve(lambda: pipeline, max_rows=1) as client, ThreadPoolExecutor(2) as pool:
        until(lambda: client.get("/readyz").status_code == 200)
        drawings = [pool.submit(client.post, URL, json=CAT) for _ in range(2)]
        until(lambda: value(read(client), "unmask_queue") == 1)
        samples = read(client)
        gate.opened.set()
        assert [drawing.result().status_code for drawing in drawings] == [200, 200]
    assert value(samples, "unmask_rows") == value(samples, "unmask_rows_limit") == 1
    assert value(samples, "unmask_workers") == 1


def test_unknown_paths_are_one_label(client: TestClient) -> None:
    for path in ("/a", "/b", "/c?x=1", "/v1/models/no"):
        client.get(path)
    samples = read(client)
    lost = {"route": "none", "method": "GET", "status": "404", "key": ""}
    assert value(samples, "unmask_requests_total", **lost) == 3
    known = {**lost, "route": "/v1/models/{model_id:path}"}
    assert value(samples, "unmask_requests_total", **known) == 1
    assert value(samples, "unmask_refused_total", reason="not_found", key="") == 3
    assert value(samples, "unmask_refused_total", reason="model_not_found", key="") == 1


def test_methods_that_nobody_knows_are_one_label(client: TestClient) -> None:
    for method in ("XGET", "BREW"):
        client.request(method, "/livez")
    samples = read(client)
    methods = {dict(labels).get("method") for _, labels in samples} - {None}
    assert methods <= {"GET", "OTHER"}


def test_names_of_keys_are_labels_and_addresses_are_not(
    serve: Serve, pipeline: FakePipeline
) -> None:
    file = KeyFile(load_settings().state_folder)
    ann = {"authorization": f"Bearer {file.add('ann', ['draw'], Limits(requests_per_minute=1))}"}
    eve = {"authorization": f"Bearer {file.add('eve', ['metrics'], Limits())}"}
    with serve(lambda: pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.post(URL, json=CAT, headers=ann).status_code == 200
        assert client.post(URL, json=CAT, headers=ann).status_code == 429
        assert client.post(URL, json=CAT, headers={"authorization": "Bearer x"}).status_code == 401
        assert client.get("/metrics", headers=ann).status_code == 403
        samples = read(client, eve)
    assert value(samples, "unmask_images_total", model="storybook", key="ann") == 1
    assert value(samples, "unmask_refused_total", reason="rate_limit_exceeded", key="ann") == 1
    assert value(samples, "unmask_refused_total", reason="invalid_api_key", key="") == 1
    labels = {text for _, pairs in samples for _, text in pairs}
    assert "testclient" not in labels
