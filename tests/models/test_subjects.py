import pytest

from unmask.models.subjects import find_subjects


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
