"""The gradients, which no fixture has, against the same model in float64."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
from helpers import SHAPE, gradients_of, numpy, random_arrays, small_model
from keras import ops

import gcvit

SMALL = {
    "window_size": (2, 4),
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "num_classes": 3,
    "layer_scale": 0.5,
    "head_activation": None,
}


def gradients(model, images, factors):
    """Those of the weighted sum of a model's logits, an array a weight."""
    backend = keras.backend.backend()
    values = [weight.value for weight in model.weights]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = ops.sum(model(images) * factors)
        found = tape.gradient(loss, values)
        return [numpy(x) for x in found]
    if backend == "torch":
        ops.sum(model(images) * ops.convert_to_tensor(factors)).backward()
        return [value.grad.numpy() for value in values]
    import jax

    def loss(values):
        others = [x.value for x in model.non_trainable_variables]
        logits, _ = model.stateless_call(values, others, images)
        return ops.sum(logits * factors)

    return [np.asarray(x) for x in jax.jit(jax.grad(loss))(values)]


def double_precision():
    """JAX has float64 only where it is asked for."""
    if keras.backend.backend() != "jax":
        return nullcontext()
    import jax

    return jax.enable_x64(True)


def test_gradients_are_those_of_float64():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(2, 32, 32, 3))
    factors = generator.normal(size=(2, 3))
    with double_precision():
        double = gcvit.GCViT(**SMALL, dtype="float64")
        double.build(SHAPE)
        values = [
            generator.normal(size=weight.shape, scale=0.3)
            for weight in double.weights
        ]
        values = [value.astype("float32") for value in values]
        double.set_weights(values)
        expected = gradients(double, images, factors)
    single = gcvit.GCViT(**SMALL)
    single.build(SHAPE)
    single.set_weights(values)
    images, factors = images.astype("float32"), factors.astype("float32")
    found = gradients(single, images, factors)
    spread = np.std(np.concatenate([array.ravel() for array in expected]))
    for weight, one, other in zip(single.weights, found, expected):
        assert (one.dtype, other.dtype) == ("float32", "float64")
        # Rounding makes 3e-6; a GELU by tanh 1e-3.
        assert np.abs(one - other).max() < 1e-5 * spread, weight.path


def image_gradient(model, images, name, factors):
    """That of the weighted sum of one feature map, in the images."""

    def loss(images):
        weighted = ops.multiply(model.feature_maps(images)[name], factors)
        return ops.sum(weighted)

    (found,) = gradients_of(loss, [images])
    return found


@pytest.mark.parametrize("name", ["stem", "level_0", "level_1"])
def test_gradient_through_each_map(name, run):
    """Against the map's own change, in float64, along one direction."""
    with double_precision():
        model = small_model(dtype="float64")
        images, direction = random_arrays((1, 32, 32, 3), (1, 32, 32, 3))
        images, direction = (
            images.astype("float64"),
            direction.astype("float64"),
        )
        shape = {"stem": (1, 8, 8, 8), "level_0": (1, 8, 8, 8)}
        (factors,) = random_arrays(shape.get(name, (1, 4, 4, 16)))
        found = image_gradient(model, images, name, factors.astype("float64"))
        # Keras 3.15 takes means and norms in float32 on JAX and PyTorch.
        is_exact = keras.backend.backend() == "tensorflow"
        step = (1e-5 if is_exact else 3e-3) * direction
        ends = [
            numpy(run(model.feature_maps, x)[name])
            for x in (images + step, images - step)
        ]
    change = ((ends[0] - ends[1]) * factors).sum() / 2
    assert found.dtype == "float64"
    assert (found != 0).mean() > 0.9
    rtol = 1e-5 if is_exact else 0.01
    np.testing.assert_allclose((found * step).sum(), change, rtol=rtol)
