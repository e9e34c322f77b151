"""The view of clips in a real browser, against a real server and the bundled models."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FilePayload, Route, expect

from tests.server.page.conftest import Serve
from tests.server.page.test_studio import REFUSED, SIDE, plain_png, serious
from tests.worlds.server import wait_until
from tests.worlds.studio import Studio

pytestmark = pytest.mark.browser
Open = Callable[..., Studio]
ASKED: dict[str, object] = {"prompt": "a red car moves to the right", "seconds": 1, "steps": 2}


def drawn(open_studio: Open, address: str, **settings: object) -> Studio:
    """A page on which a clip was drawn."""
    studio = open_studio(address, {**ASKED, **settings}, "clips")
    studio.draw(says="frames")
    return studio


def frames(studio: Studio) -> np.ndarray:
    """The frames of the clip that is shown (frames, height, width, 3)."""
    count = int(studio.steps.first.inner_text().split(" of ")[1].split()[0])
    sheet = np.asarray(Image.open(io.BytesIO(studio.saved("sheet"))).convert("RGB"))
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    cells = sheet.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
    return cells.reshape(rows * columns, SIDE, SIDE, 3)[:count]


def test_a_clip_is_unmasked_slot_by_slot_and_played(address: str, open_studio: Open) -> None:
    studio = drawn(open_studio, address)
    expect(studio.report).to_contain_text("9 frames, 1.125 s long")
    view, words = studio.view, studio.steps.first
    expect(words).to_contain_text("Frame 1 of 9 · 0.00 s")
    expect(view.get_by_role("group", name="Slots").get_by_role("button")).to_have_count(3)
    view.get_by_role("button", name="One frame on").click()
    expect(words).to_contain_text("Frame 2 of 9 · 0.13 s")
    view.get_by_role("button", name="Slot 3").click()
    expect(words).to_contain_text("Frame 9 of 9")
    view.get_by_role("slider", name="Frame", exact=True).press("Home")
    expect(words).to_contain_text("Frame 1 of 9")
    view.get_by_role("checkbox", name="loop").uncheck()
    view.get_by_role("button", name="Play").click()
    expect(words).to_contain_text("Frame 9 of 9")
    expect(view.get_by_role("button", name="Play")).to_be_visible()
    view.get_by_role("slider", name="Frame", exact=True).press("Home")
    expect(words).to_contain_text("Frame 1 of 9")
    # How it was on the way: grey where nothing was revealed yet.
    done = studio.pixels(".slots canvas")
    view.get_by_role("slider", name="Step of unmasking").press("Home")
    assert (studio.pixels(".slots canvas") != done).any()
    assert len(np.unique(frames(studio).reshape(9, -1), axis=0)) > 1


def test_a_clip_goes_on(address: str, open_studio: Open) -> None:
    studio = drawn(open_studio, address)
    before = frames(studio)
    studio.view.get_by_role("radio", name="Go on").check()
    studio.draw("Go on", "17 frames")
    after = frames(studio)
    assert (after[:9] == before).all()
    assert len(after) == 17
    assert '"video":{"id":"video_' in studio.code("curl")
    # The history has both, also after the page was left.
    studio.page.goto(address)
    studio.open("clips")
    thumbnails = studio.page.locator("#strip img")
    expect(thumbnails).to_have_count(2)
    thumbnails.last.click()
    expect(studio.steps.first).to_contain_text("of 9")
    assert (frames(studio) == before).all()


def test_a_mask_is_painted_over_some_frames(address: str, open_studio: Open) -> None:
    studio = drawn(open_studio, address)
    before = frames(studio).astype(int)
    studio.view.get_by_role("radio", name="Paint over").check()
    studio.view.get_by_role("slider", name="The first frame that is painted over").fill("5")
    studio.view.get_by_role("button", name="Slot 3").click()
    studio.stroke((0.1, 0.2), (0.4, 0.2), (0.4, 0.8), (0.1, 0.8))
    studio.prompt.fill("a yellow ball")
    studio.draw("Draw the edit", "9 frames")
    changed = (frames(studio) != before).any(-1)
    assert changed[5:, :, :40].any()
    assert not changed[:5].any()
    assert not changed[:, :, 40:].any()


def test_a_clip_begins_and_ends_with_pictures(address: str, open_studio: Open) -> None:
    studio = drawn(open_studio, address)
    colours = ((90, 160, 220), (220, 60, 40))
    for name, colour in zip(("first", "last"), colours, strict=True):
        studio.drop(plain_png(colour), f"{name}.png")
        expect(studio.view.get_by_role("button", name=f"Remove: {name} picture")).to_be_visible()
    studio.draw(says="9 frames")
    shown = frames(studio)
    assert (shown[0] == colours[0]).all()
    assert (shown[-1] == colours[1]).all()
    studio.view.get_by_role("button", name="Remove: last picture").click()
    studio.draw(says="9 frames")
    shown = frames(studio)
    assert (shown[0] == colours[0]).all()
    assert (shown[-1] != colours[1]).any()


def test_a_clip_outlives_the_server_and_can_be_cancelled(serve: Serve, open_studio: Open) -> None:
    asked = {**ASKED, "steps": 200}
    with serve() as address:
        studio = open_studio(address, asked, "clips", expects=(REFUSED,))
        studio.view.get_by_role("button", name="Draw", exact=True).click()
        expect(studio.report).to_contain_text("%")
    expect(studio.report).to_contain_text("keeps the clip")
    with serve(port=int(address.rstrip("/").rpartition(":")[2])):
        expect(studio.report).to_contain_text("%")
        studio.view.get_by_role("button", name="Cancel").click()
        expect(studio.report).to_have_text("Cancelled.")
        # The page does not wait for what it asks of the server.
        listing = "fetch('v1/videos').then(answer => answer.json())"
        wait_until(lambda: studio.page.evaluate(listing)["data"] == [])


def test_a_clip_is_cancelled_before_the_server_has_told_its_name(
    address: str, open_studio: Open
) -> None:
    studio = open_studio(address, {**ASKED, "steps": 200}, "clips")
    held: list[Route] = []
    studio.page.route("**/v1/videos", lambda route: held.append(route))
    studio.view.get_by_role("button", name="Draw", exact=True).click()
    wait_until(lambda: studio.page.evaluate("true") and bool(held))
    studio.view.get_by_role("button", name="Cancel").click()
    expect(studio.report).to_have_text("Cancelled.")
    with studio.page.expect_response(lambda answer: answer.request.method == "DELETE") as removed:
        held[0].continue_()
    studio.page.unroute("**/v1/videos")
    assert removed.value.ok
    name = removed.value.url.rpartition("/")[2]
    listing = "fetch('v1/videos').then(answer => answer.text())"
    wait_until(lambda: name not in studio.page.evaluate(listing))


def test_faults_of_clips_stand_where_they_belong(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {**ASKED, "seconds": 1000}, "clips", expects=(REFUSED,))
    studio.view.get_by_role("button", name="Draw", exact=True).click()
    expect(studio.view.locator("[name=seconds]")).to_have_attribute("aria-invalid", "true")
    studio.view.get_by_role("radio", name="Revise").check()
    studio.view.get_by_role("button", name="Draw the edit").click()
    expect(studio.report).to_contain_text("no clip yet")
    studio.view.get_by_role("radio", name="New").check()
    expect(studio.view.locator("[name=seconds]")).to_have_value("1000")
    broken: FilePayload = {"name": "a.png", "mimeType": "image/png", "buffer": b"no"}
    studio.view.get_by_label("Last picture: choose a file").set_input_files(broken)
    expect(studio.report).to_contain_text("no picture")


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_screen_shows_clips_to_everybody(
    address: str, open_studio: Open, dark: bool
) -> None:
    studio = open_studio(address, ASKED, "clips", width=390, height=844, dark=dark)
    studio.draw(says="9 frames")
    for mode in ("New", "Paint over"):
        studio.view.get_by_role("radio", name=mode).check()
        assert studio.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert serious(studio) == []
