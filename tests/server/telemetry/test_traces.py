"""Spans of requests: made if the environment asks for them, and without what nobody may read."""

import builtins
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.worlds.server import FakePipeline, Serve, Until
from unmask.errors import ConfigError
from unmask.server.http import app
from unmask.server.telemetry import traces

URL = "/v1/images/generations"


@pytest.fixture(name="spans")
def _spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What a server that is asked for traces sends."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(app, "make_provider", lambda: provider)
    return spans


def test_a_request_is_a_span_without_its_prompt_or_query(
    spans: InMemorySpanExporter, serve: Serve, pipeline: FakePipeline, until: Until
) -> None:
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with serve(lambda: pipeline) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        body = {"prompt": "secret cat"}
        answer = client.post(f"{URL}?token=secret", json=body, headers=parent)
        assert answer.status_code == 200
        assert client.get("/metrics").status_code == 200
    [span] = spans.get_finished_spans()
    assert span.name == f"POST {URL}"
    assert span.context is not None
    assert f"{span.context.trace_id:x}" == "af7651916cd43dd8448eb211c80319c"
    assert 200 in (span.attributes or {}).values()
    assert "secret" not in span.to_json()


def test_nothing_is_traced_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, client: TestClient
) -> None:
    assert not traces.is_traced()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    assert traces.is_traced()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert not traces.is_traced()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"unmask\[traces\]"):
        traces.make_provider()


def test_the_provider_is_named_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pictures")
    provider = traces.make_provider()
    assert provider.resource.attributes["service.name"] == "pictures"
    provider.shutdown()
