"""Downloads: finding, fetching, verifying and caching checkpoints.

Keras's `get_file` downloads with a progress bar. It gets a folder of its own;
what came is checked, and only then moved into the cache, in one step: whatever
happens on the way, no half file is ever taken for a whole one. What was cut is
fetched again from the start.
"""

import contextlib
import hashlib
import os
import re
import socket
import tempfile
from importlib.resources import files
from pathlib import Path

import keras

from gcvit.arguments import file_path
from gcvit.variants import BYTES

TIMEOUT = 30  # seconds without a byte


# === Places ===


def cache_folder():
    """Say where downloads are kept: below Keras's folder."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return file_path("KERAS_HOME", home) / "gcvit"


def weights_folder():
    """Say which folder the environment variable GCVIT_WEIGHTS names.

    Returns:
        A path; `None` if it names a mirror, or nothing.
    """
    place = os.environ.get("GCVIT_WEIGHTS")
    is_folder = place and "://" not in place
    return file_path("GCVIT_WEIGHTS", place) if is_folder else None


# === One file ===


def verify(path):
    """Check a downloaded file by what its publisher says of it.

    Args:
        path: the file, under its published name.

    Raises:
        ValueError: if it is not the published file.
    """
    damaged = f"{path.name} is truncated or corrupted"
    size = path.stat().st_size
    if size != BYTES.get(path.name, size):
        raise ValueError(
            f"{damaged}: it has {size:,} bytes, the published file has "
            f"{BYTES[path.name]:,}."
        )
    prefix = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if prefix:
        with path.open("rb") as file:
            digits = hashlib.file_digest(file, "sha256").hexdigest()
        if not digits.startswith(prefix[1]):
            raise ValueError(
                f"{damaged}: its SHA-256 starts with {digits[:8]}, that of "
                f"the published file with {prefix[1]}."
            )


def download(address, path):
    """Download a file, verify it, and only then put it in its place.

    Args:
        address: its URL.
        path: its place.

    Raises:
        OSError: if the file cannot be fetched, or nothing arrives for
            `TIMEOUT` seconds.
        ValueError: if another file came than was published.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(TIMEOUT)  # get_file has no option for it
        try:
            keras.utils.get_file(
                path.name, address, cache_dir=folder, cache_subdir="."
            )
        except Exception as error:  # Keras raises no narrower one
            raise ConnectionError(str(error)) from error
        finally:
            socket.setdefaulttimeout(timeout)
        verify(Path(folder) / path.name)
        os.replace(Path(folder) / path.name, path)


def find(address):
    """Find a checkpoint's file on this machine, or download it.

    The environment variable GCVIT_WEIGHTS can name a folder, which is then the
    only place where files are looked for, or the address of a mirror, where
    they lie under their published names.

    Args:
        address: as from `gcvit.variants.checkpoint_address`.

    Returns:
        A path.

    Raises:
        OSError: if the file is neither here nor to be fetched.
        ValueError: if another file came than was published.
    """
    if "://" not in address:
        return Path(str(files("gcvit") / "data" / address))
    own = weights_folder()
    mirror = os.environ.get("GCVIT_WEIGHTS") if own is None else None
    name = address.rsplit("/", 1)[1]
    path = (own or cache_folder()) / name
    if mirror:
        address = f"{mirror.rstrip('/')}/{name}"
    if path.exists():
        return path
    try:
        if own:
            raise FileNotFoundError(f"there is no {path}")
        download(address, path)
    except (OSError, ValueError) as error:
        raise type(error)(
            f"{name} could not be fetched: {error}. Its address is "
            f"{address}. Put the file at {path}, or set GCVIT_WEIGHTS to a "
            "folder that holds it, or to a mirror's address. "
            'from_pretrained("nano") needs no network.'
        ) from error
    return path


@contextlib.contextmanager
def verified(path):
    """Verify a published file, and delete a bad one from the cache.

    A damaged file there would be in the way forever. Your own files are not
    touched.

    Args:
        path: as from `find`.

    Raises:
        ValueError: if the file is not the published one, or if what happens
            inside raises one.
    """
    try:
        verify(path)
        yield
    except ValueError as error:
        if weights_folder() or path.parent != cache_folder():
            raise
        path.unlink(missing_ok=True)
        raise ValueError(
            f"{error} {path} was deleted from the cache; the next call "
            "fetches it again."
        ) from error
