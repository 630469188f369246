"""Pictures, from a file to red, green and blue, and what no picture is."""

import numpy as np
import pytest
from picture_files import file_of, plain

from gcvit import pictures


@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (plain("RGB", (200, 100, 50)), "png", (200, 100, 50)),
        (plain("L", 90), "jpeg", (90, 90, 90)),
        (plain("1", 1), "png", (255, 255, 255)),
        (plain("CMYK", (0, 0, 0, 0)), "jpeg", (255, 255, 255)),
        (plain("I;16", 257 * 90), "png", (90, 90, 90)),
        (plain("RGBA", (200, 100, 50, 0)), "png", (255, 255, 255)),
        (plain("LA", (0, 255)), "png", (0, 0, 0)),
        (plain("RGB", (200, 100, 50)).quantize(4), "gif", (200, 100, 50)),
        (plain("RGB", (200, 100, 50)), "webp", (200, 100, 50)),
        (plain("RGB", (200, 100, 50)), "bmp", (200, 100, 50)),
        (plain("RGB", (200, 100, 50)), "tiff", (200, 100, 50)),
    ],
)
def test_every_kind_of_picture_becomes_red_green_and_blue(
    image, format, expected
):
    decoded = pictures.decode(file_of(image, format))
    assert decoded.shape == (20, 30, 3) and decoded.dtype == np.uint8
    assert abs(decoded - np.array(expected)).max() <= 3


def test_an_animation_is_its_first_frame():
    frames = [plain("RGB", color) for color in ("red", "blue")]
    file = file_of(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert (pictures.decode(file)[0, 0] == (255, 0, 0)).all()


def test_a_picture_that_the_camera_turned_stands_upright():
    image = plain("RGB", "black", (30, 20))
    image.putpixel((0, 0), (255, 255, 255))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    decoded = pictures.decode(file_of(image, "png", exif=exif))
    assert decoded.shape == (30, 20, 3)
    assert decoded[0, -1, 0] == 255 and decoded[0, 0, 0] == 0


def test_pictures_are_shrunk_and_never_enlarged():
    file = file_of(plain("RGB", "red", (60, 40)), "png")
    assert pictures.decode(file, 20).shape == (20, 30, 3)
    assert pictures.decode(file, 50).shape == (40, 60, 3)


def test_a_path_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    plain("RGB", "red").save(tmp_path / "red.png")
    assert pictures.decode("~/red.png").shape == (20, 30, 3)
    with pytest.raises(ValueError, match="picture=3 is no path"):
        pictures.decode(3)
