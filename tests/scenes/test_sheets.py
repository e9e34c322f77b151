import numpy as np
import pytest
import torch

from unmask.scenes.sheets import contact_sheet, to_image


def test_a_picture_keeps_its_colours_and_clamps_the_rest() -> None:
    pixels = torch.zeros(3, 2, 4)
    pixels[0], pixels[1], pixels[2, 0, 3] = 2.0, -1.0, 0.5
    image = to_image(pixels)
    assert image.size == (4, 2)
    assert (image.getpixel((0, 0)), image.getpixel((3, 0))) == ((255, 0, 0), (255, 0, 128))


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_pictures_lie_in_rows_with_white_between(count: int, rows: int) -> None:
    sheet = contact_sheet(torch.zeros(count, 3, 5, 4), columns=3)
    assert sheet.size == (3 * 6 - 2, rows * 7 - 2)
    black = (np.asarray(sheet)[..., 0] == 0).sum()
    assert black == count * 5 * 4


def test_pictures_stand_in_reading_order_and_are_enlarged_in_whole_pixels() -> None:
    images = torch.linspace(0, 0.9, 4).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    sheet = contact_sheet(images, columns=2, enlarge=3)
    assert sheet.size == (18, 18)
    corners = [(0, 0), (17, 0), (0, 17), (17, 17)]
    shades = [np.asarray(sheet)[y, x, 0] for x, y in corners]
    assert shades == [0, 76, 153, 230]
