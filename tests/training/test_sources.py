import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unmask.errors import DataError
from unmask.scenes.captions import COLOUR_SYNONYMS
from unmask.scenes.data import DataConfig
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.scenes.vocabulary import COLOURS, held_out
from unmask.training import sources
from unmask.training.sources import FolderSource, SceneSource, open_source


def _paint(path: Path, colour: tuple[int, ...], size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(path)


def _make_folder(folder: Path, count: int = 5) -> Path:
    """Pictures whose red channel is their number, captioned in files beside them."""
    for number in range(count):
        _paint(folder / "deep" / f"{number}.png", (number, 0, 0))
        (folder / "deep" / f"{number}.txt").write_text(f"number {number}\n")
    return folder


def _config(folder: Path, flip: bool = False, skip_unreadable: bool = False) -> DataConfig:
    return DataConfig(
        "folder", SceneConfig(16), path=str(folder), flip=flip, skip_unreadable=skip_unreadable
    )


def _open(folder: Path, seed: int = 0, flip: bool = False) -> FolderSource:
    source = open_source(_config(folder, flip), seed, "cpu")
    assert isinstance(source, FolderSource)
    return source


def _write_list(folder: Path, *rows: object, name: str = "captions.jsonl") -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_captions_stand_beside_their_pictures(tmp_path: Path) -> None:
    images, texts = _open(_make_folder(tmp_path)).batch(5, 0)
    assert images.shape == (5, 3, 16, 16)
    numbers = (images[:, 0, 0, 0] * 255).round().int().tolist()
    assert texts == [f"number {number}" for number in numbers]


def test_captions_stand_in_a_list(tmp_path: Path) -> None:
    _paint(tmp_path / "a.jpg", (255, 255, 255))
    _write_list(tmp_path, {"file": "a.jpg", "caption": " snow\u2028field "}, "", "  ")
    images, texts = _open(tmp_path).batch(2, 0)
    assert texts == ["snow\u2028field"] * 2
    assert images.min() > 0.99


@pytest.mark.parametrize("listed", [True, False])
def test_each_of_several_captions_is_used(tmp_path: Path, listed: bool) -> None:
    _paint(tmp_path / "a.png", (0, 0, 0))
    if listed:
        _write_list(tmp_path, {"file": "a.png", "captions": ["one", "two", "", "three"]})
    else:
        (tmp_path / "a.txt").write_text("one\r\n\r\ntwo\r\n three\n")
    texts = _open(tmp_path).batch(90, 0).captions
    assert set(texts) == {"one", "two", "three"}
    assert min(Counter(texts).values()) > 15


def test_an_epoch_covers_every_picture_once_and_each_has_its_own_order(tmp_path: Path) -> None:
    source = _open(_make_folder(tmp_path, 12))
    texts = [text for index in range(9) for text in source.batch(4, index).captions]
    epochs = [texts[start : start + 12] for start in (0, 12, 24)]
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_are_the_same_whatever_was_asked_before(tmp_path: Path) -> None:
    _make_folder(tmp_path, 7)
    walked, jumped = _open(tmp_path, flip=True), _open(tmp_path, flip=True)
    batches = [walked.batch(3, index) for index in range(8)]
    for index in (7, 2, 5):
        images, texts = jumped.batch(3, index)
        assert torch.equal(images, batches[index].images)
        assert texts == batches[index].captions


def test_another_seed_gives_another_order(tmp_path: Path) -> None:
    _make_folder(tmp_path, 12)
    assert _open(tmp_path).batch(12, 0).captions != _open(tmp_path, seed=1).batch(12, 0).captions


def test_more_pictures_in_a_batch_than_in_the_folder(tmp_path: Path) -> None:
    texts = _open(_make_folder(tmp_path, 3)).batch(6, 0).captions
    assert set(Counter(texts).values()) == {2}


def test_flipping_mirrors_about_half_of_the_pictures(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, :8] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("white left")
    left = _open(tmp_path, flip=True).batch(60, 0).images[:, 0, 0, 0]
    assert 15 < int((left == 1).sum()) < 45
    assert _open(tmp_path).batch(60, 0).images[:, 0, 0, 0].min() == 1


def test_pictures_are_cut_to_the_middle_square(tmp_path: Path) -> None:
    picture = np.zeros((16, 48, 3), np.uint8)
    picture[:, 16:32] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("white")
    assert _open(tmp_path).batch(1, 0).images.min() == 1


def test_pictures_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:8] = 255  # white on top as stored; orientation 6 turns the top to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "a.txt").write_text("white right")
    image = _open(tmp_path).batch(1, 0).images[0, 0]
    assert image[:, 8:].min() == 1
    assert image[:, :8].max() == 0


@pytest.mark.parametrize(("alpha", "shade"), [(0, 1.0), (128, 0.5), (255, 0.0)])
def test_transparent_pictures_lie_on_white(tmp_path: Path, alpha: int, shade: float) -> None:
    _paint(tmp_path / "a.png", (0, 0, 0, alpha))
    (tmp_path / "a.txt").write_text("glass")
    images = _open(tmp_path).batch(1, 0).images
    assert torch.unique(images).tolist() == pytest.approx([shade], abs=0.01)


def test_a_picture_without_a_caption_is_named(tmp_path: Path) -> None:
    _paint(tmp_path / "lonely.png", (0, 0, 0))
    with pytest.raises(DataError, match=r"lonely.png: no caption; write one to lonely.txt"):
        _open(tmp_path)


def test_a_picture_with_an_empty_caption_is_named(tmp_path: Path) -> None:
    _paint(tmp_path / "a.png", (0, 0, 0))
    (tmp_path / "a.txt").write_text(" \n\n")
    with pytest.raises(DataError, match=r"a.png: its caption is empty"):
        _open(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "3",
        {"file": "a.png"},
        {"caption": "a"},
        {"file": "a.png", "captions": "a cat"},
        {"file": "a.png", "caption": None},
        {"file": 3, "caption": "a"},
    ],
    ids=str,
)
def test_a_broken_line_is_named_with_its_number(tmp_path: Path, row: object) -> None:
    _paint(tmp_path / "a.png", (0, 0, 0))
    _write_list(tmp_path, {"file": "a.png", "caption": "fine"}, row)
    with pytest.raises(DataError, match=r"captions.jsonl:2: expected \{"):
        _open(tmp_path)


def test_a_listed_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    _write_list(tmp_path, {"file": "gone.png", "caption": "x"})
    with pytest.raises(DataError, match=r"gone.png: listed with a caption, but missing"):
        _open(tmp_path)


def test_captions_that_are_not_text_are_named(tmp_path: Path) -> None:
    _paint(tmp_path / "a.png", (0, 0, 0))
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00caf\xe9")
    with pytest.raises(DataError, match=r"a.txt: cannot be read as UTF-8"):
        _open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n cut"])
def test_a_broken_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "a.txt").write_text("broken")
    with pytest.raises(DataError, match=r"1 of 1 pictures cannot be read; .*\n  .*a.png: "):
        _open(tmp_path)


def test_a_picture_of_sixteen_bits_is_named(tmp_path: Path) -> None:
    Image.new("I;16", (20, 20), 20_000).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("grey")
    with pytest.raises(DataError, match=r"a.png: it has 16 bits a channel; give one with 8"):
        _open(tmp_path)


def test_all_broken_pictures_are_listed_at_once(tmp_path: Path) -> None:
    _make_folder(tmp_path, 40)
    for number in range(25):
        (tmp_path / "deep" / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="25 of 40 pictures cannot be read") as caught:
        _open(tmp_path)
    assert str(caught.value).count("not an image that is read") == 20
    assert str(caught.value).endswith("and 5 more")


def test_a_run_goes_on_without_broken_pictures_if_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _make_folder(tmp_path, 5)
    (tmp_path / "deep" / "3.png").write_bytes(b"broken")
    source = open_source(_config(tmp_path, skip_unreadable=True), 0, "cpu")
    assert sorted(source.batch(4, 0).captions) == [f"number {number}" for number in (0, 1, 2, 4)]
    assert "going on without 1 of 5 pictures" in capsys.readouterr().err
    for number in range(5):
        (tmp_path / "deep" / f"{number}.png").write_bytes(b"broken")
    del source
    with pytest.raises(DataError, match="5 of 5 pictures cannot be read"):
        open_source(_config(tmp_path, skip_unreadable=True), 0, "cpu")
    with pytest.raises(DataError, match=r"data.skip_unreadable: scenes"):
        open_source(DataConfig("scenes", SceneConfig(16), skip_unreadable=True), 0, "cpu")


def test_pictures_are_read_once_for_several_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _open(_make_folder(tmp_path))
    monkeypatch.setattr(sources, "read_image", None)
    assert _open(tmp_path, seed=1).pictures is first.pictures


def test_files_of_systems_are_passed_over(tmp_path: Path) -> None:
    _make_folder(tmp_path, 2)
    hidden = ("._0.png", "deep/._0.png", ".thumbs/a.jpg", "__MACOSX/deep/0.png", "@eaDir/0.png")
    for name in hidden:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"not a picture")
    (tmp_path / "folder.png").mkdir()
    assert sorted(_open(tmp_path).batch(2, 0).captions) == ["number 0", "number 1"]


def test_captions_stand_in_the_metadata_of_hugging_face(tmp_path: Path) -> None:
    for name in ("train", "more/deep"):
        _paint(tmp_path / name / "a.png", (0, 0, 0))
        row = {"file_name": "a.png", "text": f"of {name}", "width": 20}
        _write_list(tmp_path / name, row, name="metadata.jsonl")
    _paint(tmp_path / "not listed.png", (0, 0, 0))
    assert sorted(_open(tmp_path).batch(2, 0).captions) == ["of more/deep", "of train"]
    _write_list(tmp_path / "train", {"file": "a.png", "caption": "x"}, name="metadata.jsonl")
    with pytest.raises(DataError, match=r'metadata.jsonl:1: expected \{"file_name": ..., "text"'):
        sources.read_folder(tmp_path, 16)


def test_all_pictures_without_a_caption_are_listed_at_once(tmp_path: Path) -> None:
    for number in range(3):
        _paint(tmp_path / f"{number}.png", (0, 0, 0))
    (tmp_path / "2.txt").write_text("\n")
    with pytest.raises(DataError, match="3 pictures lack a caption") as caught:
        _open(tmp_path)
    assert all(f"{number}.png: " in str(caught.value) for number in range(3))


def test_a_picture_cut_short_is_named(tmp_path: Path) -> None:
    _paint(tmp_path / "a.png", (1, 2, 3), (200, 200))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "a.txt").write_text("cut")
    with pytest.raises(DataError, match=r"a.png: the file is damaged or cut short"):
        _open(tmp_path)


def test_folders_that_hold_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        _open(tmp_path)
    with pytest.raises(DataError, match="absent: no such folder"):
        _open(tmp_path / "absent")
    with pytest.raises(DataError, match=r"data.path: name the folder"):
        open_source(DataConfig("folder"), 0, "cpu")


def test_scenes_come_from_shapes_a_bank_or_an_archive(tmp_path: Path) -> None:
    SpriteBank.of_shapes().save(tmp_path / "bank.npz")
    path = str(tmp_path / "bank.npz")
    plain = open_source(DataConfig("scenes", SceneConfig(16)), 0, "cpu")
    stored = open_source(DataConfig("scenes", SceneConfig(16), path=path), 0, "cpu")
    assert torch.equal(plain.batch(8, 3).images, stored.batch(8, 3).images)
    some = DataConfig("scenes", SceneConfig(16), path=path, nouns=("cross", "ring", "square"))
    source = open_source(some, 0, "cpu")
    assert isinstance(source, SceneSource)
    assert source.renderer.bank.nouns == ("cross", "ring", "square")


def test_held_out_scenes_share_no_picture_with_those_of_training() -> None:
    config = DataConfig("scenes", SceneConfig(16))
    trained, held_out = (open_source(config, seed, "cpu") for seed in (0, 1_000_003))
    seen, unseen = (
        {image.numpy().tobytes() for index in range(10) for image in source.batch(64, index).images}
        for source in (trained, held_out)
    )
    assert not seen & unseen


def test_unseen_batches_hold_what_no_batch_shows() -> None:
    config = DataConfig("scenes", SceneConfig(16, held_out_percent=25, more_colours=0.2))
    source = open_source(config, 3, "cpu")
    assert isinstance(source, SceneSource)
    images, texts = source.unseen(40, 0)
    assert images.shape == (40, 3, 16, 16)
    nouns = source.renderer.bank.nouns
    for text in texts:
        assert any(
            f"{word} {noun}" in text and held_out(25, colour, noun)
            for colour in COLOURS
            for word in (colour, *COLOUR_SYNONYMS.get(colour, ()))
            for noun in nouns
        ), text
    assert source.unseen(40, 0).captions == texts


def test_nothing_is_unseen_if_nothing_is_held_out() -> None:
    source = open_source(DataConfig("scenes", SceneConfig(16, held_out_percent=0)), 0, "cpu")
    assert isinstance(source, SceneSource)
    assert source.unseen(4, 0).captions == []


def test_batches_of_other_seeds_are_worded_in_their_own_way() -> None:
    config = DataConfig("scenes", SceneConfig(16))
    texts = [open_source(config, seed, "cpu").batch(64, 0).captions for seed in (0, 0, 1)]
    assert texts[0] == texts[1]
    assert sum(a == b for a, b in zip(texts[0], texts[2], strict=True)) < 8
    assert torch.initial_seed() == 0  # sources leave the global generator alone
