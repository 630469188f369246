"""A class for each pixel: any size, saved with its backbone, refusals."""

import keras
import numpy as np
import pytest
from helpers import SMALL, numpy, random_images, randomize, small_model

import gcvit
from gcvit.dense import Segmenter


def small_segmenter():
    model = Segmenter(small_model(depths=(1, 1)), num_classes=3, dim=8)
    model.build((None, 32, 32, 3))
    randomize(model)
    return model


@pytest.mark.parametrize("size", [(32, 32), (41, 54)])
def test_each_pixel_gets_logits(size, run):
    logits = run(small_segmenter(), random_images(2, *size))
    assert tuple(logits.shape) == (2, *size, 3)
    assert np.ptp(numpy(logits), axis=(1, 2)).min() > 0.1


def test_each_level_counts(run):
    model, x = small_segmenter(), random_images()
    before = numpy(run(model, x))
    for lateral in model.laterals:
        kernel = numpy(lateral.kernel)
        lateral.kernel.assign(0 * kernel)
        assert np.abs(numpy(run(model, x)) - before).max() > 1e-3
        lateral.kernel.assign(kernel)


def test_it_is_saved_with_its_backbone(tmp_path, run):
    model, x = small_segmenter(), random_images(2, 41, 54)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.backbone.image_shape == (32, 32, 3)
    assert loaded.backbone.get_config() == model.backbone.get_config()
    assert (loaded.num_classes, loaded.dim) == (3, 8)
    np.testing.assert_array_equal(numpy(run(loaded, x)), numpy(run(model, x)))


def test_what_is_not_used_is_not_trained():
    model = small_segmenter()
    frozen = [*model.backbone.norm.weights, *model.backbone.head.weights]
    assert not any(weight.trainable for weight in frozen)
    assert len(model.trainable_weights) == len(model.weights) - len(frozen)


@pytest.mark.parametrize("backbone", [None, "nano", gcvit.GCViT(**SMALL)])
def test_a_backbone_is_a_built_model(backbone):
    with pytest.raises(ValueError, match="is not a built GCViT"):
        Segmenter(backbone, 3)


@pytest.mark.parametrize("name", ["num_classes", "dim"])
def test_numbers_that_cannot_be_are_named(name):
    with pytest.raises(ValueError, match=f"{name}=0"):
        Segmenter(small_model(), **({"num_classes": 3} | {name: 0}))
