"""Image sizes and windows: which fit, what is computed, what is refused."""

import re

import keras
import numpy as np
import pytest
from helpers import SMALL, numpy, random_images, small_model

import gcvit
from gcvit import check, sizes

# === Which sizes fit ===


@pytest.mark.parametrize(
    ("image_size", "windows", "halvings"),
    [
        (224, (7, 7, 14, 7), (3, 2, 0, 0)),
        ((224, 224), ((7, 7), 7, (14, 14), 7), (3, 2, 0, 0)),
        (448, (7, 7, 14, 7), (4, 3, 1, 1)),
        (384, (12, 12, 24, 12), (3, 2, 0, 0)),
        (512, (16, 16, 32, 16), (3, 2, 0, 0)),
        ((256, 320), ((8, 10), (8, 10), (16, 20), (8, 10)), (3, 2, 0, 0)),
        # Levels may differ, and need not be four.
        (224, (56, 14, 7, 7), (0, 1, 1, 0)),
        (32, (4, 4), (1, 0)),
        ((32, 64), ((2, 4), (4, 8)), (2, 0)),
    ],
)
def test_sizes_that_fit(image_size, windows, halvings):
    assert tuple(gcvit.check_image_size(image_size, windows)) == halvings


@pytest.mark.parametrize(
    ("image_size", "windows", "level", "map_size", "window"),
    [
        (225, (7, 7, 14, 7), 0, "57×57", "7"),
        (256, (7, 7, 14, 7), 0, "64×64", "7"),
        # Three windows fit in a row, but three is not a power of two.
        (336, (7, 7, 14, 7), 0, "84×84", "7"),
        # Both sides are powers of two of windows, but not the same one.
        ((224, 448), (7, 7, 14, 7), 0, "56×112", "7"),
        (224, (7, 7, 14, 14), 3, "7×7", "14"),
        (224, (7, 5, 14, 7), 1, "28×28", "5"),
        (224, (7, 7, (14, 7), 7), 2, "14×14", "14, 7"),
        (112, (7, 7, 14, 7), 2, "7×7", "14"),
    ],
)
def test_sizes_that_do_not_fit(image_size, windows, level, map_size, window):
    with pytest.raises(ValueError) as error:
        gcvit.check_image_size(image_size, windows)
    message = str(error.value)
    assert f"level {level}" in message.lower()
    assert map_size in message
    assert window in message


@pytest.mark.parametrize("image_size", [225, 256, 300, 336])
def test_message_names_what_fits(image_size):
    windows = (7, 7, 14, 7)
    with pytest.raises(ValueError) as error:
        gcvit.check_image_size(image_size, windows)
    message = str(error.value)
    assert "224×224" in message
    assert "448×448" in message
    assert str(gcvit.windows_for(image_size)) in message


@pytest.mark.parametrize(
    ("image_size", "windows"),
    [
        (224, (7, 7, 14, 7)),
        ((224, 224), (7, 7, 14, 7)),
        (384, (12, 12, 24, 12)),
        (512, (16, 16, 32, 16)),
        ((256, 320), ((8, 10), (8, 10), (16, 20), (8, 10))),
    ],
)
def test_windows_for(image_size, windows):
    assert gcvit.windows_for(image_size) == windows


@pytest.mark.parametrize(
    "image_size", [32, 64, 96, 160, 288, (32, 96), (160, 64), (224, 448)]
)
def test_windows_for_fit(image_size):
    windows = gcvit.windows_for(image_size)
    assert tuple(gcvit.check_image_size(image_size, windows)) == (3, 2, 0, 0)


@pytest.mark.parametrize("image_size", [31, 100, 225, (224, 230), (57, 333)])
def test_windows_for_odd_sizes_fit(image_size):
    windows = gcvit.windows_for(image_size)
    assert len(gcvit.check_image_size(image_size, windows)) == 4


@pytest.mark.parametrize(
    "image_size", [0, -224, (224,), (224, 0), (1, 2, 3), "224", 224.5, None]
)
def test_no_image_size(image_size):
    with pytest.raises(ValueError, match="image_size"):
        gcvit.check_image_size(image_size, (7, 7, 14, 7))
    with pytest.raises(ValueError, match="image_size"):
        gcvit.windows_for(image_size)


@pytest.mark.parametrize("window", [0, -7, (7,), (7, 0), (7, 7, 7), "7", None])
def test_no_window(window):
    with pytest.raises(ValueError, match="window_size"):
        gcvit.check_image_size(224, (7, 7, 14, window))
    with pytest.raises(ValueError, match="window_size"):
        gcvit.WindowAttention(window, 2, False)


# === Windows that are chosen, and the images for them ===

# What a user's photographs may be, and every square.
PHOTOS = [(240, 320), (320, 240), (480, 640), (1080, 1920)]
PHOTOS += [(side, side) for side in range(32, 513)]


def test_windows_that_are_chosen_have_images_that_work():
    for photo in PHOTOS:
        windows = gcvit.windows_for(photo)
        *smallest, channels = sizes.smallest_image_shape(windows)
        assert channels == 3
        assert len(sizes.check_image_size(smallest, windows)) == 4, photo
        # Rounded up to whole tokens, the photograph is one of them.
        rounded = tuple(-side // 4 * -4 for side in photo)
        assert rounded in sizes.image_sizes_for(windows), photo


NO_IMAGE = (7, 5)


def test_windows_that_no_image_works_with():
    model = gcvit.GCViT(**{**SMALL, "window_size": NO_IMAGE})
    for ask in (
        lambda: sizes.smallest_image_shape(NO_IMAGE),
        model.summary,
        model.build_graph,
        lambda: model.load_weights("any.weights.h5"),
    ):
        with pytest.raises(ValueError, match=r"no image works.*\(7, 5\)"):
            ask()
    with pytest.raises(ValueError, match="no image fits them"):
        sizes.check_image_size(64, NO_IMAGE)
    assert not model.built


def sizes_in(text):
    """Every (height, width) that a message names before 3 channels."""
    found = re.findall(r"(\d+), (\d+), 3\)", text)
    return [tuple(map(int, size)) for size in found]


# 60 is small, and like 300: 32 times its last window is not a size that works.
@pytest.mark.parametrize("size", [60, (60, 80)])
def test_what_is_said_before_the_build_names_sizes_that_work(
    size, capsys, tmp_path
):
    """Printed or raised, by a summary and by both ways to load."""
    windows = gcvit.windows_for(size)
    settings = {"depths": (1,) * 4, "num_heads": (1,) * 4}
    model = gcvit.GCViT(**{**SMALL, **settings, "window_size": windows})
    model.summary()
    said = capsys.readouterr().out
    path = tmp_path / "other.weights.h5"
    small_model().save_weights(path)
    with pytest.raises(ValueError) as error:
        model.load_weights(path)
    said += str(error.value)
    assert not model.built
    assert len(sizes_in(said)) >= 2
    with pytest.raises(ValueError) as error:
        gcvit.load_checkpoint(model, path)
    said += str(error.value)
    for found in sizes_in(said):
        assert sizes.check_image_size(found, windows)


# === What the model makes of them ===


def test_model_refuses_a_size_that_does_not_fit():
    model = gcvit.GCViT(**SMALL)
    with pytest.raises(ValueError) as error:
        model.build((None, 32, 48, 3))
    message = str(error.value)
    assert "level 0" in message.lower()
    assert "8×12" in message
    assert "32×32" in message
    assert str(gcvit.windows_for((32, 48))[0]) in message


def test_model_refuses_another_size_than_it_was_built_for():
    model = gcvit.GCViT(**SMALL)
    model.build((None, 32, 32, 3))
    # 64 px would fit these windows, with one halving more.
    for size in (64, 36):
        with pytest.raises(ValueError, match=f"32.*{size}|{size}.*32"):
            model(np.zeros((1, size, size, 3), "float32"))
        with pytest.raises(ValueError, match=f"32.*{size}|{size}.*32"):
            model(keras.KerasTensor((None, size, size, 3)))


def test_model_needs_to_know_its_size():
    model = gcvit.GCViT(**SMALL)
    with pytest.raises(ValueError):
        model.build((None, None, None, 3))


# === Images that are not square ===


def flip(weight):
    """The same weight for an image whose height and width are exchanged."""
    value = numpy(weight)
    if value.ndim == 4:  # a convolution's kernel, (height, width, …)
        return value.swapaxes(0, 1)
    return value


def flip_tables(model, twin):
    """Bias tables hold (2h - 1) × (2w - 1) offsets, row by row."""
    for level, other in zip(model.levels, twin.levels):
        for block, its_twin in zip(level.blocks, other.blocks):
            h, w = block.window_size
            table = block.attn.relative_position_bias_table
            value = numpy(table)
            value = value.reshape(2 * h - 1, 2 * w - 1, -1).swapaxes(0, 1)
            its_twin.attn.relative_position_bias_table.assign(
                value.reshape(table.shape)
            )


@pytest.fixture(scope="module")
def wide(run):
    """A model of images that are not square, two of them, and its logits."""
    windows = {"window_size": ((2, 3), (4, 6)), "head_activation": None}
    model = small_model((None, 32, 48, 3), **windows)
    x = random_images(width=48)
    return model, x, numpy(run(model, x))


def test_image_on_its_side_has_the_same_logits(wide, run):
    """Height and width are never mixed up: exchange them everywhere."""
    model, x, logits = wide
    windows = {"window_size": ((3, 2), (6, 4)), "head_activation": None}
    twin = small_model((None, 48, 32, 3), **windows)
    twin.set_weights([flip(weight) for weight in model.weights])
    x = x.swapaxes(1, 2)
    # With the tables as they were, the answer is another.
    assert check.difference(run(twin, x), logits) > 1e-3
    flip_tables(model, twin)
    assert check.difference(run(twin, x), logits) < check.TOLERANCE


def test_saved_model_that_is_not_square(wide, tmp_path, run):
    model, x, logits = wide
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    answer = numpy(run(loaded, x))
    np.testing.assert_array_equal(answer, logits)
