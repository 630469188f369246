"""Pictures: from what people have to red, green and blue, from 0 to 255.

They have files, paths, arrays and images of Pillow: in grey, in CMYK, with
transparency, turned by the camera, or with more than 8 bits for each colour.
Training and answering read them here, so that both see the same.
"""

import contextlib
import functools
import io
import os
import sys

import keras
import numpy as np

from gcvit.arguments import file_path, has_nan

# The largest values of the kinds of pictures that there are: floats; 8, 10,
# 12, 14 and 16 bits.
WHITES = (1, 255, 1023, 4095, 16383, 65535)
HEIC = (".heic", ".heif", ".hif")  # what phones save, by their names
CHANNELS = (1, 3, 4)  # grey; red, green and blue; those and opacity
TILE_PIXELS = 2**24  # of a small TIFF; honest tiles have 2**20 at most


@functools.cache
def pillow():
    """Import Pillow, which reads HEIC too if pillow-heif is installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Reading pictures takes a package: pip install pillow."
        ) from error
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return Image


# === What the values mean ===


def value_range_of(low, high):
    """Say which values are black and white where the type does not.

    Args:
        low: the lowest value in the pictures of a data set.
        high: the highest one.

    Returns:
        A pair of numbers. White is what a picture of 8, 10, 12, 14 or 16 bits
        or of floats can have, if black is 0; otherwise both are as they are.
    """
    if low < 0:
        return low, high
    return 0, next((white for white in WHITES if high <= white), high)


def scaled(values, value_range):
    """Scale values so that they go from 0 to 255; a float32 array."""
    low, high = value_range
    values = np.asarray(values, "float32")
    return np.clip((values - low) * (255 / ((high - low) or 1)), 0, 255)


# === A file ===


def on_white(image):
    """Give an image of Pillow in red, green and blue, on white paper."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = pillow().new("RGBA", image.size, "white")
        image = pillow().alpha_composite(white, image)
    return image.convert("RGB")


def opened(picture):
    """Open a path, the bytes of a file, or an image of Pillow."""
    if isinstance(picture, pillow().Image):
        return contextlib.nullcontext(picture)
    is_file = isinstance(picture, bytes)
    file = io.BytesIO(picture) if is_file else file_path("picture", picture)
    return pillow().open(file)


@contextlib.contextmanager
def bombs_named(picture):
    """Turn Pillow's limit into a `ValueError` that names the picture."""
    is_path = isinstance(picture, (str, os.PathLike))
    name = picture if is_path else "the picture"
    try:
        yield
    except pillow().DecompressionBombError as error:
        limit = 2 * pillow().MAX_IMAGE_PIXELS / 1e6
        raise ValueError(
            f"{name} was refused: it would have more than {limit:.0f} million "
            "pixels. Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you "
            "trust it."
        ) from error
    except ValueError as error:
        if "decompressed data too large" not in str(error).lower():
            raise
        raise ValueError(
            f"{name} was refused: a text or a profile in it unpacks to more "
            "than Pillow allows. Save it without."
        ) from error


def check_tiles(image):
    """Check that tiles of a TIFF are not far larger than the picture is.

    Pillow limits the picture's pixels, but each tile is unpacked whole.
    """
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(322, 0) * tags.get(323, 0)  # width and length of each
    most = max(TILE_PIXELS, 2 * image.width * image.height)
    if pillow().MAX_IMAGE_PIXELS and tile > most:
        raise pillow().DecompressionBombError(f"tiles of {tile} pixels")


def shrink(image, shorter_side):
    """Shrink an image of Pillow; a smaller one stays as it is."""
    if not shorter_side or shorter_side >= min(image.size):
        return image
    scale = shorter_side / min(image.size)
    size = [round(scale * side) for side in image.size]
    return image.resize(size, pillow().Resampling.BICUBIC)


def read(picture, shorter_side=None):
    """Read a picture, its values as they are.

    Args:
        picture: as for `decode`.
        shorter_side: as for `decode`. A JPEG is decoded at a reduced size
            then, with at least twice as many pixels on each side: ten times as
            fast for 12 megapixels and a side of 125, on average within 1 of
            255.

    Returns:
        A uint8 array `(H, W, 3)` and `None`; of a grey picture with more than
        8 bits a float32 array `(H, W)`, its lowest and its highest value.

    Raises:
        As `decode`.
    """
    with bombs_named(picture), opened(picture) as image:
        from PIL import ImageOps

        check_tiles(image)
        if shorter_side and image is not picture:  # that one is the caller's
            image.draft(None, (2 * shorter_side, 2 * shorter_side))
        image = ImageOps.exif_transpose(image)
        if image.mode[0] not in "IF":  # 8 bits
            return np.asarray(shrink(on_white(image), shorter_side)), None
        values = np.asarray(image, "float32")
        if not np.isfinite(values).all():
            raise ValueError("some of its values are NaN or infinite")
        extremes = float(values.min()), float(values.max())
        values = np.asarray(shrink(pillow().fromarray(values), shorter_side))
        return values, extremes


def in_colour(values, value_range):
    """Make a uint8 array `(H, W, 3)`, from 0 to 255, of a deep grey one."""
    grey = np.rint(scaled(values, value_range)).astype("uint8")
    return np.repeat(grey[..., None], 3, axis=-1)


def decode(picture, shorter_side=None, value_range=None):
    """Decode a picture, in any format that Pillow knows.

    It is turned as the camera says. What is transparent becomes white.

    Args:
        picture: a path, the bytes of a file, or an image of Pillow.
        shorter_side: pixels to shrink the shorter side to, an int; a smaller
            picture stays as it is. `None` never shrinks.
        value_range: black and white of a grey picture with more than 8 bits,
            a pair; `None` takes what the picture's highest value suggests, see
            `value_range_of`.

    Returns:
        A uint8 array `(H, W, 3)`, from 0 to 255.

    Raises:
        OSError: if this is not a whole picture; Pillow has other errors too.
        ValueError: if values are NaN or infinite, or if it has more than twice
            `PIL.Image.MAX_IMAGE_PIXELS`.
        ImportError: if Pillow is not installed.
    """
    values, extremes = read(picture, shorter_side)
    if extremes is None:
        return values
    return in_colour(values, value_range or value_range_of(*extremes))


# === Whatever people bring ===


def check_values(name, values, value_range):
    """Check that an array's or a tensor's values can be those of photos.

    Raises:
        ValueError: for values that are NaN, or a NumPy array of floats that
            end at 1, or far above 255, without a `value_range`.
    """
    if has_nan(values):
        raise ValueError(
            f"{name} have values that are NaN; values go from 0 to 255."
        )
    is_float = isinstance(values, np.ndarray) and values.dtype.kind == "f"
    if not is_float or not values.size or value_range:
        return
    highest = values.max()
    if 0 < highest <= 1 or highest > 2 * 255:  # resizing may overshoot a bit
        kind = "dark" if highest <= 1 else "bright"
        raise ValueError(
            f"{name} with values up to {highest} are very {kind}; values go "
            "from 0 to 255. Scale them, or give value_range=(0, 1), say."
        )


def photos_of_array(name, values, value_range):
    """Give an array or a tensor of one photo or several as `(B, H, W, 3)`."""
    values = values if hasattr(values, "shape") else np.asarray(values)
    shape = tuple(values.shape)
    if len(shape) == 2:
        values, shape = values[..., None], (*shape, 1)
    if (
        len(shape) not in (3, 4)
        or shape[-1] not in CHANNELS
        or 0 in shape[-3:]
    ):
        raise ValueError(
            f"{name} of shape {shape} are not photos; (height, width, 3) or "
            "(batch, height, width, 3) would work, with 1 channel for grey, "
            "and with 4 for transparency."
        )
    check_values(name, values, value_range)
    if isinstance(values, np.ndarray):
        is_deep = values.dtype.kind in "iu" and values.dtype.itemsize > 1
        if is_deep and values.size and not value_range:
            # Whole numbers of 0 and 1 are dark bytes, not shares of white.
            value_range = value_range_of(values.min(), max(values.max(), 2))
        if value_range and values.dtype != "uint8":
            values = scaled(values, value_range)
    values = keras.ops.cast(values, "float32")
    values = keras.ops.reshape(values, (-1, *shape[-3:]))
    if shape[-1] == 4:
        opacity = values[..., 3:] / 255
        values = opacity * values[..., :3] + (1 - opacity) * 255
    return keras.ops.repeat(values, 3, axis=-1) if shape[-1] == 1 else values


def is_in_pipeline(images):
    """Tell a tensor of TensorFlow that is only traced, as in `tf.data`."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and tensorflow.is_symbolic_tensor(images)


def photos(name, images, value_range=None):
    """Read whatever `gcvit.preprocess` takes.

    Args:
        name: the argument's name, for the error.
        images: as for `gcvit.preprocess`.
        value_range: as for `gcvit.preprocess`.

    Returns:
        A list of float32 tensors `(B, H, W, 3)`, from 0 to 255: more than one
        where sizes differ.

    Raises:
        ValueError: for what is not a photo.
        OSError: if a file is not a whole picture.
        ImportError: for a file, if Pillow is not installed.
    """
    is_list = isinstance(images, (list, tuple)) and len(images)
    if is_list and not isinstance(images[0], (list, tuple, int, float)):
        return [
            x for image in images for x in photos(name, image, value_range)
        ]
    if isinstance(images, (str, bytes, os.PathLike)) or hasattr(
        images,
        "getexif",  # an image of Pillow
    ):
        images = decode(images, value_range=value_range)
    return [photos_of_array(name, images, value_range)]
