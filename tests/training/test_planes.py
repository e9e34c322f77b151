import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.worlds.training import few_steps, write_local_tokenizer
from unmask.errors import ConfigError
from unmask.models.conditions import TextCondition
from unmask.models.folder import save_native
from unmask.models.native import NativeConfig, NativeTransformer
from unmask.scenes.data import DataConfig
from unmask.scenes.moving.renderer import MovingRenderer
from unmask.scenes.moving.truth import MovingConfig
from unmask.scenes.sprites import SpriteBank
from unmask.scenes.truth import SceneConfig
from unmask.training.loop import Loop
from unmask.training.planes import (
    KNOWN,
    ClassRenderer,
    PlanesTask,
    PlanesTraining,
    TwoPlanes,
    _mean_iou,
    _overlap,
)
from unmask.training.transformer import TransformerSize

CONFIG = PlanesTraining(
    model=TransformerSize(width=16, layers=1, heads=1, hidden=16, condition="none"),
    data=DataConfig("scenes", SceneConfig(64)),
    loop=few_steps(4),
    slots=3,
)


@pytest.fixture(name="task", scope="module")
def _task(tmp_path_factory: pytest.TempPathFactory) -> PlanesTask:
    tokenizer = write_local_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return PlanesTask(CONFIG, tokenizer, None, "cpu")


def test_a_run_learns_both_planes_and_tells_what_copying_has(
    task: PlanesTask, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    Loop(task, CONFIG.loop, tmp_path, "cpu").run()
    figures = json.loads((tmp_path / "figures.json").read_text())
    for name in ("predicted", "copied", "tokenizer"):
        assert 0 <= figures[f"miou_{name}"] <= 1
        assert {f"miou_{name}_{ahead}_ahead" for ahead in (1, 2)} < set(figures)
    after = task.module.state_dict()
    for name in ("second_embedding.weight", "second_head.weight", "backbone.head.weight"):
        assert not torch.equal(before[name], after[name])
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
    }


def test_the_second_plane_is_seen_and_masked_by_itself(task: PlanesTask) -> None:
    planes, _, condition = task._batch(task.held_out, 0)
    module = task.module
    assert isinstance(module, TwoPlanes)
    blank = torch.full_like(planes[0], task.mask_id)
    with torch.no_grad():
        seen = [module(first, planes[1], condition)[0] for first in (planes[0], blank)]
        unseen = module(planes[0], blank, condition)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], unseen[0])
    assert unseen[0].shape == unseen[1].shape == (*planes[0].shape, 16)


def test_a_prediction_sees_the_known_slots_alone(task: PlanesTask) -> None:
    batch = task._batch(task.held_out, 0)
    later = KNOWN * 64
    other = [plane.clone() for plane in batch.planes]
    for plane in other:
        plane[:, later:] = (plane[:, later:] + 1) % 16
    guess = task._predicted(task.module, batch)
    assert guess.shape == (2, 2, 8, 8)
    others = batch._replace(planes=(other[0], other[1]))
    assert torch.equal(guess, task._predicted(task.module, others))


def test_classes_are_the_objects_of_the_scene() -> None:
    bank, config = SpriteBank.of_shapes(), MovingConfig(SceneConfig(64, snap=8), 3)
    scenes = MovingRenderer(bank, config).composer.compose(16, 0)
    renderer = ClassRenderer(bank, config, "cpu")
    classes = renderer.key_frames(scenes)
    assert classes.shape == (16, 4, 64, 64)
    assert torch.equal(renderer.read(renderer.draw(classes)), classes)
    for clip in range(16):
        for slot in range(4):
            there = set(classes[clip, slot].flatten().tolist()) - {0}
            shown = (scenes.still.sprites[clip] >= 0) & (scenes.alpha[clip, :, slot] > 0.5)
            nouns = {1 + int(noun) for noun in scenes.still.nouns[clip][shown]}
            assert there <= nouns
            # One may hide another; else all are there, in their boxes.
            if len(nouns) == 1:
                assert there == nouns
                box = (scenes.boxes[clip, shown, slot] * 64).round().long()
                places = classes[clip, slot].nonzero()
                assert (places.amin(0) >= box[:, [1, 0]].amin(0)).all()
                assert (places.amax(0) < box[:, [3, 2]].amax(0)).all()


def test_iou_counts_pixels() -> None:
    wanted = torch.zeros(1, 2, 4, 4, dtype=torch.long)
    wanted[0, :, :2] = 1
    found = wanted.clone()
    found[0, 1] = wanted[0, 1].roll(1, 0)  # one row of two is right, of three in all
    counts = _overlap(found, wanted, 2)
    assert counts[:, 0].tolist() == [[8, 8], [4, 12]]
    assert counts[:, 1].sum() == 0  # a noun that is nowhere says nothing
    assert _mean_iou(counts[0]) == 1.0
    assert _mean_iou(counts[1]) == pytest.approx(1 / 3)
    assert _mean_iou(counts.sum(0)) == pytest.approx(12 / 20)


def test_training_goes_on_from_a_model_of_clips(tmp_path: Path) -> None:
    """Whose text tokenizer reads the captions."""
    tokenizer = write_local_tokenizer(tmp_path / "tokenizer")
    condition = TextCondition.learn(["a red circle moves"], 300, 160)
    size = NativeConfig(16, 1, 1, 16, (4, 8, 8), 16, "text", condition.vocabulary, 160)
    clips = NativeTransformer(size)
    save_native(clips, condition, tmp_path / "start" / "transformer", half=False)
    config = replace(CONFIG, model=None)
    task = PlanesTask(config, tokenizer, tmp_path / "start", "cpu")
    module = task.module
    assert isinstance(module, TwoPlanes)
    tokens = torch.randint(17, (2, 256))
    module.second_embedding.weight.data.zero_()
    with torch.no_grad():
        told = task._batch(task.source, 0).condition
        expected = clips(tokens, clips.encode(told))
        assert torch.equal(module(tokens, tokens, told)[0], expected)
        other = clips.encode(condition([""] * 2))
    assert not torch.equal(clips(tokens, other), expected)
    torch.autograd.backward(task.loss(module, 0, None)[0])
    assert module.backbone.head.weight.grad is not None
    with pytest.raises(ConfigError, match="either this table, or --start"):
        PlanesTask(CONFIG, tokenizer, tmp_path / "start", "cpu")
    with pytest.raises(ConfigError, match="either this table, or --start"):
        PlanesTask(config, tokenizer, None, "cpu")
    with pytest.raises(ConfigError, match=r"draws a grid of \(4, 8, 8\)"):
        PlanesTask(replace(config, slots=4), tokenizer, tmp_path / "start", "cpu")


def test_bounds_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.condition: 'text'; from nothing it reads"):
        replace(CONFIG, model=TransformerSize(16, 1, 1, 16))
    with pytest.raises(ValueError, match="second: 2"):
        replace(CONFIG, second=2.0)
    with pytest.raises(ValueError, match="slots: 1"):
        replace(CONFIG, slots=1)
    bank = SpriteBank.of_shapes()
    many = replace(bank, nouns=tuple("abcdefghi"))
    with pytest.raises(ConfigError, match=r"data\.nouns: 9; each needs a colour"):
        ClassRenderer(many, MovingConfig(SceneConfig(64)), "cpu")
