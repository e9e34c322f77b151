"""Words of moderation, and what a judge of pictures keeps from being seen."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.worlds.server import (
    MODEL,
    CheckFault,
    FakePipeline,
    FakeSource,
    Serve,
    wait_until,
)
from unmask.errors import ConfigError
from unmask.server.engine.engine import Engine, EngineOptions
from unmask.server.http.app import create_app
from unmask.server.moderation import ALLOWED, Moderation, Verdict, WordList, read_moderation
from unmask.settings import Settings

URL = "/v1/images/generations"
LIST = WordList(["# a remark", "", "secret", "red  Moon", r"/\bbad\w*/"])


@pytest.mark.parametrize(
    "prompt",
    [
        "a secret",
        "SECRET!",
        "a red\n moon",
        "the badger",
        "\uff53\uff45\uff43\uff52\uff45\uff54",  # full-width letters
        "sec\u200bret",  # a zero-width space
    ],
)
def test_what_holds_a_word_or_a_pattern_is_refused(prompt: str) -> None:
    assert not LIST.judge(prompt).allowed


@pytest.mark.parametrize("prompt", ["", "secretary", "red full moon", "a remark", "forbad"])
def test_what_holds_none_is_allowed(prompt: str) -> None:
    assert LIST.judge(prompt).allowed


def test_a_pattern_that_is_none_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError, match="line 2: '/\\(/'"):
        WordList(["word", "/(/"])


def test_the_list_in_the_box_lets_the_models_own_words_pass() -> None:
    judge = read_moderation("standard").judge_prompt
    for prompt in ("a red apple to the left of two blue books", "a cat", "a baby chick"):
        assert judge(prompt).allowed
    assert not judge("a nude woman").allowed


def test_a_list_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="UNMASK_MODERATION no/such"):
        read_moderation("no/such")


def test_a_refusal_is_openais(
    tmp_path: Path, pipeline: FakePipeline, serve: Serve, fault: CheckFault
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("secret\n")
    with serve(lambda: pipeline, moderation=str(words)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        for body in ({"prompt": "a Secret"}, {"prompt": "a Secret", "stream": True}):
            error = fault(client.post(URL, json=body), 400, "prompt")
            assert error["code"] == "moderation_blocked"
            assert error["type"] == "image_generation_user_error"
            assert "'secret'" in str(error["message"])
        assert client.post(URL, json={"prompt": "cat"}).status_code == 200
    assert [request.prompt for request in pipeline.drawn] == ["cat"]


@pytest.fixture(name="seen")
def _seen() -> list[Image.Image]:
    return []


@pytest.fixture(name="watched")
def _watched(pipeline: FakePipeline, seen: list[Image.Image]) -> Iterator[TestClient]:
    """A client of a server whose judge refuses what is drawn, but takes white pictures."""

    def judge(picture: Image.Image) -> Verdict:
        seen.append(picture)
        white = picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        return ALLOWED if white else Verdict(False, "what is not white")

    settings = Settings(model=MODEL)
    engine = Engine(EngineOptions.of(settings), FakeSource(lambda key, device: pipeline))
    moderation = Moderation(lambda prompt: ALLOWED, judge)
    with TestClient(create_app(settings, engine, moderation=moderation)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


def test_a_picture_that_is_refused_is_not_given_back(
    watched: TestClient, seen: list[Image.Image], fault: CheckFault
) -> None:
    error = fault(watched.post(URL, json={"prompt": "cat"}), 400)
    assert error["code"] == "moderation_blocked"
    assert "not white" in str(error["message"])
    assert len(seen) == 1


def test_nothing_of_a_picture_that_is_refused_is_in_a_stream(watched: TestClient) -> None:
    body = {"prompt": "cat", "stream": True, "partial_images": 3}
    answer = watched.post(URL, json=body)
    assert "moderation_blocked" in answer.text
    assert "b64_json" not in answer.text


def test_a_picture_to_draw_over_is_judged_before_anything_is_drawn(
    watched: TestClient, pipeline: FakePipeline, fault: CheckFault
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "black").save(file, "png")
    form = {"image": ("image.png", file.getvalue())}
    refused = watched.post("/v1/images/edits", files=form, data={"prompt": "cat"})
    assert fault(refused, 400, "image")["code"] == "moderation_blocked"
    assert pipeline.drawn == []
