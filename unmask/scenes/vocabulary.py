"""The words of scenes, and which combinations of them are held out."""

import hashlib

COLOURS = {
    "red": (222, 40, 44),
    "orange": (250, 130, 20),
    "yellow": (250, 215, 40),
    "green": (50, 165, 60),
    "blue": (40, 95, 225),
    "purple": (135, 60, 190),
    "pink": (250, 110, 180),
    "brown": (130, 80, 45),
}
# Colours without a hue, drawn if a configuration asks for them (``shades``).
SHADES = {
    "white": (245, 245, 245),
    "grey": (120, 120, 125),
    "black": (35, 35, 40),
}
# Drawn if a configuration asks for them (``more_colours``), never judged: a model that meets more
# colours makes more of combinations of the first eight that it has not met. Each lies 57 or more of
# 255 levels (Euclidean) from all of those, and the reduced tokenizer's codes hold them all.
MORE_COLOURS = {
    "lime": (160, 225, 40),
    "magenta": (215, 30, 150),
    "gold": (205, 160, 40),
    "coral": (250, 115, 95),
    "plum": (115, 40, 100),
    "tan": (190, 140, 95),
    "teal": (20, 125, 130),
    "maroon": (125, 20, 40),
}
COLOUR_NAMES = (*COLOURS, *SHADES, *MORE_COLOURS)
BACKGROUNDS = {
    "white": (250, 250, 250),
    "black": (25, 25, 30),
    "grey": (150, 150, 155),
    "blue": (150, 200, 250),
    "green": (165, 220, 160),
    "yellow": (255, 240, 165),
    "pink": (255, 200, 215),
    "purple": (205, 185, 240),
    "orange": (255, 205, 155),
    "brown": (190, 160, 130),
}
# Painted, and drawn if a configuration asks for them (``scenery``).
SCENERY = ("sky", "grass", "sea", "night")
BACKGROUND_NAMES = (*BACKGROUNDS, *SCENERY)
# The words for the drawing styles of sprites, by the name of their set.
STYLES = {
    "fluent-flat": "flat",
    "fluent-3d": "3d",
    "fluent-color": "gradient",
    "noto": "cartoon",
    "twemoji": "sticker",
    "emojione": "icon",
    "streamline": "outlined",
    "fxemoji": "retro",
}
KINDS = ("single", "count", "pair", "trio")
SINGLE, COUNT, PAIR, TRIO = range(4)  # their indices
RELATIONS = ("left of", "above")
PLACES = ("centre", "left", "right", "top", "bottom")


def held_out(percent: int, *words: str) -> bool:
    """Whether a combination of words belongs to the held-out part; fixed for ever by a hash."""
    digest = hashlib.sha256(" | ".join(words).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < percent
