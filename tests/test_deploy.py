"""What deploy/ asks Prometheus for is what a server tells it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from tests.worlds.server import FakePipeline, serving, wait_until

DEPLOY = Path(__file__).parents[1] / "deploy"
NAME = re.compile(r"\b(?:unmask|process)_\w+")
SELECTOR = re.compile(r"((?:unmask|process)_\w+)\{([^}]*)\}")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
# Of Prometheus's own, and those that it gives to whatever it reads.
ADDED = {"instance", "job", "le", "namespace"}


def expressions() -> list[str]:
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    dashboard = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))
    found += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    scaling = yaml.safe_load((DEPLOY / "kubernetes/operators/scaling.yaml").read_text("utf-8"))
    found += [trigger["metadata"]["query"] for trigger in scaling["spec"]["triggers"]]
    return found + [entry["query"]["query"] for entry in dashboard["templating"]["list"][1:]]


@pytest.fixture(name="samples")
def _samples() -> dict[str, set[str]]:
    """The labels of each metric of a server that has drawn, refused and failed."""
    pipeline = FakePipeline()
    with serving(lambda: pipeline) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        _use(client)
        text = client.get("/metrics").text
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for name in (family.name, *(sample.name for sample in family.samples)):
            labels.setdefault(name, set())
        for sample in family.samples:
            labels[sample.name] |= set(sample.labels)
    return labels


def _use(client: TestClient) -> None:
    assert client.post("/v1/images/generations", json={"prompt": "cat"}).status_code == 200
    assert client.post("/v1/images/generations", json={"prompt": 7}).status_code == 400


def test_every_metric_that_is_named_is_told(samples: dict[str, set[str]]) -> None:
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(named) > 20
    # Of a GPU there is none on a machine without.
    assert named - set(samples) - {"unmask_device_memory_bytes"} == set()


def test_every_label_that_is_asked_for_is_told(samples: dict[str, set[str]]) -> None:
    wrong: list[tuple[str, str]] = []
    for expression in expressions():
        for name, selector in SELECTOR.findall(expression):
            asked = set(LABEL.findall(re.sub(r'"[^"]*"', "", selector))) - ADDED
            wrong += [(name, label) for label in asked - samples.get(name, set())]
        told = {label for name in NAME.findall(expression) for label in samples.get(name, set())}
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            by = {label.strip() for label in group.split(",")} - ADDED - {"device"}
            wrong += [(expression, label) for label in by - told]
    assert wrong == []


def test_the_dashboard_shows_no_two_panels_in_one_place() -> None:
    dashboard: dict[str, Any] = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
