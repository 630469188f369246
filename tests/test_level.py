"""The level: what `refine` is, the rates of its blocks, what it refuses."""

import keras
import numpy as np
import pytest
from cases import CASES, MAP, make
from helpers import numpy, random_arrays

import gcvit
from gcvit import check


def test_refine_is_the_level_without_its_downsampling(run):
    level, (x,) = make("level")
    last, _ = make("level", downsample=False)
    weights = len(last.weights)
    assert level.down and not hasattr(last, "down")
    last.set_weights(level.get_weights()[:weights])
    refined = numpy(run(level.refine, x))
    assert check.difference(run(last, x), refined) < check.TOLERANCE
    assert check.difference(run(level.down, refined), numpy(run(level, x))) < (
        check.TOLERANCE
    )


def test_refine_builds_a_level():
    cls, arguments, _ = CASES["level"]
    level = cls(**arguments)
    (x,) = random_arrays(MAP)
    refined = numpy(level.refine(x))
    assert level.built
    assert refined.shape == MAP
    built = [id(weight) for weight in level.weights]
    np.testing.assert_array_equal(numpy(level.refine(x)), refined)
    assert [id(weight) for weight in level.weights] == built


def test_refine_drops_out_in_training(run):
    keras.utils.set_random_seed(0)
    level, (x,) = make("level", dropout=0.5)
    plain, again, dropped = (
        numpy(run(level.refine, x, training=mode))
        for mode in (False, None, True)
    )
    np.testing.assert_array_equal(again, plain)
    assert np.abs(dropped - plain).max() > 0.01


def test_one_rate_for_each_block():
    level, _ = make("level", path_drop=np.array([0.1, 0.3]))
    assert [block.path_drop for block in level.blocks] == [0.1, 0.3]
    with pytest.raises(ValueError, match="path_drop=.*3 rates for 2 blocks"):
        make("level", path_drop=(0.1, 0.2, 0.3))


def test_what_a_map_lacks_is_zeros_below_and_to_the_right(run):
    level, _ = make("level", depth=1)  # one local block, windows of 4×4
    (x,) = random_arrays((2, 5, 10, 8))
    padded = np.pad(x, ((0, 0), (0, 3), (0, 2), (0, 0)))
    expected = numpy(run(level.blocks[0], padded))[:, :5, :10]
    np.testing.assert_allclose(
        numpy(run(level.refine_any_size, x)), expected, atol=1e-6
    )


def test_a_map_that_does_not_fit_is_refused():
    level = gcvit.Level(2, 2, (2, 4))
    with pytest.raises(ValueError, match=r"window_size=\(2, 4\).*6×12"):
        level.build((None, 6, 12, 8))
    with pytest.raises(ValueError, match="map_size"):
        gcvit.Level(2, 1, 2).build((None, None, None, 8))


@pytest.mark.parametrize(
    "layer",
    [gcvit.SqueezeAndExcitation, gcvit.ReduceSize, gcvit.FeatureExtraction],
)
def test_too_few_channels_for_the_squeeze(layer):
    with pytest.raises(ValueError, match="3 channels"):
        layer().build((None, 8, 8, 3))
