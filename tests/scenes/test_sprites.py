import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from unmask.errors import DataError
from unmask.images import ImageLimits
from unmask.scenes import sprites
from unmask.scenes.sprites import SHAPES, SIDE, SpriteBank


def _png(
    colour: tuple[int, int, int, int], box: tuple[int, int, int, int] = (20, 30, 60, 50)
) -> bytes:
    picture = Image.new("RGBA", (100, 80))
    ImageDraw.Draw(picture).rectangle(box, fill=colour)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _make_archive(path: Path, rows: list[tuple[str | None, str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        lines = []
        for number, (noun, style, picture) in enumerate(rows):
            archive.writestr(f"{number}.png", picture)
            lines.append(json.dumps({"file": f"{number}.png", "set": style, "scene_noun": noun}))
        archive.writestr("captions.jsonl", "\n".join(lines))
    return path


RED = _png((200, 30, 30, 255))
ROWS = [("apple", "flat", RED), ("apple", "round", RED), ("pear", "flat", RED), (None, "flat", RED)]


def test_shapes_are_whole_and_fill_their_square() -> None:
    bank = SpriteBank.of_shapes()
    assert bank.nouns == tuple(sorted(SHAPES))
    assert bank.pixels.shape == (6, 5, SIDE, SIDE)
    for alpha in bank.pixels[:, 3] > 0:
        rows, columns = alpha.any(1).nonzero(), alpha.any(0).nonzero()
        assert (rows.min(), columns.min()) == (0, 0)
        assert (rows.max(), columns.max()) == (SIDE - 1, SIDE - 1)


def test_an_archive_gives_the_nouns_and_styles_that_are_asked_for(tmp_path: Path) -> None:
    path = _make_archive(tmp_path / "a.zip", ROWS)
    everything = SpriteBank.from_archive(path, (), ())
    assert (everything.nouns, everything.styles) == (("apple", "pear"), ("flat", "round"))
    assert everything.noun_of.tolist() == [0, 0, 1]
    some = SpriteBank.from_archive(path, ("apple",), ("round",))
    assert (some.nouns, some.styles, len(some.pixels)) == (("apple",), ("round",), 1)


def test_a_sprite_is_cut_to_its_visible_part_and_keeps_its_proportions(tmp_path: Path) -> None:
    bank = SpriteBank.from_archive(_make_archive(tmp_path / "a.zip", ROWS), ("pear",), ())
    alpha = bank.pixels[0, 3] > 128  # the rectangle is 41 wide and 21 high
    rows, columns = alpha.any(1).nonzero(), alpha.any(0).nonzero()
    assert (int(columns.min()), int(columns.max())) == (0, SIDE - 1)
    assert abs(int(rows.max() - rows.min()) + 1 - SIDE * 21 / 41) < 2


def test_a_black_sprite_has_a_finite_brightness(tmp_path: Path) -> None:
    path = _make_archive(tmp_path / "a.zip", [("bat", "flat", _png((0, 0, 0, 255)))])
    bank = SpriteBank.from_archive(path, (), ())
    assert bank.luminance.isfinite().all()
    assert bank.pixels[0, 4].max() == 0


def test_only_vivid_parts_take_a_colour(tmp_path: Path) -> None:
    picture = Image.open(io.BytesIO(_png((200, 30, 30, 255), (0, 0, 99, 79))))
    ImageDraw.Draw(picture).rectangle((0, 0, 99, 20), fill=(30, 30, 30, 255))
    file = io.BytesIO()
    picture.save(file, "PNG")
    bank = SpriteBank.from_archive(
        _make_archive(tmp_path / "a.zip", [("flag", "flat", file.getvalue())]), (), ()
    )
    tint = bank.pixels[0, 4]
    assert tint[30, 64] == 0
    assert tint[100, 64] == 255


def test_a_saved_bank_loads_as_the_same(tmp_path: Path) -> None:
    bank, path = SpriteBank.of_shapes(), tmp_path / "deep" / "bank.npz"
    bank.save(path)
    loaded = SpriteBank.load(path)
    assert (loaded.nouns, loaded.styles) == (bank.nouns, bank.styles)
    for name in ("pixels", "noun_of", "style_of", "luminance"):
        assert torch.equal(getattr(loaded, name), getattr(bank, name))


def test_a_part_of_a_bank_keeps_each_sprite_with_its_names(tmp_path: Path) -> None:
    whole = SpriteBank.of_shapes()
    part = whole.only(("ring", "cross"), ("flat",))
    assert part.nouns == ("cross", "ring")
    for row, noun in enumerate(part.noun_of):
        name = part.nouns[noun]
        (old,) = (whole.noun_of == whole.nouns.index(name)).nonzero()[0]
        assert torch.equal(part.pixels[row], whole.pixels[old])


def test_nouns_that_nobody_drew_are_named(tmp_path: Path) -> None:
    path = _make_archive(tmp_path / "a.zip", ROWS)
    with pytest.raises(DataError, match=r"a.zip: no sprite for fig, kiwi"):
        SpriteBank.from_archive(path, ("pear", "kiwi", "fig"), ())
    with pytest.raises(DataError, match="no sprite for any noun"):
        SpriteBank.from_archive(path, (), ("gothic",))
    with pytest.raises(DataError, match="no sprite for fig"):
        SpriteBank.of_shapes().only(("fig", "ring"), ())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"[1, 2]"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(DataError, match="broken: not a sprite bank"):
        SpriteBank.load(path)
    with pytest.raises(DataError, match="broken: not a sprite archive"):
        SpriteBank.from_archive(path, (), ())


def test_an_archive_without_a_list_or_with_a_broken_picture_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bare.zip", "w") as archive:
        archive.writestr("a.png", RED)
    with pytest.raises(DataError, match=r"bare.zip: not a sprite archive: .*captions.jsonl"):
        SpriteBank.from_archive(tmp_path / "bare.zip", (), ())
    path = _make_archive(tmp_path / "cut.zip", [("apple", "flat", RED[:60])])
    with pytest.raises(DataError, match=r"cut.zip: not a sprite archive: 0.png: .*damaged"):
        SpriteBank.from_archive(path, (), ())


def test_pictures_of_an_archive_are_read_as_all_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = io.BytesIO()
    Image.new("I;16", (9, 9), 40000).save(deep, "PNG")
    path = _make_archive(tmp_path / "deep.zip", [("apple", "flat", deep.getvalue())])
    with pytest.raises(DataError, match=r"0.png: it has 16 bits a channel"):
        SpriteBank.from_archive(path, (), ())
    path = _make_archive(tmp_path / "large.zip", ROWS)
    monkeypatch.setattr(sprites, "DATA_LIMITS", ImageLimits(len(RED) - 1, 1 << 20))
    with pytest.raises(DataError, match=rf"0.png has {len(RED)} bytes; the bound is"):
        SpriteBank.from_archive(path, (), ())
