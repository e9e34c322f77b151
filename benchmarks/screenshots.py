"""The pictures of the page in docs/images: ``python -m benchmarks.screenshots [--out FOLDER]``.

Serves the bundled models on a free port of this machine, and uses the page as a person does, in
Debian's Chromium: on a screen of 1280 px, on one of 390 px, and in the dark. Also tells how large
the page is, and when it was first painted.
"""

import argparse
import io
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from unmask.server.http.page import FOLDER
from unmask.server.http.server import Server
from unmask.settings import Settings

PROMPT = "a red apple to the left of a blue book"
SEED = 7
LOADS = 5
CLIP_HEIGHT = 1010  # px: the slots stand below the frame
READY_SECONDS = 120
SCREENS = {
    "": {"viewport": {"width": 1280, "height": 860}},
    "-narrow": {"viewport": {"width": 390, "height": 844}},
    "-dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
}


def _open(page: Page, address: str, view: str, settings: dict[str, object]) -> Locator:
    held = {"view": view, "settings": {"prompt": PROMPT, "seed": SEED, **settings}}
    page.goto("about:blank")
    page.goto(f"{address}#{quote(json.dumps(held))}")
    page.get_by_role("tab", name=view.title(), exact=True).click()
    return page.locator(f"#view-{view}")


def _press(view: Locator, verb: str, says: str) -> None:
    view.get_by_role("button", name=verb, exact=True).click()
    view.locator(".report").filter(has_text=says).wait_for()


def _back(view: Locator, steps: int) -> None:
    for _ in range(steps):
        view.get_by_role("button", name="One step back").click()


def _stroke(page: Page, view: Locator, columns: tuple[float, ...]) -> None:
    """Paint to and fro between columns, told as parts of the width."""
    paper = view.locator(".paper")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    assert box is not None
    for i, x in enumerate(columns):
        place = (box["x"] + x * box["width"], box["y"] + (0.36 + 0.13 * i) * box["height"])
        page.mouse.move(*place, steps=6)
        if not i:
            page.mouse.down()
    page.mouse.up()


def draw(page: Page, address: str) -> None:
    """Half of the way."""
    view = _open(page, address, "draw", {})
    _press(view, "Draw", "Drawn in")
    _back(view, 6)


def sure(page: Page, address: str) -> None:
    """How sure the model was, at the end."""
    view = _open(page, address, "draw", {"scheduler": "confidence"})
    _press(view, "Draw", "Drawn in")
    view.get_by_role("radio", name="How sure").check()


def race(page: Page, address: str) -> None:
    """Three schedulers, on their way."""
    lanes = [{"scheduler": name} for name in ("random", "confidence", "p2")]
    view = _open(page, address, "race", {"lanes": lanes, "prompt": "a yellow duck"})
    _press(view, "Race", "lanes are drawn")
    slider = view.get_by_role("slider", name="Step")
    slider.focus()
    slider.evaluate("s => { s.value = s.max * 0.6; s.dispatchEvent(new Event('input')); }")


def edit(page: Page, address: str) -> None:
    """A picture with a mask."""
    view = _open(page, address, "draw", {})
    _press(view, "Draw", "Drawn in")
    view.get_by_role("button", name="Edit it").click()
    view = page.locator("#view-edit")
    view.get_by_role("textbox", name="Prompt", exact=True).fill("a red apple and a yellow ball")
    _stroke(page, view, (0.62, 0.9, 0.66, 0.88))


def extend(page: Page, address: str) -> None:
    """A frame dragged beyond a picture."""
    view = _open(page, address, "draw", {})
    _press(view, "Draw", "Drawn in")
    view.get_by_role("button", name="Edit it").click()
    view = page.locator("#view-edit")
    view.get_by_role("radio", name="Extend").check()
    for side, key in (("right", "ArrowRight"), ("left", "ArrowLeft")):
        for _ in range(3):
            view.get_by_role("button", name=f"Extend the {side}").press(key)


def clips(page: Page, address: str) -> None:
    """A clip, half of the way."""
    settings = {"prompt": "a red car moves to the right", "seconds": 2}
    view = _open(page, address, "clips", settings)
    _press(view, "Draw", "17 frames")
    view.get_by_role("button", name="Slot 3").click()
    way = view.get_by_role("slider", name="Step of unmasking")
    way.evaluate("s => { s.value = s.max * 0.5; s.dispatchEvent(new Event('input')); }")


def paint(page: Page, address: str) -> None:
    """A mask over some frames of a clip."""
    view = _open(page, address, "clips", {"prompt": "a yellow duck grows", "seconds": 2})
    _press(view, "Draw", "17 frames")
    view.get_by_role("radio", name="Paint over").check()
    view.get_by_role("slider", name="The first frame that is painted over").fill("4")
    view.get_by_role("button", name="Slot 3").click()
    _stroke(page, view, (0.2, 0.5, 0.25, 0.55))


VIEWS: dict[str, Callable[[Page, str], None]] = {
    "draw": draw,
    "sure": sure,
    "race": race,
    "edit": edit,
    "extend": extend,
    "clips": clips,
    "paint": paint,
}


def take(browser: Browser, address: str, out: Path) -> None:
    """All pictures, as files of the folder."""
    for suffix, screen in SCREENS.items():
        for name, show in VIEWS.items():
            context = browser.new_context(reduced_motion="reduce", **screen)  # type: ignore[arg-type]
            page = context.new_page()
            show(page, address)
            page.evaluate("window.scrollTo(0, 0)")
            if name in ("clips", "paint") and "narrow" not in suffix:
                page.set_viewport_size({"width": 1280, "height": CLIP_HEIGHT})
            page.wait_for_timeout(300)
            path = out / f"studio-{name}{suffix}.webp"
            shot = Image.open(io.BytesIO(page.screenshot(full_page=suffix == "-narrow")))
            shot.save(path, quality=90, method=6)
            print(f"{path} {path.stat().st_size} bytes")
            context.close()


def first_paint(browser: Browser, address: str) -> list[float]:
    """When the page was first painted, in ms, each time in a fresh browser."""
    times = []
    for _ in range(LOADS):
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        page.get_by_role("tab", name="Draw").wait_for()
        script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        times.append(float(page.evaluate(script)))
        context.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("there is no chromium on the path; on Debian: apt install chromium")
    with tempfile.TemporaryDirectory() as state:
        server = Server(Settings(port=0, state_dir=Path(state)))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            deadline = time.monotonic() + READY_SECONDS
            while not (server.started and server.engine.stats().ready_workers):
                assert time.monotonic() < deadline, "the server did not become ready"
                time.sleep(0.05)
            address = f"http://127.0.0.1:{server.bound_port}/"
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox"]
                )
                times = first_paint(browser, address)
                take(browser, address, options.out)
                browser.close()
        finally:
            server.should_exit = True
            thread.join()
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(
        f"the page has {size} bytes; it was first painted after {statistics.median(times):.0f} ms"
    )
    print("(", ", ".join(f"{ms:.0f}" for ms in times), ")")


if __name__ == "__main__":
    main()
