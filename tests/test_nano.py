"""The checkpoint that comes with the package recognises what it should."""

import os
from pathlib import Path

import numpy as np
import pytest
from keras import ops
from skimage.data import chelsea

import gcvit
from gcvit.pretrained import (
    class_names,
    decode_predictions,
    from_pretrained,
    load_checkpoint,
    preprocess,
)
from tools import train_nano

PATH = Path(gcvit.__file__).parent / "data" / "nano.weights.h5"


@pytest.fixture(scope="module")
def nano():
    """The model with its weights; neither a cache nor a mirror is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCVIT_WEIGHTS", "http://127.0.0.1:9")
        patch.setenv("KERAS_HOME", "/nowhere")
        return from_pretrained("nano")


def test_it_is_small_and_whole(nano):
    assert PATH.stat().st_size < 6_000_000
    model = gcvit.GCViT.from_variant("nano")
    assert load_checkpoint(model, PATH) == len(model.weights)
    assert model.image_shape == (64, 64, 3)
    for weight, same in zip(model.weights, nano.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), same.numpy())


def test_chelsea_is_a_cat(nano):
    probabilities = nano(preprocess(chelsea(), 64))
    ((best, *_),) = decode_predictions(probabilities, class_names("nano"))
    assert best[0] == "cat"


@pytest.mark.skipif(
    "CIFAR10_DIR" not in os.environ,
    reason="set CIFAR10_DIR to a folder with cifar10_jpeg.npz",
)
def test_accuracy_on_the_first_thousand_test_images(nano):
    images, labels = train_nano.load_cifar10("test")
    images, labels = images[:1000], labels[:1000]
    predictions = np.concatenate(
        [
            ops.convert_to_numpy(nano(preprocess(batch, 64)))
            for batch in np.split(images, 10)
        ]
    )
    assert (predictions.argmax(axis=-1) == labels).mean() >= 0.84
