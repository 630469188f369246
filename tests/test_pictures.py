"""Pictures, from a file to red, green and blue, and what no picture is."""

import io
import sys
import types

import keras
import numpy as np
import pytest
from picture_files import file_of, plain
from PIL import Image

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


def test_an_image_that_was_given_stays_as_it_was():
    file = io.BytesIO(file_of(plain("RGB", "red", (640, 480)), "jpeg"))
    with Image.open(file) as image:
        assert pictures.decode(image, 40).shape == (40, 53, 3)
        assert image.size == (640, 480)


def test_a_path_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    plain("RGB", "red").save(tmp_path / "red.png")
    assert pictures.decode("~/red.png").shape == (20, 30, 3)
    with pytest.raises(ValueError, match="picture=3 is not a path"):
        pictures.decode(3)


# === What the values mean ===


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0.9, (0, 1)),
        (0, 200, (0, 255)),
        (3, 1000, (0, 1023)),
        (0, 4095, (0, 4095)),
        (0, 4096, (0, 16383)),
        (0, 40000, (0, 65535)),
        (0, 70000, (0, 70000)),
        (-1000, 3000, (-1000, 3000)),
    ],
)
def test_the_highest_value_says_what_is_white(low, high, expected):
    assert pictures.value_range_of(low, high) == expected


def deep(values, dtype):
    """A grey picture with more than 8 bits, in a file."""
    return file_of(Image.fromarray(np.asarray(values, dtype)), "tiff")


@pytest.mark.parametrize(
    ("dtype", "white"),
    [("uint16", 4095), ("uint16", 65535), ("float32", 1), ("int32", 255)],
)
def test_a_deep_picture_is_scaled_by_its_own_values(dtype, white):
    ramp = np.linspace(0, white, 40).reshape(5, 8)
    decoded = pictures.decode(deep(ramp, dtype))
    expected = np.asarray(ramp, dtype) / white * 255
    assert abs(decoded - expected[..., None]).max() <= 0.51


def test_black_and_white_can_be_given():
    picture = deep(np.full((4, 4), 500), "uint16")
    decoded = pictures.decode(picture, value_range=(0, 1000))
    assert (abs(decoded.astype(int) - 127.5) <= 0.51).all()


def test_a_deep_picture_that_is_nan_is_an_error():
    with pytest.raises(ValueError, match="NaN"):
        pictures.decode(deep([[0.5, np.nan]], "float32"))


def test_a_large_jpeg_is_decoded_at_a_reduced_size():
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), "uint8")
    large = Image.fromarray(noise).resize((3200, 2400), Image.BICUBIC)
    file = file_of(large, "jpeg", quality=95)
    one = pictures.decode(file, 125)
    other = pictures.shrink(pictures.pillow().open(io.BytesIO(file)), 125)
    difference = abs(one.astype(int) - np.asarray(other))
    assert one.shape == (125, 167, 3)
    # Of 255: the distance that the docstring of `read` states.
    assert difference.mean() < 1 and difference.max() <= 8


# === Whatever people bring ===


def numpy(tensors):
    return [keras.ops.convert_to_numpy(tensor) for tensor in tensors]


def test_photos_of_different_sizes_are_a_list(tmp_path):
    plain("RGB", "red").save(tmp_path / "red.png")
    given = [tmp_path / "red.png", plain("RGB", "red", (4, 5))]
    given += [file_of(plain("RGB", "red"), "png"), np.array([[[255, 0, 0]]])]
    found = numpy(pictures.photos("images", given))
    shapes = [(1, 20, 30, 3), (1, 5, 4, 3), (1, 20, 30, 3), (1, 1, 1, 3)]
    assert [x.shape for x in found] == shapes
    assert all((x == (255, 0, 0)).all() for x in found)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((2, 2), 90, "uint8"), 90),
        (np.full((2, 2, 1), 90, "uint8"), 90),
        (np.full((3, 2, 2, 1), 90, "uint8"), 90),
        (np.full((2, 2, 4), (90, 90, 90, 255), "uint8"), 90),
        (np.full((2, 2, 4), (90, 90, 90, 0), "uint8"), 255),
        (np.full((2, 2, 4), (90, 90, 90, 51), "uint8"), 0.2 * 90 + 0.8 * 255),
        (np.array([[[0] * 3, [4095] * 3]], "uint16")[:, 1:], 255),
        ([[[90, 90, 90]]], 90),
    ],
)
def test_arrays_become_red_green_and_blue(values, expected):
    (found,) = numpy(pictures.photos("images", values))
    assert found.shape[-1] == 3
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_floats_that_are_no_photo_are_an_error_unless_their_range_is_given():
    half = np.full((2, 2, 3), 0.5)
    with pytest.raises(ValueError, match=r"0\.5 are very dark.*value_range"):
        pictures.photos("images", half)
    (found,) = numpy(pictures.photos("images", half, (0, 1)))
    np.testing.assert_allclose(found, 127.5)
    with pytest.raises(ValueError, match="very bright"):
        pictures.photos("images", 4000 * half)


def test_pillow_heif_is_used_if_it_is_there(monkeypatch):
    registered = []
    heif = types.SimpleNamespace(
        register_heif_opener=lambda: registered.append("heif")
    )
    monkeypatch.setitem(sys.modules, "pillow_heif", heif)
    pictures.pillow.cache_clear()
    pictures.decode(file_of(plain("RGB", "red"), "png"))
    assert registered == ["heif"]
    pictures.pillow.cache_clear()


def test_without_pillow_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    pictures.pillow.cache_clear()
    with pytest.raises(ImportError, match="pip install pillow"):
        pictures.decode(b"")
    pictures.pillow.cache_clear()
