"""The gradients, which no fixture has, against the same model in float64."""

from contextlib import nullcontext

import keras
import numpy as np
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
        return [ops.convert_to_numpy(x) for x in found]
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
        double.build((None, 32, 32, 3))
        values = [
            generator.normal(size=weight.shape, scale=0.3)
            for weight in double.weights
        ]
        values = [value.astype("float32") for value in values]
        double.set_weights(values)
        expected = gradients(double, images, factors)
    single = gcvit.GCViT(**SMALL)
    single.build((None, 32, 32, 3))
    single.set_weights(values)
    images, factors = images.astype("float32"), factors.astype("float32")
    found = gradients(single, images, factors)
    spread = np.std(np.concatenate([array.ravel() for array in expected]))
    for weight, one, other in zip(single.weights, found, expected):
        assert (one.dtype, other.dtype) == ("float32", "float64")
        # Rounding makes 3e-6; a GELU by tanh 1e-3.
        assert np.abs(one - other).max() < 1e-5 * spread, weight.path
