import pytest

from unmask.models.subjects import Parts, find_parts, find_subjects


@pytest.mark.parametrize(
    ("prompt", "subjects"),
    [
        ("a red apple and a blue book", (("red", "apple"), ("blue", "book"))),
        (
            "a red apple to the left of a blue book on a yellow background",
            (("red", "apple"), ("blue", "book")),
        ),
        ("a picture of two purple cats", (("purple", "cats"),)),
        ("An image of a green Turtle, grey background", (("green", "turtle"),)),
        ("a cup of coffee beside a pair of glasses", (("cup", "coffee"), ("glasses",))),
        ("a bear with a red hat in the middle", (("bear",), ("red", "hat"))),
        ("an orange t-shirt above 3 keys on black", (("orange", "t-shirt"), ("keys",), ("black",))),
        ("on the left", ()),
        ("", ()),
    ],
)
def test_the_words_of_each_object_stay_together(
    prompt: str, subjects: tuple[tuple[str, ...], ...]
) -> None:
    assert find_subjects(prompt) == subjects


@pytest.mark.parametrize(
    ("prompt", "names", "ground"),
    [
        (
            "a red apple, two books and a cat on black",
            ("a red apple", "two books", "a cat"),
            " on black",
        ),
        ("a car and an owl, pink background", ("a car", "an owl"), ", pink background"),
        (
            "a cat next to a dog and a tree at night.",
            ("a cat next to a dog", "a tree"),
            " at night",
        ),
        ("red car and blue cat", ("red car", "blue cat"), ""),
        ("a cat and a dog on the left", ("a cat", "a dog on the left"), ""),
        ("a black and white cat", ("a black and white cat",), ""),
        ("three blue stars on a grey background", ("three blue stars on a grey background",), ""),
        ("?!", ("?!",), ""),
    ],
)
def test_what_a_prompt_names_side_by_side_is_told_apart(
    prompt: str, names: tuple[str, ...], ground: str
) -> None:
    assert find_parts(prompt) == Parts(names, ground)


def test_what_holds_for_all_of_a_prompt_holds_for_each_part() -> None:
    parts = find_parts("A flat drawing of a cat and a dog and a tree on the grass, retro style")
    assert parts.names == ("a cat", "a dog", "a tree")
    assert parts.text() == "A flat drawing of a cat, a dog and a tree on the grass, retro style"
    two, one = parts.only(parts.names[:2]).text(), parts.only(parts.names[2:]).text()
    assert two == "A flat drawing of a cat and a dog on the grass, retro style"
    assert one == "A flat drawing of a tree on the grass, retro style"
    assert parts.only([]).text() == ""
