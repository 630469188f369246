"""Resizing in threads, while a model computes.

It gives what `gcvit.preprocess` gives, but no backend takes part: JAX would
compile a program for each size that a picture can have. Nor does NumPy: the
threads of its products would stand in each other's way.
"""

import numpy as np
from keras.applications.imagenet_utils import preprocess_input

from gcvit import pictures


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
    pillow = pictures.pillow()
    height, width = image_size
    bicubic = pillow.Resampling.BICUBIC
    channels = []
    for channel in np.moveaxis(cut_middle(image, image_size), -1, 0):
        floats = pillow.fromarray(channel).convert("F")  # 8 bits would round
        channels.append(floats.resize((width, height), bicubic))
    image = np.clip(np.stack(channels, axis=-1), 0, 255)  # bicubic overshoots
    return preprocess_input(image, data_format="channels_last", mode="torch")
