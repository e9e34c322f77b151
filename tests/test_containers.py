"""The image, Compose and Kubernetes: each file is what its schema says, and fits the server."""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import latest_version, validate

from unmask.server.http.app import create_app
from unmask.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = [pytest.param(name, id=f"overlay-{name}") for name in ("base", "cpu", "gpu")]
PROFILES = [pytest.param(name, id=f"profile-{name}") for name in ("cpu", "gpu")]
OF_OPERATORS = {"ServiceMonitor", "ScaledObject"}  # of no schema that is at hand
BUILT_BY = {"Kustomization", "Component"}

Resource = dict[str, Any]


def _tool(name: str) -> str:
    """A command that was installed beside the interpreter."""
    return str(Path(sys.executable).parent / name)


def _succeeds(*words: object) -> str:
    """What a command says; the test fails, and shows it, if the command does."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _documents(text: str) -> list[Resource]:
    return [document for document in yaml.safe_load_all(text) if document]


@cache
def _written() -> list[Resource]:
    """All resources as they stand in the files."""
    found = [
        document
        for file in sorted(KUBERNETES.rglob("*.yaml"))
        for document in _documents(file.read_text(encoding="utf-8"))
    ]
    return [document for document in found if document["kind"] not in BUILT_BY]


@cache
def _built(overlay: str) -> list[Resource]:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    return _documents(_succeeds("kubectl", "kustomize", KUBERNETES / overlay))


def _compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return compose


def _of_kind(resources: list[Resource], kind: str) -> list[Resource]:
    return [resource for resource in resources if resource["kind"] == kind]


def _check(resources: list[Resource]) -> None:
    for resource in resources:
        if resource["kind"] not in OF_OPERATORS:
            validate(resource, latest_version(), strict=True)


def test_the_linter_of_dockerfiles_is_quiet() -> None:
    _succeeds(_tool("hadolint"), ROOT / "Dockerfile")


def test_the_script_that_tests_the_image_is_one() -> None:
    _succeeds("bash", "-n", DEPLOY / "image_test.sh")


def test_all_that_the_image_copies_is_sent_to_its_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {
        word
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)


def test_every_variable_is_a_setting() -> None:
    files = [ROOT / "Dockerfile", *(file for file in DEPLOY.rglob("*") if file.is_file())]
    named = {
        name
        for file in files
        if "secrets" not in file.parts
        for name in re.findall(rf"\b{PREFIX}([A-Z_]+)", file.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    assert {name.lower().removesuffix("_file") for name in named} - set(Settings.model_fields) == (
        set()
    )


def test_compose_is_what_its_schema_says() -> None:
    checker = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    _succeeds(*checker, COMPOSE)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_of_compose_has_all_that_it_names(profile: str) -> None:
    compose = _compose()
    services = {
        name: service
        for name, service in compose["services"].items()
        if profile in service["profiles"]
    }
    assert len(services) == 4
    for service in services.values():
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = source in compose["volumes"] or (DEPLOY / source).exists()
            assert known, volume
    [server] = [name for name, service in services.items() if "build" in service]
    aliases = services[server].get("networks", {}).get("default", {}).get("aliases", [])
    assert "unmask" in {server, *aliases}  # as prometheus.yml has it


def test_compose_waits_for_as_long_as_the_server_may_take_to_stop() -> None:
    for service in _compose()["services"].values():
        if "build" in service:
            seconds = int(service["stop_grace_period"].removesuffix("s"))
            assert seconds > Settings.model_fields["shutdown_timeout_seconds"].default


def test_every_resource_is_what_its_schema_says() -> None:
    assert len(_written()) > 7
    _check(_written())


def test_a_wrong_resource_would_be_found() -> None:
    with pytest.raises(Exception, match="replica"):
        _check([{**_of_kind(_written(), "Service")[0], "replica": 2}])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_kustomize_makes_is_what_its_schema_says(overlay: str) -> None:
    resources = _built(overlay)
    _check(resources)
    spaces = {resource["metadata"].get("namespace") for resource in resources}
    assert spaces == {None, "unmask"}  # none of the namespace itself
    names = [(resource["kind"], resource["metadata"]["name"]) for resource in resources]
    assert len(names) == len(set(names))
    assert OF_OPERATORS & {kind for kind, _ in names} == (
        set() if overlay == "base" else OF_OPERATORS
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_what_it_names_and_whoever_selects_it_finds_it(overlay: str) -> None:
    resources = _built(overlay)
    [deployment] = _of_kind(resources, "Deployment")
    pod = deployment["spec"]["template"]
    claims = {claim["metadata"]["name"] for claim in _of_kind(resources, "PersistentVolumeClaim")}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    named = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes.values()
        if "persistentVolumeClaim" in volume
    }
    assert named == claims
    [container] = pod["spec"]["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    labels = pod["metadata"]["labels"].items()
    for kind, path in (
        ("Deployment", ("selector", "matchLabels")),
        ("Service", ("selector",)),
        ("PodDisruptionBudget", ("selector", "matchLabels")),
        ("NetworkPolicy", ("podSelector", "matchLabels")),
    ):
        [resource] = _of_kind(resources, kind)
        chosen = resource["spec"]
        for step in path:
            chosen = chosen[step]
        assert chosen, kind
        assert chosen.items() <= labels, kind


def test_the_probes_ask_for_routes_that_there_are() -> None:
    [deployment] = _of_kind(_written(), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    probes = [probe for name, probe in container.items() if name.endswith("Probe")]
    asked = {probe["httpGet"]["path"] for probe in probes}
    paths = set(create_app(Settings()).openapi()["paths"])
    assert asked == {"/livez", "/readyz"}
    assert asked <= paths
    [monitor] = _of_kind(_written(), "ServiceMonitor")
    assert {endpoint["path"] for endpoint in monitor["spec"]["endpoints"]} <= paths
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    stop = int(variables["UNMASK_SHUTDOWN_TIMEOUT_SECONDS"])
    assert int(variables["UNMASK_SHUTDOWN_DELAY_SECONDS"]) < stop
    assert stop < pod["terminationGracePeriodSeconds"]
    assert pod["enableServiceLinks"] is False


def test_a_pod_on_a_gpu_takes_one() -> None:
    [deployment] = _of_kind(_built("gpu"), "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "UNMASK_DEVICE", "value": "cuda"} in container["env"]
    assert "replicas" not in deployment["spec"]
