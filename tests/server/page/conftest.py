"""A real server with the bundled models, and Debian's Chromium in front of it."""

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from tests.worlds.server import log_as_it_was
from tests.worlds.studio import Studio, wait_for_port
from unmask.server.http.server import Server
from unmask.settings import Settings

CHROMIUM = shutil.which("chromium")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
Serve = Callable[..., contextlib.AbstractContextManager[str]]

WAIT_MS = 20_000  # for what a slow machine may take a while to do


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        skip = pytest.mark.skip(reason="needs chromium on the path (Debian: apt install chromium)")
        for item in items:
            if "browser" in item.keywords:
                item.add_marker(skip)


@contextlib.contextmanager
def running(folder: Path, **options: object) -> Iterator[str]:
    """The address of a server of the bundled models."""
    given = {"port": 0, "threads": 1, "shutdown_timeout_seconds": 1}
    settings = Settings.model_validate({**given, "state_dir": folder, **options})
    with log_as_it_was():
        server = Server(settings)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_for_port(server)
            yield f"http://127.0.0.1:{server.bound_port}/"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a module; its loop must be gone before other tests."""
    with sync_playwright() as playwright:
        # CI runs as root, where Chromium has no sandbox; it opens nothing but our own page.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that most tests share."""
    with running(tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Makes a server of one's own, from settings."""

    def make(**options: object) -> contextlib.AbstractContextManager[str]:
        return running(tmp_path, **options)

    return make


@pytest.fixture
def open_studio(browser: Browser) -> Iterator[Callable[..., Studio]]:
    """Opens the page in a browser of its own; in the end nothing may have been said in its console,
    and nothing asked for elsewhere. ``expects``: the refusals that a test provokes."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []
    expected: list[str] = []

    def make(
        address: str,
        settings: dict[str, object] | None = None,
        view: str = "draw",
        *,
        width: int = 1280,
        height: int = 900,
        moving: bool = False,
        dark: bool = False,
        expects: tuple[str, ...] = (),
    ) -> Studio:
        expected.extend(expects)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            reduced_motion="no-preference" if moving else "reduce",
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
        )
        context.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        _watch(page, address, faults)
        return Studio(page, address, view, settings)

    yield make
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not any(word in fault for word in expected)] == []


def _watch(page: Page, address: str, faults: list[str]) -> None:
    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"console: {message.text} {message.location.get('url', '')}")

    page.on("console", hear)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "blob:", "data:"))
            else faults.append(f"asked elsewhere: {request.url}")
        ),
    )
