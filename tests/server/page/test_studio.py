"""The studio in a real browser, against a real server and the bundled model."""

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

from tests.server.page.conftest import Serve
from tests.worlds.server import wait_until
from tests.worlds.studio import STEPS, Studio
from unmask.server.keys.limits import Limits
from unmask.server.keys.store import KeyFile

pytestmark = pytest.mark.browser
Open = Callable[..., Studio]
AXE = Path(__file__).parents[3] / "build/npm/node_modules/axe-core/axe.min.js"
CURL = shutil.which("curl")
CELL, DRAWN = 16, 128  # px of a cell, and of the picture that the bundled model draws
SIDE = 64  # of the pictures that are given
REFUSED = "Failed to load resource"  # what Chromium's console says of every refusal


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def plain_png(colour: tuple[int, int, int] = (90, 160, 220)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), colour).save(file, "png")
    return file.getvalue()


def serious(studio: Studio) -> list[object]:
    """What axe-core finds on the page, but for trifles."""
    if not AXE.exists():
        pytest.skip(f"needs axe-core of npm in {AXE.parent}")
    # In a world of its own, which the page's policy does not bind.
    studio.page.evaluate(f"() => {{ {AXE.read_text(encoding='utf-8')}; window.axe = axe; }}")
    result = studio.page.evaluate("() => axe.run()")
    return [
        (fault["id"], [node["target"] for node in fault["nodes"]])
        for fault in result["violations"]
        if fault["impact"] in ("serious", "critical", "moderate")
    ]


def test_who_comes_first_sees_a_picture_being_unmasked(address: str, open_studio: Open) -> None:
    studio = open_studio(address, moving=True)
    expect(studio.report).to_contain_text("Drawn in")
    expect(studio.steps).to_contain_text("Step 12 of 12 · 64 of 64 cells revealed")
    expect(studio.page.locator("#strip img")).to_have_count(1)
    assert studio.page.evaluate("document.cookie + Object.keys(localStorage)") == ""


def test_one_goes_back_and_forth_through_the_steps(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {"scheduler": "halton", "seed": 1})
    studio.draw()
    expect(studio.slider).to_have_attribute("max", str(STEPS))
    expect(studio.steps).to_contain_text("64 of 64")
    seen = []
    for _ in range(STEPS):
        studio.slider.press("ArrowLeft")
        words = studio.steps.inner_text()
        seen.append(int(words.split("·")[1].split()[0]))
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 0
    studio.view.get_by_role("button", name="One step on").click()
    expect(studio.steps).to_contain_text("Step 1")
    studio.view.get_by_role("button", name="Play").click()  # who asks for motion gets it
    expect(studio.steps).to_contain_text("64 of 64")
    for view in ("Picture", "When", "How sure", "Cells"):
        studio.view.get_by_role("radio", name=view, exact=True).check()
    studio.view.get_by_role("radio", name="How sure").check()
    expect(studio.view.get_by_text("100 % sure")).to_be_visible()


def test_a_cell_that_is_clicked_is_drawn_again_alone(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {"seed": 2, "temperature": 2.0})
    studio.draw()
    before = array(studio.picture())
    canvas = studio.view.locator(".stage canvas")
    box = canvas.bounding_box()
    assert box
    studio.report.evaluate("element => { element.textContent = ''; }")
    at = (3.5 * box["width"] / 8, 4.5 * box["height"] / 8)
    canvas.click(position={"x": at[0], "y": at[1]})
    expect(studio.report).to_contain_text("Drawn in")
    changed = (array(studio.picture()) != before).any(-1)
    inside = np.zeros_like(changed)
    inside[4 * CELL : 5 * CELL, 3 * CELL : 4 * CELL] = True
    assert changed[inside].any()
    assert not changed[~inside].any()
    expect(studio.steps).to_contain_text("1 of 1 cells")


def test_settings_race_and_a_link_holds_them(address: str, open_studio: Open) -> None:
    lanes = [{"scheduler": "halton", "steps": 3}, {"scheduler": "p2", "steps": 2}]
    studio = open_studio(address, {"lanes": lanes, "seed": 3, "guidance_scale": 1.0}, "race")
    studio.draw("Race", "All 2 lanes are drawn")
    figures = studio.view.locator(".figures").all_inner_texts()
    assert ["3 steps" in figures[0], "2 steps" in figures[1]] == [True, True]
    assert all("passes" in line and " s ·" in line for line in figures)
    studio.view.get_by_role("button", name="Add a lane").click()
    expect(studio.view.locator(".lane")).to_have_count(3)
    studio.view.get_by_role("button", name="Remove lane 3").click()
    studio.view.get_by_role("button", name="Link to this race").click()
    link = studio.page.locator("#code").input_value()
    again = open_studio(address)
    again.page.goto("about:blank")
    again.page.goto(link)
    again.view = again.page.locator("#view-race")
    expect(again.view.locator(".lane")).to_have_count(2)
    assert [field.input_value() for field in again.view.locator("[name=steps]").all()] == ["3", "2"]
    expect(again.view.locator(".figures").first).to_have_text("")  # nothing is drawn unasked


def test_under_each_lane_stands_what_the_judge_says(address: str, open_studio: Open) -> None:
    prompt = "two red apples on a blue background"
    lanes = [{"scheduler": "p2", "steps": 12}, {"scheduler": "random", "steps": 1}]
    settings = {"prompt": prompt, "lanes": lanes, "seed": 7, "guidance_scale": 1.5}
    studio = open_studio(address, settings, "race")
    studio.draw("Race", "All 2 lanes are drawn")
    verdicts = studio.view.locator(".verdict")
    expect(verdicts.first).to_have_text("Judge: right")
    expect(verdicts.last).to_contain_text("Judge: wrong: ")
    studio.prompt.fill("an apple on the left")
    studio.draw("Race", "All 2 lanes are drawn")
    expect(verdicts.first).to_contain_text("Judge: no verdict, as the judge cannot tell whether")


def test_words_that_the_model_was_not_taught_are_told_and_replaced(
    address: str, open_studio: Open
) -> None:
    hostile = "<img/src=x>"
    studio = open_studio(address, {"prompt": f"a red aple, {hostile} aples"})
    studio.draw()
    warnings = studio.view.locator(".warnings li")
    expect(warnings).to_have_count(3)
    expect(warnings.nth(1)).to_contain_text(f"not taught “{hostile[:-1]}”")
    assert studio.page.locator("img[src=x]").count() == 0
    studio.view.get_by_role("button", name="Write apple instead of aple", exact=True).click()
    expect(studio.prompt).to_have_value(f"a red apple, {hostile} aples")
    expect(warnings).to_have_count(2)
    studio.prompt.fill("a red apple")
    studio.draw()
    expect(warnings).to_have_count(0)
    studio.view.get_by_text("All options").click()
    studio.view.locator("[name=negative_prompt]").fill("an aple")
    studio.view.locator("[name=guidance_scale]").fill("2")
    studio.draw()
    studio.view.get_by_role("button", name="Write apple instead of aple", exact=True).click()
    expect(studio.view.locator("[name=negative_prompt]")).to_have_value("an apple")


def test_what_is_not_painted_stays_to_the_pixel(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {"prompt": "a red ball"}, "edit")
    studio.drop(plain_png(), "a.png")
    studio.stroke((0.3, 0.3), (0.6, 0.3))
    studio.view.get_by_role("button", name="Undo").click()
    studio.view.get_by_role("radio", name="Lasso").check()
    studio.stroke((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
    studio.draw("Draw the edit")
    expect(studio.steps).to_contain_text("cells revealed")
    changed = (array(studio.picture()) != (90, 160, 220)).any(-1)
    assert changed[20:44, 20:44].any()
    outside = np.ones_like(changed)
    outside[15:49, 15:49] = False
    assert not changed[outside].any()
    # Its result is the next picture, and lies beside what was there.
    studio.view.get_by_role("radio", name="Before / after").check()
    studio.view.get_by_role("slider", name="Before and after").press("End")
    expect(studio.page.locator("#strip img")).to_have_count(1)


def test_a_picture_is_extended_by_its_handles(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {"prompt": "a red ball"}, "edit")
    studio.drop(plain_png(), "a.png")
    studio.view.get_by_role("radio", name="Extend").check()
    handle = studio.view.get_by_role("button", name="Extend the right")
    handle.press("ArrowRight")
    handle.press("ArrowRight")
    expect(studio.view.get_by_role("spinbutton", name="Right")).to_have_value("16")
    box = handle.bounding_box()
    assert box
    studio.page.mouse.move(box["x"] + 5, box["y"] + 5)
    studio.page.mouse.down()
    studio.page.mouse.move(box["x"] + 65, box["y"] + 5, steps=3)
    studio.page.mouse.up()
    right = int(studio.view.get_by_role("spinbutton", name="Right").input_value())
    assert right > 16
    studio.draw("Draw the edit")
    picture = studio.picture()
    assert picture.size == (SIDE + right, SIDE)
    assert (array(picture)[:, :SIDE] == (90, 160, 220)).all()
    # Cells of it can be drawn again like those of any picture.
    studio.open("draw")
    studio.page.locator("#strip li button").first.click()
    expect(studio.report).to_contain_text("Seed")
    studio.view.locator(".stage canvas").click()
    expect(studio.report).to_contain_text("Drawn in")


@pytest.mark.parametrize("mode", ["Vary", "Revise"])
def test_a_picture_is_changed_without_a_mask(address: str, open_studio: Open, mode: str) -> None:
    studio = open_studio(address, {"prompt": "a red ball"}, "edit")
    studio.drop(plain_png(), "a.png")
    studio.view.get_by_role("radio", name=mode).check()
    studio.draw("Draw the edit")
    assert (array(studio.picture()) != (90, 160, 220)).any()


def test_a_dropped_picture_brings_its_settings_and_draws_the_same(
    address: str, open_studio: Open
) -> None:
    studio = open_studio(address, {"prompt": "a blue book", "scheduler": "halton", "seed": 2**63})
    studio.draw()
    drawn = studio.saved()
    kinds = {kind: Image.open(io.BytesIO(studio.saved(kind))).format for kind in ("webp", "jpeg")}
    assert kinds == {"webp": "WEBP", "jpeg": "JPEG"}
    again = open_studio(address, {"prompt": "something else"})
    again.drop(drawn, "kept.png")
    expect(again.prompt).to_have_value("a blue book")
    expect(again.view.locator("[name=scheduler]")).to_have_value("halton")
    expect(again.view.locator("[name=seed]")).to_have_value(str(2**63))
    again.draw()
    assert again.saved() == drawn


def test_a_copied_request_draws_the_same(address: str, open_studio: Open, tmp_path: Path) -> None:
    prompt = 'it\'s a "red" cat $HOME'
    studio = open_studio(address, {"prompt": prompt, "seed": 2**63, "n": 2})
    studio.draw()
    drawn = studio.saved()
    subprocess.run([sys.executable, "-c", studio.code("Python")], cwd=tmp_path, check=True)
    assert (tmp_path / "picture-1.png").read_bytes() == drawn
    assert (tmp_path / "picture-2.png").exists()
    if CURL:
        answer = subprocess.check_output(["sh", "-c", studio.code("curl")])
        assert base64.b64decode(json.loads(answer)["data"][0]["b64_json"]) == drawn
    # An edit reads files, which are saved where its code is copied.
    studio.report.evaluate("element => { element.textContent = ''; }")
    studio.view.locator(".stage canvas").first.click()
    expect(studio.report).to_contain_text("Drawn in")
    studio.view.get_by_role("button", name="Copy as Python").click()
    dialog = studio.page.locator("#code-dialog")
    code = dialog.locator("#code").input_value()
    for name in ("image.png", "mask.png"):
        with studio.page.expect_download() as download:
            dialog.get_by_role("button", name=f"Save {name}").click()
        download.value.save_as(tmp_path / name)
    dialog.get_by_role("button", name="Copy", exact=True).click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "picture-1.png").read_bytes() == studio.saved()


def test_the_history_survives_a_reload_until_it_is_cleared(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {"prompt": "a red cat"})
    studio.draw()
    studio.page.goto(address)
    studio.open("draw")
    thumbnails = studio.page.locator("#strip img")
    expect(thumbnails).to_have_count(1)
    shown = thumbnails.first.evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert shown == DRAWN
    thumbnails.first.click()
    expect(studio.steps).to_contain_text(f"Step {STEPS} of {STEPS}")
    studio.page.on("dialog", lambda dialog: dialog.accept())
    studio.page.get_by_role("button", name="Clear", exact=True).last.click()
    expect(thumbnails).to_have_count(0)


def test_a_drawing_is_cancelled(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {"steps": 256, "n": 4})
    studio.view.get_by_role("button", name="Draw", exact=True).click()
    expect(studio.report).to_contain_text("Step")
    studio.view.get_by_role("button", name="Cancel").click()
    expect(studio.report).to_have_text("Cancelled.")
    studio.view.locator("[name=steps]").fill("2")
    studio.view.locator("[name=n]").fill("2")
    studio.draw()
    expect(studio.view.locator(".stage")).to_have_count(2)


def test_an_error_stands_beside_its_field(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {}, expects=(REFUSED,))
    studio.view.locator("[name=steps]").fill("999")
    studio.view.get_by_role("button", name="Draw", exact=True).click()
    field = studio.view.locator("[name=steps]")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(studio.view.locator(".fault:visible")).to_contain_text("256")
    field.fill("2")
    expect(studio.view.locator(".fault:visible")).to_have_count(0)


def test_a_server_that_dies_is_found_again(serve: Serve, open_studio: Open) -> None:
    with serve() as address:
        studio = open_studio(address, {"steps": 256, "n": 4}, expects=(REFUSED,))
        studio.view.get_by_role("button", name="Draw", exact=True).click()
        expect(studio.report).to_contain_text("Step")
    expect(studio.view.get_by_role("button", name="Try again")).to_be_visible()
    expect(studio.page.locator("#server")).to_contain_text("gone")
    with serve(port=int(address.rstrip("/").rpartition(":")[2])):
        expect(studio.page.locator("#server")).to_have_text("ready")
        studio.view.locator("[name=steps]").fill("2")
        studio.view.locator("[name=n]").fill("1")
        studio.draw()


def test_a_key_is_asked_for_until_it_is_right(
    serve: Serve, open_studio: Open, tmp_path: Path
) -> None:
    key = KeyFile(tmp_path).add("ann", ["draw"], Limits())
    with serve() as address:
        studio_page = open_studio(address, expects=(REFUSED,), view="")
        page = studio_page.page
        dialog = page.locator("#key-dialog")
        expect(dialog).to_be_visible()
        page.locator("#key").fill("schlüssel✓")
        page.keyboard.press("Enter")
        expect(page.locator("#key-reason")).to_contain_text("wrong")
        page.locator("#key").fill(f" {key} ")
        page.keyboard.press("Enter")
        studio_page.open("draw")
        expect(studio_page.report).to_contain_text("Drawn in")
        assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
        assert key in page.evaluate("JSON.stringify(sessionStorage)")


@pytest.mark.parametrize(
    ("status", "words"), [(429, "Too much at once"), (503, "not ready"), (500, "did not work")]
)
def test_a_refusal_is_said_with_what_can_be_done(
    address: str, open_studio: Open, status: int, words: str
) -> None:
    studio = open_studio(address, {}, expects=(REFUSED,))
    error = {"message": "<b>full</b>", "type": "t", "param": None, "code": "queue_full"}
    body = json.dumps({"error": error})
    headers = {"retry-after": "2", "content-type": "application/json"}
    studio.page.route(
        "**/v1/images/generations",
        lambda route: route.fulfill(status=status, body=body, headers=headers),
    )
    studio.view.get_by_role("button", name="Draw", exact=True).click()
    expect(studio.report).to_contain_text(words)
    expect(studio.report).to_contain_text("<b>full</b>")
    again = studio.view.get_by_role("button", name="Try again")
    expect(again).to_be_disabled()
    studio.page.unroute("**/v1/images/generations")
    again.click()
    expect(studio.report).to_contain_text("Drawn in")


def test_hostile_words_are_only_words(address: str, open_studio: Open) -> None:
    hostile = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    studio = open_studio(address, {"prompt": f"a red cat {hostile}"[:60]}, expects=(REFUSED,))
    studio.view.get_by_role("button", name="Draw", exact=True).click()
    expect(studio.report).not_to_have_text("Sending …")
    file, note = io.BytesIO(), PngInfo()
    note.add_itxt("unmask", json.dumps({"prompt": hostile, "scheduler": hostile, "seed": hostile}))
    Image.new("RGB", (SIDE, SIDE)).save(file, "png", pnginfo=note)
    studio.drop(file.getvalue(), f"{hostile}.png")
    expect(studio.prompt).to_have_value(hostile)
    for broken in (file.getvalue()[:60], b"GIF89a", b""):
        studio.drop(broken, "b.png")
        expect(studio.report).to_contain_text("no picture")
        studio.report.evaluate("element => { element.textContent = ''; }")
    assert studio.page.evaluate("window.hacked") is None
    assert studio.page.locator("img[src=x]").count() == 0


def test_all_of_it_goes_by_keys(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {"seed": 5})
    page = studio.page
    studio.prompt.focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("a red apple")
    page.keyboard.press("Enter")
    expect(studio.report).to_contain_text("Drawn in")
    canvas = studio.view.locator(".stage canvas")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(studio.view.locator(".cellwords")).to_contain_text("Row 2, column 1")
    studio.report.evaluate("element => { element.textContent = ''; }")
    page.keyboard.press("Enter")
    expect(studio.report).to_contain_text("Drawn in")
    studio.slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(studio.steps).to_contain_text("0 of 1 cells")
    page.get_by_role("tab", name="Draw").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Clips")).to_be_focused()
    studio.open("edit")
    studio.drop(plain_png(), "a.png")
    paper = studio.view.locator(".paper")
    expect(paper).to_be_visible()  # once the file is read; before, it cannot have the focus
    paper.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Control+z")  # a line by keys is undone like any other
    studio.view.get_by_role("button", name="Draw the edit").press("Enter")
    expect(studio.report).to_contain_text("Nothing is painted")
    paper.focus()
    page.keyboard.press("Space")
    studio.draw("Draw the edit")


@pytest.mark.parametrize("view", ["draw", "race", "edit"])
def test_a_narrow_screen_shows_all_of_it(address: str, open_studio: Open, view: str) -> None:
    studio = open_studio(address, {}, view, width=390, height=844)
    if view == "edit":
        studio.drop(plain_png(), "a.png")
        expect(studio.view.locator(".paper")).to_be_visible()
    assert studio.page.evaluate("document.documentElement.scrollWidth") <= 390
    picture = studio.view.locator(".paper" if view == "edit" else ".stage canvas").first
    box = picture.bounding_box()
    assert box
    assert box["y"] < 844
    assert 100 < box["width"] <= 390


def test_three_pictures_fit_a_middling_screen(address: str, open_studio: Open) -> None:
    studio = open_studio(address, {"n": 3}, width=768)
    studio.draw()
    assert studio.page.evaluate("document.documentElement.scrollWidth") <= 768


def test_a_picture_from_elsewhere_leaves_the_settings_as_they_are(
    address: str, open_studio: Open
) -> None:
    studio = open_studio(address, {"prompt": "a red ball"}, "edit")
    studio.drop(plain_png(), "a.png")
    expect(studio.view.locator(".paper")).to_be_visible()
    expect(studio.view.locator("[name=steps]")).to_have_value(str(STEPS))
    expect(studio.view.get_by_role("button", name="Copy as curl")).to_have_count(0)
    # What was set for one kind of edit is still there after another.
    studio.view.locator("[name=feather]").fill("3")
    studio.view.get_by_role("radio", name="Extend").check()
    studio.view.get_by_role("spinbutton", name="Left").fill("16")
    studio.view.get_by_role("radio", name="Vary").check()
    studio.view.get_by_role("radio", name="Extend").check()
    expect(studio.view.get_by_role("spinbutton", name="Left")).to_have_value("16")
    expect(studio.view.locator("[name=feather]")).to_have_value("3")
    studio.view.get_by_role("radio", name="Steps").check()
    # By way of a copy: the browser complains of a canvas that is read more than once.
    pixel = """canvas => {
        const copy = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        copy.drawImage(canvas, 0, 0);
        return [...copy.getImageData(9, 9, 1, 1).data];
    }"""
    canvas = studio.view.locator(".stage canvas")
    wait_until(lambda: canvas.evaluate(pixel) == [90, 160, 220, 255])


def test_a_huge_picture_is_painted_on_in_a_small_mask(address: str, open_studio: Open) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4000, 500), (90, 160, 220)).save(file, "png")
    studio = open_studio(address, {"prompt": "a red ball"}, "edit")
    studio.drop(file.getvalue(), "huge.png")
    expect(studio.view.locator(".paper")).to_be_visible()
    assert studio.view.locator(".paper").evaluate("canvas => canvas.width") <= 1200
    studio.view.get_by_role("slider", name="Size of the brush").fill("1")
    studio.stroke((0.5, 0.5), (0.5, 0.6))
    studio.draw("Draw the edit")
    studio.view.get_by_role("button", name="Copy as curl").click()
    with studio.page.expect_download() as download:
        studio.page.get_by_role("button", name="Save mask.png").click()
    studio.page.get_by_role("button", name="Close").click()
    mask = np.asarray(Image.open(download.value.path()).convert("L"))
    assert mask.shape == (500, 4000)
    assert set(np.unique(mask).tolist()) == {0, 255}
    changed = (array(studio.picture()) != (90, 160, 220)).any(-1)
    assert changed.any()
    assert not changed[mask == 0].any()


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(address: str, open_studio: Open, dark: bool) -> None:
    studio = open_studio(address, {}, dark=dark)
    studio.draw()
    studio.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found: list[object] = []
    for view in ("draw", "race", "edit"):
        studio.open(view)
        if view == "edit":
            studio.drop(plain_png(), "a.png")
            expect(studio.view.locator(".paper")).to_be_visible()
        found += serious(studio)
    assert found == []
