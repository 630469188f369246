"""Pictures: decoding files, listing folders, and putting some aside.

Folders hold more than clean photographs: pictures in grey, in CMYK, with
transparency, with 16 bits, or turned by the camera. All of them become red,
green and blue, from 0 to 255.
"""

import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from gcvit.arguments import file_path

CACHE_BYTES = 2 * 2**30  # of decoded pictures


# === One picture ===


def decode(picture, shorter_side=None):
    """Decode a picture, in any format that Pillow knows.

    What is transparent becomes white.

    Args:
        picture: a path, or the bytes of a file.
        shorter_side: pixels to shrink the shorter side to, an int; a smaller
            picture stays as it is. `None` never shrinks.

    Returns:
        A uint8 array `(H, W, 3)`, from 0 to 255.

    Raises:
        OSError: if this is no whole picture; Pillow has other errors too.
    """
    is_file = isinstance(picture, bytes)
    file = io.BytesIO(picture) if is_file else file_path("picture", picture)
    with Image.open(file) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits; Pillow would clip them
            grey = np.asarray(image, "float32") / 257
            image = Image.fromarray(np.clip(grey, 0, 255).astype("uint8"))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image.convert("RGB")
        if shorter_side and shorter_side < min(image.size):
            scale = shorter_side / min(image.size)
            size = [round(scale * side) for side in image.size]
            image = image.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(image)


def try_decode(picture, shorter_side):
    """Decode a picture as `decode` does, or give `None` if it is none."""
    try:
        return decode(picture, shorter_side)
    except MemoryError:
        raise
    except Exception:  # each of Pillow's formats has its own
        return None


def content(picture):
    """Give a short text that depends on what is in a picture's file."""
    file = picture if isinstance(picture, bytes) else picture.read_bytes()
    return sha256(file).hexdigest()


# === Many pictures ===


def read_folder(folder):
    """List the pictures in a folder, one sub-folder for each class.

    Args:
        folder: the folder; what is hidden in it is passed over.

    Returns:
        Pairs (path, class number), and the class names, sorted.

    Raises:
        ValueError: if there is no such folder, or no sub-folder.
    """
    folder = file_path("source", folder)
    if not folder.is_dir():
        raise ValueError(
            f"source={str(folder)!r} is no folder. A folder of pictures would "
            "work; for load_flowers also 'tf_flowers' or 'drawn'."
        )
    classes = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    if not classes:
        raise ValueError(
            f"{folder} has no sub-folder; each class needs one, named after "
            "it, with its pictures."
        )
    files = []
    for label, path in enumerate(classes):
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path).parts
            is_hidden = any(part.startswith(".") for part in inside)
            if file.is_file() and not is_hidden:
                files.append((file, label))
    return files, [path.name for path in classes]


def decode_all(files, shorter_side):
    """Decode pictures in parallel, and leave out those that are none.

    Args:
        files: pairs (path or bytes, class number).
        shorter_side: pixels to shrink the shorter side to, an int.

    Returns:
        A list of triples: the pair, and a uint8 array `(H, W, 3)`. Once the
        arrays fill `CACHE_BYTES`, `None` takes their place.
    """
    kept, left_out, size = [], [], 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = pool.map(
            lambda file: try_decode(file[0], shorter_side), files
        )
        for i, image in enumerate(images):
            picture, label = files[i]
            if image is None:
                is_path = isinstance(picture, Path)
                left_out.append(str(picture) if is_path else f"number {i}")
                continue
            size += image.nbytes
            kept.append(
                (picture, label, image if size <= CACHE_BYTES else None)
            )
    if left_out:
        warnings.warn(
            f"left out {len(left_out)}, damaged or no pictures: "
            f"{', '.join(left_out)}.",
            stacklevel=3,
        )
    return kept


def split_off(pictures, seed):
    """Put a tenth of each class aside for validation.

    Args:
        pictures: triples, as from `decode_all`.
        seed: decides which tenth, an int.

    Returns:
        Two lists of such triples, to train on and to validate with.
    """
    ranks = [
        sha256(f"{seed} {content(picture)}".encode()).digest()
        for picture, *_ in pictures
    ]
    aside = set()
    for label in {label for _, label, _ in pictures}:
        own = {
            rank
            for rank, picture in zip(ranks, pictures)
            if picture[1] == label
        }
        count = max(round(len(own) / 10), 1) if len(own) > 1 else 0
        aside |= set(sorted(own)[:count])
    train, validation = [], []
    for rank, picture in zip(ranks, pictures):
        (validation if rank in aside else train).append(picture)
    return train, validation
