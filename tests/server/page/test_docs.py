"""/docs in a real browser, on a server with keys."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.server.page.conftest import WAIT_MS, Serve
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile

pytestmark = pytest.mark.browser


def test_a_browser_opens_the_document_and_tries_a_request_with_its_key(
    serve: Serve, browser: Browser, tmp_path: Path
) -> None:
    key = KeyFile(tmp_path).add("ann", ["draw"], Limits())
    with serve() as address:
        context = browser.new_context(http_credentials={"username": "me", "password": key})
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}docs")
        page.get_by_role("button", name="Authorize").click()
        dialog = page.locator(".dialog-ux")
        field = dialog.get_by_label("auth-bearer-value")
        field.fill(key)
        dialog.get_by_role("button", name="Apply credentials").first.click()
        dialog.get_by_role("button", name="Close").last.click()
        route = page.locator("#operations-models-models_v1_models_get")
        route.locator(".opblock-summary-control").click()
        route.get_by_role("button", name="Try it out").click()
        route.get_by_role("button", name="Execute").click()
        expect(route.locator(".live-responses-table .response .response-col_status")).to_have_text(
            "200", timeout=WAIT_MS
        )
        context.close()
        assert all(url.startswith((address, "data:", "blob:")) for url in asked)
