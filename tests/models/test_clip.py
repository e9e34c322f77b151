import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worlds.published import quiet, text_vocabulary, write_clip
from unmask.errors import ConfigError, RequestError
from unmask.models.clip import ClipCondition, encode_text, load_text_encoder

START, END = len(text_vocabulary()) - 2, len(text_vocabulary()) - 1
PROMPTS = ("a cat", "", "Two  BOATS, one cat's hat")


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder, width=16, projection=12, layers=3)
    return folder


@pytest.fixture(name="condition")
def _condition(folder: Path) -> ClipCondition:
    return ClipCondition.load(folder / "tokenizer")


def test_ids_are_those_of_the_published_tokenizer(folder: Path, condition: ClipCondition) -> None:
    with quiet():
        from transformers import CLIPTokenizer

        reference = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    expected = reference(list(PROMPTS), padding="max_length", max_length=77, return_tensors="pt")
    made = condition(PROMPTS)
    assert torch.equal(made.ids, expected.input_ids)
    assert made.mask.all()  # the reference tells CLIP of no padding
    assert made.ids.shape == made.mask.shape == (3, 77)
    assert condition.vocabulary == END + 1


def test_the_null_condition_is_a_start_and_ends(condition: ClipCondition) -> None:
    for nothing in ("", " \n"):
        assert condition([nothing]).ids.tolist() == [[START] + [END] * 76]


def test_text_tokens_are_counted_without_padding(condition: ClipCondition) -> None:
    counts = [condition.count(prompt) for prompt in PROMPTS]
    assert counts[1] == 2  # start and end
    for prompt, count in zip(PROMPTS, counts, strict=True):
        ids = condition([prompt]).ids[0]
        assert (ids[count - 1 :] == END).all()
        assert (ids[: count - 1] != END).all()


def test_the_older_layout_is_read_alike(condition: ClipCondition, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(text_vocabulary()))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    older = ClipCondition.load(tmp_path)
    assert torch.equal(older(PROMPTS).ids, condition(PROMPTS).ids)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(ConfigError, match=r"merges\.txt: no such file"):
        ClipCondition.load(tmp_path)


def test_what_was_saved_reads_alike(condition: ClipCondition, tmp_path: Path) -> None:
    condition.save(tmp_path)
    assert torch.equal(ClipCondition.load(tmp_path)(PROMPTS).ids, condition(PROMPTS).ids)


@pytest.mark.parametrize("names", [("tokenizer.json",), ("vocab.json", "merges.txt")])
def test_a_spoiled_text_tokenizer_is_told(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("{")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        ClipCondition.load(tmp_path)


def test_a_long_prompt_is_refused_and_never_cut(condition: ClipCondition) -> None:
    assert condition(["x " * 75]).ids[0, -1] == END
    told = "76 text tokens long; this model reads at most 75, or 300 with long_prompt"
    with pytest.raises(RequestError, match=told):
        condition(["x " * 76])


def test_a_long_prompt_is_read_in_chunks_that_are_texts_of_their_own(
    condition: ClipCondition,
) -> None:
    letters = "a b c d e f g h " * 20  # each is a text token
    parts = [letters[:150], letters[150:300], letters[300:]]
    counts = [condition.chunks(text) for text in ("", parts[0], letters[:152], letters)]
    assert counts == [1, 1, 2, 3]
    made = condition([letters, "a"], 3)
    assert torch.equal(made.ids.view(2, 3, 77)[0], condition(parts).ids)
    assert torch.equal(made.ids.view(2, 3, 77)[1], condition(["a", "", ""]).ids)
    assert made.mask.all()
    assert condition.count(letters) == 160 + 3 * 2
    with pytest.raises(RequestError, match=r"160 text tokens long; this model reads at most 150$"):
        condition([letters], 2)


def test_positions_in_further_chunks_are_behind_their_starts(condition: ClipCondition) -> None:
    prompt = "x" * 74 + " cat " + "x" * 74 + " dog"
    for word in ("cat", "dog"):
        (places,) = condition.positions(prompt, word)
        spelt = condition([prompt], 3).ids[0, list(places)]
        assert torch.equal(spelt, condition([word]).ids[0, 1:4])


def test_chunks_are_encoded_apart_and_the_first_is_pooled(
    folder: Path, condition: ClipCondition
) -> None:
    encoder = load_text_encoder(folder / "text_encoder", torch.float32, "fp32")
    letters = "a b c d e f g h " * 12
    states, pooled = encode_text(encoder, condition([letters, "a cat"], 2).ids)
    assert states.shape == (2, 154, 16)
    for row, chunks in enumerate([(letters[:150], letters[150:]), ("a cat", "")]):
        apart = [encode_text(encoder, condition([chunk]).ids) for chunk in chunks]
        assert torch.allclose(states[row], torch.cat([each[0][0] for each in apart]), atol=1e-6)
        assert torch.allclose(pooled[row], apart[0][1][0], atol=1e-6)


def test_positions_are_those_of_whole_words(condition: ClipCondition) -> None:
    """Each letter is a text token here, behind the start token; spaces are none."""
    prompt = "A cat, catalogue; another CAT"
    assert condition.positions(prompt, "cat") == [(2, 3, 4), (23, 24, 25)]
    for place in (2, 23):
        spelt = condition([prompt]).ids[0, place : place + 3]
        assert torch.equal(spelt, condition(["cat"]).ids[0, 1:4])
    assert condition.positions(prompt, "dog") == []
    assert condition.positions("(c++", "c++") == [(2, 3, 4)]


def test_positions_count_letters_that_are_several_bytes(condition: ClipCondition) -> None:
    assert condition.positions("été cat", "cat") == [(6, 7, 8)]
    assert condition.positions("İİ cat", "cat") == [(7, 8, 9)]  # whose small letter is two


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_text_is_encoded_as_by_transformers(
    folder: Path, condition: ClipCondition, dtype: torch.dtype
) -> None:
    with quiet():
        from transformers import CLIPTextModelWithProjection

        reference = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder")
    reference = reference.to(dtype)  # type: ignore[arg-type]  # its stub takes modules only
    ids = condition(PROMPTS).ids
    expected = reference(ids, output_hidden_states=True)
    states, pooled = encode_text(load_text_encoder(folder / "text_encoder", dtype, "fp32"), ids)
    assert states.shape == (3, 77, 16)
    assert pooled.shape == (3, 12)
    assert torch.equal(states, expected.hidden_states[-2])
    assert torch.equal(pooled, expected.text_embeds)


def test_loading_is_silent_and_draws_no_random_numbers(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.random.get_rng_state()
    encoder = load_text_encoder(folder / "text_encoder", torch.float32, "fp32")
    ClipCondition.load(folder / "tokenizer")(["x " * 70])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training


def test_positions_in_old_files_are_allowed(
    folder: Path, condition: ClipCondition, tmp_path: Path
) -> None:
    config, weights = "config.json", "model.safetensors"
    state = load_file(folder / "text_encoder" / weights)
    (tmp_path / config).write_text((folder / "text_encoder" / config).read_text())
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    save_file(state | positions, tmp_path / weights)
    ids = condition(PROMPTS).ids
    new, old = (
        encode_text(load_text_encoder(each, torch.float32, "fp32"), ids)
        for each in (folder / "text_encoder", tmp_path)
    )
    assert torch.equal(new[0], old[0])
    save_file(state | {"text_model.other": torch.zeros(1)}, tmp_path / weights)
    with pytest.raises(ConfigError, match=r"model\.safetensors.*text_model\.other"):
        load_text_encoder(tmp_path, torch.float32, "fp32")


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden_act", "nothing"), ("hidden_size", "wide"), ("num_attention_heads", 5)],
)
def test_a_configuration_that_cannot_be_computed_is_told(
    folder: Path, tmp_path: Path, field: str, value: object
) -> None:
    shutil.copytree(folder / "text_encoder", tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {field: value}))
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_text_encoder(tmp_path, torch.float32, "fp32")


def test_without_transformers_the_remedy_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'unmask\[checkpoints\]'"):
        ClipCondition.load(folder / "tokenizer")
