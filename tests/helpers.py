"""What several test files need: a small model, its weights, stored arrays."""

import io
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import ops

import gcvit

DATA = Path(__file__).parent / "data"
PACKAGE_DATA = Path(gcvit.__file__).parent / "data"

# Two levels are enough for everything but the official numbers.
SMALL = {
    "window_size": (4, 4),
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "num_classes": 5,
}
SHAPE = (None, 32, 32, 3)  # of its images


def small_model(shape=SHAPE, **changes):
    """A small model, built, none of its weights at a special value."""
    model = gcvit.GCViT(**{**SMALL, **changes})
    model.build(shape)
    randomize(model)
    return model


def randomize(layer):
    """Give every weight a value, so that none hides behind its initial one."""
    generator = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(generator.normal(0, 0.3, weight.shape))


def random_arrays(*shapes):
    """Fixed random inputs, float32, one for each shape."""
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype("float32") for shape in shapes]


def random_images(batch=2, height=32, width=32):
    """Fixed random images."""
    (images,) = random_arrays((batch, height, width, 3))
    return images


def gradients_of(function, inputs):
    """The gradients of a function's one number in each of its inputs.

    Args:
        function: of tensors, gives a tensor with one number.
        inputs: arrays.

    Returns:
        One array for each input.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        inputs = [tf.constant(array) for array in inputs]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return [numpy(found) for found in tape.gradient(value, inputs)]
    if backend == "torch":
        inputs = [ops.convert_to_tensor(x).requires_grad_() for x in inputs]
        function(*inputs).backward()
        return [tensor.grad.numpy() for tensor in inputs]
    import jax

    numbers = tuple(range(len(inputs)))
    found = jax.jit(jax.grad(function, numbers))(*inputs)
    return [np.asarray(array) for array in found]


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def stored_arrays(path):
    """Every array of a `.keras` or an HDF5 file by its path in there."""
    file = path
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            file = io.BytesIO(archive.read("model.weights.h5"))
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(file) as stored:
        stored.visititems(keep)
    return arrays


def same_arrays(some, others):
    """Whether two lists hold the same arrays, to the bit."""
    return len(some) == len(others) and all(map(np.array_equal, some, others))


def same_weights(one, other):
    """Whether two layers have the same weights, to the bit."""
    return same_arrays(one.get_weights(), other.get_weights())
