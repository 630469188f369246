"""Resizing with NumPy, in threads, while a model computes.

It gives what `gcvit.preprocess` gives, but no backend takes part: JAX would
compile a program for each size that a picture can have.
"""

import functools

import numpy as np
from keras.applications.imagenet_utils import preprocess_input

ROWS = 16  # of the result, made together


def cubic(x):
    """Give Keys' cubic kernel, a = -0.5, of distances of at least 0.

    Source: R. Keys, Cubic convolution interpolation for digital image
    processing, 1981.
    """
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


@functools.lru_cache(128)
def bands(length, size):
    """Say which pixels make which, along one side.

    A pixel of a smaller image is an average over all that it replaces.

    Args:
        length: pixels of the side, an int.
        size: pixels that it shall have, an int.

    Returns:
        A list of pairs: a slice of the pixels, and their weights, a float32
        array `(new pixels, pixels)`; one pair for each `ROWS` new ones.
    """
    scale = length / size
    width = max(scale, 1)
    centres = (np.arange(size) + 0.5) * scale - 0.5
    found = []
    for first in range(0, size, ROWS):
        own = centres[first : first + ROWS]
        low = max(int(own[0] - 2 * width), 0)
        high = min(int(own[-1] + 2 * width) + 2, length)
        weights = cubic(abs(own[:, None] - np.arange(low, high)) / width)
        weights /= weights.sum(axis=1, keepdims=True)
        found.append((slice(low, high), weights.astype("float32")))
    return found


def resize_rows(image, size):
    """Resize the first side of an array `(H, W, 3)`; it becomes float32."""
    rows = image.reshape(len(image), -1)
    parts = [
        weights @ rows[pixels].astype("float32")
        for pixels, weights in bands(len(image), size)
    ]
    return np.concatenate(parts).reshape(size, *image.shape[1:])


def cut_middle(image, image_size):
    """Cut out the middle, in the proportions of another size."""
    (height, width), (rows, columns) = image.shape[:2], image_size
    new_height = max(min(height, width * rows // columns), 1)
    new_width = max(min(width, height * columns // rows), 1)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    return image[top : top + new_height, left : left + new_width]


def prepare(image, image_size):
    """Do with one picture what `gcvit.preprocess` does.

    Args:
        image: a uint8 array `(H, W, 3)`, from 0 to 255.
        image_size: a (height, width) pair.

    Returns:
        A float32 array `(height, width, 3)`, normalised; at most 1e-4 from
        what `gcvit.preprocess` gives, a 170th of a grey level. The backends
        differ as much: they round positions to float32, each in its own way.
    """
    height, width = image_size
    image = resize_rows(cut_middle(image, image_size), height)
    image = resize_rows(image.swapaxes(0, 1), width).swapaxes(0, 1)
    image = np.clip(image, 0, 255)  # bicubic overshoots
    return preprocess_input(image, data_format="channels_last", mode="torch")
