"""The studio in Firefox as it is shipped: once through what the tests in Chromium hold in depth."""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from tests.server.page.conftest import FIREFOX
from tests.server.page.test_clips import ASKED
from tests.server.page.test_studio import SIDE, array, plain_png
from tests.worlds.studio import Studio

pytestmark = pytest.mark.skipif(
    FIREFOX is None, reason="needs firefox on the path (Debian: apt install firefox-esr)"
)
Open = Callable[..., Studio]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Firefox saves files: its driver tells of none, as it does for Chromium."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads: Path) -> Iterator[Browser]:
    """Firefox, which is driven over WebDriver BiDi."""
    with sync_playwright() as playwright:
        browser = playwright.firefox.launch(
            channel="moz-firefox",
            executable_path=FIREFOX,
            downloads_path=downloads,
            firefox_user_prefs={"ui.prefersReducedMotion": 1},
        )
        yield browser
        browser.close()


def saved(studio: Studio, downloads: Path) -> bytes:
    """The picture as a PNG file."""
    before = set(downloads.iterdir())
    studio.view.get_by_role("button", name="Download as png").click()
    deadline = time.monotonic() + 20
    while True:
        for path in set(downloads.glob("*.png")) - before:
            if (data := path.read_bytes()).endswith(b"IEND\xaeB`\x82"):
                return data
        assert time.monotonic() < deadline, "no file was saved"
        studio.page.wait_for_timeout(100)


def test_firefox_draws_races_and_edits(address: str, open_studio: Open, downloads: Path) -> None:
    # That its console stays silent, and its policy is kept, is held by the fixture.
    studio = open_studio(address, {"scheduler": "halton", "seed": 1})
    studio.draw()
    expect(studio.steps).to_contain_text("64 of 64")
    studio.slider.press("ArrowLeft")
    expect(studio.steps).to_contain_text("Step 2 of 3")
    studio.view.get_by_role("radio", name="How sure").check()
    expect(studio.page.locator("#strip img")).to_have_count(1)

    studio.open("race")
    studio.prompt.fill("a red cat")
    studio.view.locator("[name=steps]").first.fill("2")
    studio.draw("Race", "lanes are drawn")
    expect(studio.view.locator(".figures").first).to_contain_text("2 steps")

    studio.open("edit")
    studio.drop(plain_png(), "a.png")
    studio.prompt.fill("a red ball")
    studio.stroke((0.3, 0.3), (0.6, 0.3))
    studio.draw("Draw the edit")
    picture = Image.open(io.BytesIO(saved(studio, downloads)))
    changed = (array(picture) != (90, 160, 220)).any(-1)
    assert changed[16:24].any()
    outside = np.ones((SIDE, SIDE), bool)
    outside[8:32] = False
    assert not changed[outside].any()


def test_firefox_draws_clips_and_paints_over_them(address: str, open_studio: Open) -> None:
    studio = open_studio(address, ASKED, "clips")
    studio.draw(says="9 frames")
    studio.view.get_by_role("button", name="One frame on").click()
    expect(studio.steps.first).to_contain_text("Frame 2 of 9")
    studio.view.get_by_role("radio", name="Paint over").check()
    studio.stroke((0.3, 0.3), (0.6, 0.3))
    studio.draw("Draw the edit", "9 frames")


def test_firefox_reads_its_own_files_and_keeps_its_history(
    address: str, open_studio: Open, downloads: Path
) -> None:
    studio = open_studio(address, {"prompt": "a blue book", "seed": 2**63})
    studio.draw()
    drawn = saved(studio, downloads)
    studio.page.goto(address)
    studio.open("draw")
    expect(studio.page.locator("#strip img")).to_have_count(1)
    studio.prompt.fill("something else")
    studio.drop(drawn, "kept.png")
    expect(studio.prompt).to_have_value("a blue book")
    studio.draw()
    assert saved(studio, downloads) == drawn
