"""The block and its parts: windows, stochastic depth, and what it refuses."""

import keras
import numpy as np
import pytest
from cases import MAP, make
from helpers import numpy, random_arrays
from keras import ops

import gcvit


def test_windows_are_cut_and_put_back():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    windows = numpy(gcvit.window_partition(ops.array(x), (2, 3)))
    assert windows.shape == (8, 2, 3, 3)
    # Row by row within an image, then the next image.
    np.testing.assert_array_equal(windows[1], x[0, :2, 3:])
    np.testing.assert_array_equal(windows[2], x[0, 2:, :3])
    np.testing.assert_array_equal(windows[4], x[1, :2, :3])
    back = gcvit.window_reverse(ops.array(windows), (2, 3), 4, 6)
    np.testing.assert_array_equal(numpy(back), x)


def test_square_windows_take_an_int():
    x = ops.reshape(ops.arange(32), (1, 4, 8, 1))
    windows = gcvit.window_partition(x, 4)
    assert tuple(windows.shape) == (2, 4, 4, 1)
    back = gcvit.window_reverse(windows, 4, 4, 8)
    np.testing.assert_array_equal(numpy(back), numpy(x))


def test_drop_path_drops_whole_samples():
    x = np.ones((64, 2, 3, 4), "float32")
    dropped = numpy(gcvit.DropPath(0.25, seed=3)(x, training=True))
    kept = dropped[:, 0, 0, 0] != 0
    np.testing.assert_allclose(
        dropped, np.where(kept, 1 / 0.75, 0)[:, None, None, None] * x
    )
    assert 0 < kept.sum() < 64


def test_drop_path_is_the_identity_at_inference():
    (x,) = random_arrays(MAP)
    layer = gcvit.DropPath(0.9)
    np.testing.assert_array_equal(numpy(layer(x)), x)
    np.testing.assert_array_equal(numpy(layer(x, training=False)), x)


@pytest.mark.parametrize("name", ["block_local", "block_global"])
def test_without_both_branches_a_block_is_the_identity(name, run):
    keras.utils.set_random_seed(0)
    layer, inputs = make(name, path_drop=0.9999)
    dropped = numpy(run(layer, *inputs, training=True))
    np.testing.assert_array_equal(dropped, inputs[0])


def test_a_map_that_does_not_fit_is_refused():
    block = gcvit.Block((2, 4), 2, False)
    with pytest.raises(ValueError, match=r"window_size=\(2, 4\).*6×10"):
        block.build((None, 6, 10, 8))
    with pytest.raises(ValueError, match="does not divide a map of 8×8"):
        gcvit.window_partition(ops.ones((1, 8, 8, 2)), 3)


@pytest.mark.parametrize("cls", [gcvit.WindowAttention, gcvit.Block])
def test_heads_must_divide_channels(cls):
    layer = cls((2, 4), 3, False)
    shape = (None, 8, 8) if cls is gcvit.WindowAttention else (None, 4, 8, 8)
    with pytest.raises(ValueError, match="num_heads=3.*8"):
        layer.build(shape)
