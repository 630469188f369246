"""Resizing in threads, against what the backends give."""

import keras
import numpy as np
import pytest

pytest.importorskip("PIL", reason="Pillow resizes")

import gcvit
from gcvit import resizing


@pytest.mark.parametrize(
    ("shape", "image_size"),
    [
        ((40, 61), (64, 64)),  # larger
        ((301, 500), (64, 64)),  # smaller
        ((32, 64), (32, 64)),  # as it is
        ((700, 20), (32, 96)),  # both
        ((1, 1), (32, 32)),
    ],
)
def test_an_image_is_prepared_as_by_the_backend(shape, image_size):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (*shape, 3), "uint8")
    given = keras.ops.convert_to_numpy(gcvit.preprocess(image, image_size))
    own = resizing.prepare(image, image_size)
    assert own.dtype == "float32" and own.shape == (*image_size, 3)
    np.testing.assert_allclose(own, given[0], atol=1e-4)


def test_a_plain_image_stays_plain():
    image = np.full((37, 5, 3), 255, "uint8")
    values = resizing.prepare(image, (64, 32))
    assert np.ptp(values, axis=(0, 1)).max() < 1e-5
