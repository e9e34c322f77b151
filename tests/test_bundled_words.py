"""The words of the bundled models are those of the captions that they were trained on.

``python -m tests.test_bundled_words`` writes them anew, from the configurations of the training.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from unmask import config
from unmask.box import BUNDLED, available_models
from unmask.models.conditions import TextCondition
from unmask.scenes.captions import captions
from unmask.scenes.composer import SceneComposer
from unmask.scenes.moving.captions import clip_captions
from unmask.scenes.moving.composer import MovingComposer
from unmask.scenes.moving.truth import MovingConfig
from unmask.scenes.sprites import SpriteBank
from unmask.training.clip_transformer import ClipTraining
from unmask.training.transformer import TransformerTraining

CONFIGS = Path(__file__).parents[1] / "configs"
PICTURES = {"storybook": CONFIGS / "world/transformer.toml"}
CLIPS = {"storybook-clips": CONFIGS / "small/clips.toml"}
MODELS = sorted([*PICTURES, *CLIPS])
# Read in pieces: rarest of the captions that the text tokenizer was learned from.
IN_PIECES = {"storybook": {"bunnies", "presents", "tortoises"}, "storybook-clips": set[str]()}
MANY = 8_000  # captions: 100,000 have no more words


def _captions(model: str) -> Iterator[str]:
    training: TransformerTraining | ClipTraining
    if model in PICTURES:
        training = config.load(TransformerTraining, PICTURES[model])
    else:
        training = config.load(ClipTraining, CLIPS[model])
    data, bank = training.data, SpriteBank.of_words(training.data.nouns)
    yield from captions(SceneComposer(bank, data.scenes).compose(MANY, 0), bank.nouns, 0)
    if isinstance(training, ClipTraining):
        moving = MovingConfig(data.scenes, max(training.slots))
        scenes = MovingComposer(bank, moving).compose(MANY, 0)
        yield from clip_captions(scenes, bank.nouns, 0)


def _shipped(model: str) -> TextCondition:
    return TextCondition.load(BUNDLED / model / "transformer", 32)


def _found(model: str) -> TextCondition:
    return TextCondition.of_captions(_shipped(model).tokenizer, 32, _captions(model))


def test_every_bundled_model_has_its_words() -> None:
    assert sorted(available_models()) == MODELS


@pytest.mark.parametrize("model", MODELS)
def test_the_words_are_those_of_the_captions(model: str) -> None:
    assert _shipped(model).words == _found(model).words


@pytest.mark.parametrize("model", MODELS)
def test_the_text_tokenizer_reads_each_word_whole_but_the_rarest(model: str) -> None:
    shipped = _shipped(model)
    assert shipped.words
    parts = {word: word.count("-") * 2 + 1 for word in shipped.words}  # t-shirt is read as three
    cut = {word for word in parts if len(shipped.tokenizer.encode(word).ids) != parts[word]}
    assert cut == IN_PIECES[model]


if __name__ == "__main__":
    for name in MODELS:
        _found(name).save(BUNDLED / name / "transformer")
