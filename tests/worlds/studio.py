"""The page as a person uses it."""

import io
import json
import time
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from unmask.server.http.server import Server

STEPS = 3  # enough to see, and quick


def wait_for_port(server: Server) -> None:
    """Until it listens and its model is loaded."""
    deadline = time.monotonic() + 60
    while not (server.started and server.engine.stats().ready_workers):
        assert time.monotonic() < deadline, "the server never became ready"
        time.sleep(0.02)


class Studio:
    """A page that was opened. By a link, so that it draws nothing by itself, unless there are no
    ``settings``."""

    def __init__(
        self, page: Page, address: str, view: str, settings: dict[str, object] | None
    ) -> None:
        self.page = page
        link = "" if settings is None else "#" + quote(json.dumps(_held(view, settings)))
        page.goto(address + link)
        if view:
            self.open(view)

    def open(self, view: str) -> None:
        """Go to a view."""
        self.page.get_by_role("tab", name=view.title(), exact=True).click()
        self.view = self.page.locator(f"#view-{view}")

    @property
    def prompt(self) -> Locator:
        return self.view.get_by_role("textbox", name="Prompt", exact=True)

    @property
    def report(self) -> Locator:
        return self.view.locator(".report")

    @property
    def slider(self) -> Locator:
        return self.view.get_by_role("slider", name="Step", exact=True)

    @property
    def steps(self) -> Locator:
        return self.view.locator("output.steps")

    def draw(self, verb: str = "Draw", says: str = "Drawn in") -> None:
        """Press the button, and wait for the end."""
        self.report.evaluate("element => { element.textContent = ''; }")
        self.view.get_by_role("button", name=verb, exact=True).click()
        expect(self.report).to_contain_text(says)

    def saved(self, kind: str = "png") -> bytes:
        """The picture as a file."""
        with self.page.expect_download() as download:
            self.view.get_by_role("button", name=f"Download as {kind}").click()
        return download.value.path().read_bytes()

    def picture(self) -> Image.Image:
        """The picture, as it was saved."""
        return Image.open(io.BytesIO(self.saved())).convert("RGB")

    def pixels(self, selector: str) -> np.ndarray:
        """What a canvas of the view shows, as RGBA."""
        script = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        return np.array(self.view.locator(selector).first.evaluate(script), np.uint8)

    def code(self, kind: str) -> str:
        """What a button shows to be copied."""
        self.view.get_by_role("button", name=f"Copy as {kind}").click()
        text = self.page.locator("#code").input_value()
        self.page.locator("#code-dialog").get_by_role("button", name="Close").click()
        return text

    def drop(self, data: bytes, name: str) -> None:
        """Drop a file on the page."""
        self.page.evaluate(
            """([bytes, name]) => {
                const files = new DataTransfer();
                files.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
                document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
            }""",  # noqa: E501
            [list(data), name],
        )

    def stroke(self, *points: tuple[float, float]) -> None:
        """Paint on the picture, through places told in parts of its width and height."""
        paper = self.view.locator(".paper")
        paper.scroll_into_view_if_needed()
        box: Any = paper.bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up()


def _held(view: str, settings: dict[str, object]) -> dict[str, object]:
    return {
        "view": view,
        "settings": {"prompt": "a red cat", "steps": STEPS, "guidance_scale": 1, **settings},
    }
