from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.errors import ConfigError, RequestError
from unmask.models.conditions import START, LabelCondition, NoCondition, TextCondition
from unmask.models.imagenet import imagenet_labels

CAPTIONS = ["a red apple on a blue background", "two green cars", "a cat above a dog"] * 20

LONG_TEXT = TextCondition.learn(CAPTIONS, vocabulary=300, length=60)


@pytest.fixture(name="text", scope="module")
def _text() -> TextCondition:
    return TextCondition.learn(CAPTIONS, vocabulary=400, length=12)


def test_frequent_words_become_single_tokens(text: TextCondition) -> None:
    condition = text(["a red apple"])
    assert condition.mask.sum() == 4
    assert condition.ids[0, 0] == START


def test_prompts_of_a_batch_are_padded_and_masked(text: TextCondition) -> None:
    condition = text(["a cat", "two green cars"])
    assert condition.ids.shape == (2, 12)
    assert condition.mask.sum(1).tolist() == [3, 4]


def test_an_empty_prompt_is_the_null_condition(text: TextCondition) -> None:
    assert text(["", "  "]).mask.sum(1).tolist() == [1, 1]


def test_case_makes_no_difference(text: TextCondition) -> None:
    assert text(["A Red APPLE"]).ids.equal(text(["a red apple"]).ids)


@given(st.text(max_size=3))
def test_any_text_at_all_can_be_read(prompt: str) -> None:
    assert LONG_TEXT([prompt]).mask[0, 0]
    assert all(word in prompt for word in LONG_TEXT.unknown_words(prompt))


def test_words_that_no_caption_held_are_told(text: TextCondition) -> None:
    assert text.unknown_words("Two GREEN cars on a blue dog!") == ()
    assert text.unknown_words("a zebra, a red Quokka and a zebra") == ("zebra", "Quokka", "and")
    assert text.unknown_words("a car, two cars") == ("car",)  # a piece of a word is none
    assert text.unknown_words("a red cat\x01 & dog") == ("cat\x01",)
    assert text.unknown_words(" ") == ()


def test_a_word_that_is_not_read_after_a_space_is_not_known(text: TextCondition) -> None:
    assert text.unknown_words('a "red" apple,cat (dog) green\ncars') == (
        '"red',
        "apple,cat",
        "(dog",
        "green\ncars",
    )
    ids = text(['"red"', " red"]).ids
    assert ids[1, 1] not in ids[0]


def test_words_are_those_of_the_captions_whole(text: TextCondition, tmp_path: Path) -> None:
    assert " ".join(text.words or ()) == (
        "a above apple background blue cars cat dog green on red two"
    )
    text.save(tmp_path)
    again = TextCondition.load(tmp_path, 12)
    assert again.words == text.words
    assert again.unknown_words("a zebra") == ("zebra",)
    (tmp_path / "words.txt").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"words\.txt"):
        TextCondition.load(tmp_path, 12)


def test_a_folder_without_words_says_nothing_of_them(text: TextCondition, tmp_path: Path) -> None:
    text.save(tmp_path)
    (tmp_path / "words.txt").unlink()
    again = TextCondition.load(tmp_path, 12)
    assert again.words is None
    assert again.unknown_words("a zebra") == ()
    assert TextCondition.of_captions(again.tokenizer, 12, CAPTIONS).words == text.words


def test_labels_are_known_and_without_a_condition_nothing_is() -> None:
    assert LabelCondition(["cat"]).unknown_words("cat") == ()
    assert NoCondition().unknown_words("a cat") == ("a", "cat")


def test_a_prompt_too_long_tells_both_numbers(text: TextCondition) -> None:
    with pytest.raises(RequestError, match=r"20 text tokens long; this model reads at most 11"):
        text(["a cat " * 10])


def test_text_conditions_survive_saving(text: TextCondition, tmp_path: Path) -> None:
    text.save(tmp_path)
    again = TextCondition.load(tmp_path, 12)
    assert again(["a green cat"]).ids.equal(text(["a green cat"]).ids)


def test_a_broken_text_tokenizer_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "text_tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"text_tokenizer\.json"):
        TextCondition.load(tmp_path, 12)


def test_labels_go_by_name_or_number(tmp_path: Path) -> None:
    LabelCondition(["cat", "dog"]).save(tmp_path)
    labels = LabelCondition.load(tmp_path)
    assert labels(["dog", "0", "", " Cat "]).ids.flatten().tolist() == [1, 0, 2, 0]
    assert labels.vocabulary == 3


@pytest.mark.parametrize("prompt", ["dgo", "2", "-1", "9" * 50, "٣"])
def test_unknown_labels_are_refused_with_the_choices(prompt: str) -> None:
    with pytest.raises(RequestError, match="cat, dog"):
        LabelCondition(["cat", "dog"])([prompt])


def test_of_many_labels_the_nearest_are_told() -> None:
    labels = LabelCondition([*(f"number {i}" for i in range(500)), "tabby", "tiger cat"])
    with pytest.raises(RequestError, match="did you mean 'tabby'") as caught:
        labels(["taby"])
    assert len(str(caught.value)) < 200
    with pytest.raises(RequestError, match="from 0 to 501"):
        labels(["☃"])


def test_labels_that_differ_by_case_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("Cardigan\ncat\ncardigan\n")
    with pytest.raises(ConfigError, match=r"labels\.txt: label 'cardigan' stands for more"):
        LabelCondition.load(tmp_path)


def test_the_labels_of_imagenet_are_a_thousand_and_none_is_a_number() -> None:
    labels = LabelCondition(imagenet_labels())
    assert labels.vocabulary == 1001
    assert labels(["tench", "ROBIN", "tiger cat", "toilet tissue"]).ids.flatten().tolist() == [
        0,
        15,
        282,
        999,
    ]
    assert all(label == label.strip() and not label.isdigit() for label in labels.labels)


def test_no_condition_is_one_constant_token() -> None:
    assert NoCondition()(["x", ""]).ids.tolist() == [[0], [0]]


def test_the_positions_of_a_word_are_those_of_its_text_tokens() -> None:
    condition = TextCondition.learn(["a red apple", "an extraordinary apple"], 280, 40)
    prompt = "A red apple and an EXTRAORDINARY apple"
    ids = condition([prompt]).ids[0].tolist()
    apples = condition.positions(prompt, "apple")
    assert len(apples) == 2
    (extraordinary,) = condition.positions(prompt, "extraordinary")
    for word, places in [
        ("apple", apples[0]),
        ("apple", apples[1]),
        ("extraordinary", extraordinary),
    ]:
        assert condition.tokenizer.decode([ids[place] for place in places]).strip() == word
    assert condition.positions(prompt, "app") == []
    assert condition.positions(prompt, "pear") == []


def test_labels_have_no_words() -> None:
    assert LabelCondition(["cat"]).positions("cat", "cat") == []
    assert NoCondition().positions("cat", "cat") == []
