"""Sizes: pairs, halving, and which windows and images go together.

A map fits a window if it is 2**K windows high and 2**K windows wide, with one
whole K. The chapter on levels says why.
"""

import math
import operator

import numpy as np
from keras import ops

from gcvit.arguments import each

# === Pairs and halves ===


def size_pair(size, name="window_size"):
    """Give a positive int, or a pair of them, as a (height, width) pair.

    Raises:
        ValueError: for anything else; it calls the size by `name`.
    """
    pair = size if np.iterable(size) else (size, size)
    try:
        height, width = (operator.index(side) for side in pair)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(
            f"{name}={size!r} is not a size; use a positive int, or a "
            "(height, width) pair of them."
        )
    return height, width


def int_or_pair(name, size):
    """Give a size as it was written: an int, or a (height, width) pair."""
    pair = size_pair(size, name)
    return pair if np.iterable(size) else pair[0]


def level_windows(name, sizes):
    """Give one window for each level, ints or pairs, as a tuple."""
    return each(int_or_pair, name, sizes)


def shortest(size):
    """Give a (height, width) pair as an int where it is square."""
    height, width = size
    return height if height == width else (height, width)


def halve(size):
    """Give the length of an axis after a stride of 2; `None` stays."""
    return None if size is None else (size + 1) // 2


# === Windows in one map ===


def halvings(map_size, window_size):
    """Count how often a map is halved until it is one window.

    Args:
        map_size: height and width of the map, a pair of ints.
        window_size: height and width of a window, an int or a pair.

    Returns:
        The number of halvings `K`; `None` if there is no such whole number.
    """
    height, width = map_size
    h, w = size_pair(window_size)
    fitting = (k for k in range(32) if (h << k, w << k) == (height, width))
    return next(fitting, None)


def fitting_windows(map_size):
    """List the windows that fit a map, (height, width), from the smallest.

    They are the map itself, halved as long as both sides are even.
    """
    height, width = map_size
    windows = [(height, width)]
    while height % 2 == 0 and width % 2 == 0:
        height, width = height // 2, width // 2
        windows.append((height, width))
    return windows[::-1]


def check_map(map_size, window_size):
    """Count the halvings of a map, as `halvings` does.

    Raises:
        ValueError: if the window does not fit; the message lists those that
            do.
    """
    height, width = size_pair(map_size, "map_size")
    count = halvings((height, width), window_size)
    if count is None:
        windows = fitting_windows((height, width))
        raise ValueError(
            f"window_size={window_size} does not fit a map of "
            f"{height}×{width}, which must be 2**K windows high and wide. "
            f"Windows that fit: {', '.join(map(str, windows))}."
        )
    return count


def windows_in(map_size, window_size):
    """Count how many windows a map is high and wide.

    Raises:
        ValueError: if the window's sides do not divide the map's.
    """
    height, width = size_pair(map_size, "map_size")
    h, w = size_pair(window_size)
    if height % h or width % w:
        raise ValueError(
            f"window_size={window_size} does not divide a map of "
            f"{height}×{width}."
        )
    return height // h, width // w


def missing(map_size, window_size):
    """Count the rows and columns that a map lacks to be cut into windows."""
    return tuple(-size % side for size, side in zip(map_size, window_size))


def check_tokens(tokens, window_size):
    """Raise `ValueError` unless windows have as many tokens as their size."""
    height, width = window_size
    if tokens != height * width:
        raise ValueError(
            f"window_size={window_size} has {height * width} tokens, "
            f"but the inputs have {tokens}."
        )


def windows_per_image(windows, images):
    """Divide windows among images; 0 for no image.

    Both numbers are ints, or tensors in TensorFlow's graph for any batch.
    """
    if isinstance(images, int):
        return windows // max(images, 1)
    return windows // ops.maximum(images, 1)


# === Windows in an image ===


def level_maps(image_size, levels=4):
    """List the size of each level's map, (height, width) pairs.

    Raises:
        ValueError: for an image size that cannot be one.
    """
    height, width = size_pair(image_size, "image_size")
    height, width = halve(halve(height)), halve(halve(width))
    maps = [(height, width)]
    for _ in range(levels - 1):
        height, width = halve(height), halve(width)
        maps.append((height, width))
    return maps


def windows_for(image_size, levels=4):
    """Choose windows that work for an image size.

    As in the official models, the first level's map is halved three times
    down to a window, the second's twice, the others' never; or as often as
    their sizes are even, if that is less. The windows are then larger, and the
    attention needs more memory.

    Args:
        image_size: height and width of the image, an int or a pair.
        levels: number of levels, an int.

    Returns:
        A tuple with one window for each level: an int where it is square, a
        pair where it is not.

    Raises:
        ValueError: for an image size that cannot be one.
    """
    windows = []
    for level, map_size in enumerate(level_maps(image_size, levels)):
        halved = fitting_windows(map_size)[::-1]  # not at all, once, twice, …
        count = {0: 3, 1: 2}.get(level, 0)
        windows.append(shortest(halved[min(count, len(halved) - 1)]))
    return tuple(windows)


def image_sizes_for(window_size):
    """List the image sizes that work with given windows, from the smallest.

    Only multiples of 4 are listed. A size of up to 3 pixels less has the same
    maps, since the stem rounds up, and works too.
    """
    h, w = size_pair(window_size[0])
    sizes = [(4 * h << count, 4 * w << count) for count in range(16)]
    return [
        size
        for size in sizes
        if None
        not in map(halvings, level_maps(size, len(window_size)), window_size)
    ]


def smallest_image_shape(window_size):
    """Give the smallest (height, width, 3) that works with given windows.

    Raises:
        ValueError: if no image works with them.
    """
    sizes = image_sizes_for(window_size)
    if not sizes:
        raise ValueError(
            f"no image works with window_size={window_size}: each level's map "
            "must be 2**K of its windows high and wide. "
            "gcvit.windows_for(image_size) chooses windows that work."
        )
    return (*sizes[0], 3)


def nearest_image_sizes(image_size, window_size):
    """Give at most two of `image_sizes_for`, the nearest first."""
    height, width = size_pair(image_size, "image_size")
    sizes = image_sizes_for(window_size)
    sizes.sort(key=lambda size: abs(size[0] - height) + abs(size[1] - width))
    return sizes[:2]


def check_image_size(image_size, window_size):
    """Check that an image size works with given windows.

    Args:
        image_size: height and width of the image, an int or a pair.
        window_size: one window for each level, ints or pairs.

    Returns:
        How often each level halves its map for the global query, a tuple of
        ints.

    Raises:
        ValueError: if it does not work; the message names the level that
            fails, the nearest image sizes that work with these windows, and
            windows that work with this image size.
    """
    window_size = level_windows("window_size", window_size)
    maps = level_maps(image_size, len(window_size))
    counts = tuple(map(halvings, maps, window_size))
    if None not in counts:
        return counts
    level = counts.index(None)
    sizes = nearest_image_sizes(image_size, window_size)
    nearest = ", ".join(f"{height}×{width}" for height, width in sizes)
    raise ValueError(
        f"image_size={image_size} does not work with "
        f"window_size={window_size}: level {level} has a map of "
        f"{maps[level][0]}×{maps[level][1]}, which must be 2**K windows of "
        f"{window_size[level]} high and wide, with one whole K. Nearest image "
        "sizes that work with these windows: "
        f"{nearest or 'no image fits them'}. Windows that work with this image "
        f"size: window_size={windows_for(image_size, len(window_size))}."
    )


def scale_windows(window_size, image_size, new_image_size):
    """Scale windows with the image.

    Args:
        window_size: one window for each level, ints or (height, width) pairs.
        image_size: the image size that they are for, an int or a pair.
        new_image_size: another image size, an int or a pair.

    Returns:
        A tuple with one window for each level, an int where it is square.

    Raises:
        ValueError: if the windows would not be whole; the message says of
            what height and width must be multiples.
    """
    old = size_pair(image_size, "image_size")
    new = size_pair(new_image_size, "image_size")
    windows = [size_pair(window) for window in window_size]
    units = [
        size // math.gcd(size, *sides)
        for size, sides in zip(old, zip(*windows))
    ]
    if any(size % unit for size, unit in zip(new, units)):
        raise ValueError(
            f"image_size={new_image_size} would need fractions of a window. "
            f"The height must be a multiple of {units[0]}, the width of "
            f"{units[1]}."
        )
    return tuple(
        shortest(side * n // o for side, n, o in zip(window, new, old))
        for window in windows
    )


# === The shape of a batch ===


def around_crop(image_size, crop):
    """Give the size of an image before its middle is cut out.

    Args:
        image_size: height and width of what is left, a pair.
        crop: which share of either is left, in (0, 1].

    Returns:
        Height and width before, and how many rows and columns are cut off at
        the top and at the left: two pairs.
    """
    larger = tuple(int(length / crop) for length in image_size)
    start = tuple(
        (whole - length) // 2 for whole, length in zip(larger, image_size)
    )
    return larger, start


def check_images(input_shape, window_size):
    """Check the shape of the images that a model is built for.

    Args:
        input_shape: (batch, height, width, channels).
        window_size: one window for each level, ints or pairs.

    Returns:
        Height, width and channels, a tuple of ints.

    Raises:
        ValueError: for a shape that is not fixed, has its channels first, or
            does not work with these windows.
    """
    if len(input_shape) != 4 or None in input_shape[1:]:
        raise ValueError(
            f"input_shape={input_shape} is not (batch, height, width, "
            "channels) with fixed height, width and channels."
        )
    if input_shape[1] <= 4 < input_shape[3]:
        raise ValueError(
            f"input_shape={input_shape} looks like channels first; images "
            "are (batch, height, width, channels)."
        )
    check_image_size(tuple(input_shape[1:3]), window_size)
    return tuple(input_shape[1:])


def check_same_images(input_shape, image_shape):
    """Raise `ValueError` for images of another size than was built, if any."""
    if image_shape not in (None, tuple(input_shape[1:])):
        raise ValueError(
            f"this model was built for images of {image_shape} "
            f"(height, width, channels), not {tuple(input_shape[1:])}; "
            "build another one for them."
        )
