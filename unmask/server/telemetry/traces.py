"""Traces by OpenTelemetry, if its own variables (OTEL_*) ask for them.

A span has a request's method, route, status and times. Neither bodies nor queries are in it: they
would tell prompts and secrets.
"""

import os
from typing import TYPE_CHECKING

from fastapi import FastAPI

from unmask import __version__
from unmask.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

# Either names where spans go; without one there is nobody to send them to.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# Probes and scrapes come every few seconds, and nobody looks for them in traces.
UNTRACED = "livez,readyz,metrics"
# What holds the query of a request, in the older and the newer words for it.
QUERIES = ("http.url", "http.target", "url.full", "url.query")


def is_traced() -> bool:
    """Whether the environment asks for traces."""
    switched_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    none = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").lower() == "none"
    return any(map(os.environ.get, ENDPOINTS)) and not switched_off and not none


def make_provider() -> "TracerProvider":
    """What sends spans to where OTEL_EXPORTER_OTLP_* say, as a service named as they say, or
    ``unmask``. ConfigError if the packages for it are not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            f"OTEL_* variables ask for traces, and {error.name} is not installed: "
            "pip install 'unmask[traces]', or set OTEL_SDK_DISABLED=true"
        ) from None
    name = os.environ.get("OTEL_SERVICE_NAME", "unmask")
    resource = Resource.create({"service.name": name, "service.version": __version__})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def trace(app: FastAPI, provider: "TracerProvider") -> None:
    """Make a span of each request; a ``traceparent`` that a client sends is its parent."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=provider,
        excluded_urls=UNTRACED,
        exclude_spans=["receive", "send"],
        server_request_hook=_without_query,
    )


def _without_query(span: "Span", scope: dict[str, object]) -> None:
    attributes = getattr(span, "attributes", None) or {}
    for name in QUERIES:
        text = attributes.get(name)
        if isinstance(text, str) and (name == "url.query" or "?" in text):
            span.set_attribute(name, "" if name == "url.query" else text.partition("?")[0])
