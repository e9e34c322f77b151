import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.worlds.training import few_steps, write_local_tokenizer
from unmask.card import ModelCard
from unmask.config import save_json
from unmask.errors import ConfigError
from unmask.models.base import Condition
from unmask.models.conditions import NoCondition, TextCondition
from unmask.models.folder import load_native, save_native
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.scenes.data import DataConfig
from unmask.scenes.truth import SceneConfig
from unmask.training.clip_transformer import ClipTask, ClipTraining, start_from
from unmask.training.loop import Loop
from unmask.training.transformer import MaskedLoss, TransformerLoss, TransformerSize

CONFIG = ClipTraining(
    model=TransformerSize(width=16, layers=1, heads=1, hidden=16, condition_length=64),
    data=DataConfig("scenes", SceneConfig(64)),
    loop=few_steps(4),
    slots=(2, 1, 0),
)


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_local_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_a_run_learns_clips_of_several_lengths_and_pictures(
    tokenizer: Path, tmp_path: Path
) -> None:
    task = ClipTask(CONFIG, tokenizer, None, "cpu", tmp_path)
    Loop(task, CONFIG.loop, tmp_path, "cpu").run()
    figures = (tmp_path / "figures.json").read_text()
    assert all(f"cross_entropy_{slots}_slots" in figures for slots in (0, 1, 2))
    backbone, condition = load_native(tmp_path / "model" / "transformer")
    assert backbone.grid == (3, 8, 8)
    assert condition.length == 64
    # As many tokens in every batch, whatever the length.
    counts = {slots: task._count(slots) * (slots + 1) for slots in (0, 1, 2)}
    assert set(counts.values()) == {6}


def test_a_run_learns_what_a_frame_between_key_frames_tells(
    tokenizer: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, hints=0.5, model=replace(CONFIG.model, windows=((1, 8, 8), (0, 4, 4))))
    task = ClipTask(config, tokenizer, None, "cpu", tmp_path)
    Loop(task, config.loop, tmp_path, "cpu").run()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {name for name in figures if "hinted" in name} == {
        f"cross_entropy_{known}_{told}"
        for known in ("blank", "begun")
        for told in ("hinted", "unhinted")
    }
    backbone, _ = load_native(tmp_path / "model" / "transformer")
    assert backbone.hint_offsets == 3
    assert backbone.config.windows == ((1, 8, 8), (0, 4, 4))


def test_a_share_of_a_batch_is_told_a_frame_of_its_own(tokenizer: Path, tmp_path: Path) -> None:
    task = ClipTask(CONFIG, tokenizer, None, "cpu", tmp_path)
    torch.manual_seed(4)
    tokens, captions, hints = task.source.batch(2, 8, 0, 0.5)
    cells = hints.view(8, 3, 64, 2)
    rows = (cells[..., 1] > 0).all(2)
    assert (cells[..., 1] > 0).any(2).equal(rows)
    assert rows.sum() == rows.any(1).sum() == 4
    assert not rows[:, 0].any()
    slot = int(rows.any(0).nonzero())
    offset = int(cells[..., 1].max())
    renderer = task.source.clips[2]
    given = renderer.render(renderer.composer.compose(8, 0), [4 * slot - offset])[:, 0]
    codes = task.tokenizer.encode(given).flatten(1)
    chosen = rows.any(1)
    assert torch.equal(cells[chosen, slot, :, 0], codes[chosen])
    # Nothing of the clips themselves hangs on it, nor on luck if there are none.
    state = torch.get_rng_state()
    plain = task.source.batch(2, 8, 0)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(plain.tokens, tokens)
    assert plain.captions == captions
    assert not plain.hints.any()
    assert not task.source.batch(0, 4, 0, 1.0).hints.any()


def _small(tmp_path: Path, width: int = 16) -> Path:
    torch.manual_seed(1)
    condition = TextCondition.learn(["a red circle moves", "a blue square"], 300, 16)
    config = NativeConfig(width, 1, 1, 16, (8, 8), 16, "text", condition.vocabulary, 16)
    save_native(NativeTransformer(config), condition, tmp_path / "transformer", half=False)
    save_json(ModelCard("start", "", "halton", ()), tmp_path / "model.json")
    return tmp_path


def test_from_a_picture_model_a_clip_of_one_frame_is_the_picture(
    tokenizer: Path, tmp_path: Path
) -> None:
    start = _small(tmp_path)
    pictures, words = load_native(start / "transformer")
    assert isinstance(words, TextCondition)
    torch.manual_seed(2)
    learned = TextCondition.learn(["a red circle moves quickly", "a blue square"], 400, 64)
    size = replace(
        pictures.config, grid=(3, 8, 8), vocabulary=learned.vocabulary, condition_length=64
    )
    clips = NativeTransformer(size).eval()
    start_from(clips, learned, start)
    ids, mask = words(["a red circle"])
    theirs = learned(["a red circle"])
    tokens = torch.randint(17, (1, 64), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        picture = pictures(tokens, pictures.encode(Condition(ids, mask)))
        one = clips(tokens, clips.encode(Condition(theirs.ids[:, :16], theirs.mask[:, :16])))
    # The same words, under other numbers.
    said = [words.tokenizer.id_to_token(i) for i in ids[0].tolist() if i]
    assert said == [learned.tokenizer.id_to_token(i) for i in theirs.ids[0].tolist() if i]
    assert torch.equal(picture, one)


def test_a_start_of_another_size_is_told(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="of another size than"):
        ClipTask(CONFIG, tokenizer, _small(tmp_path, width=32), "cpu", tmp_path / "out")


def test_bounds_of_the_configuration() -> None:
    with pytest.raises(ValueError, match=r"slots: .*give lengths"):
        replace(CONFIG, slots=(0,))
    with pytest.raises(ValueError, match=r"data\.kind: 'folder'; clips are rendered"):
        replace(CONFIG, data=DataConfig("folder"))
    with pytest.raises(ValueError, match=r"model\.condition: 'label'; clips have captions"):
        replace(CONFIG, model=replace(CONFIG.model, condition="label"))
    with pytest.raises(ValueError, match=r"hints: 2"):
        replace(CONFIG, hints=2.0)
    with pytest.raises(ValueError, match=r"model\.digits"):
        replace(CONFIG, model=replace(CONFIG.model, digits=True))


def test_what_is_corrupted_is_seen_and_never_the_target() -> None:
    torch.manual_seed(0)
    backbone = NativeTransformer(NativeConfig(16, 1, 1, 16, (2, 2), 4, "none", 1, 1))
    loss = MaskedLoss(backbone, TransformerLoss(unmasked=1.0))
    tokens, masked = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[True] + [False] * 3])
    condition = NoCondition()([""])
    wrong = torch.full_like(tokens, 3)
    with torch.no_grad():
        found = loss(tokens, masked, condition, wrong)[0]
        seen = torch.tensor([[backbone.mask_id, 3, 3, 3]])
        logits = backbone(seen, backbone.encode(condition))
    torch.testing.assert_close(found, cross_entropy(logits[0], tokens[0]))
