"""Limits: what a stranger's file may ask for before it is read.

A file of a few bytes can ask for all of the memory: an archive that unpacks to
gigabytes, a header that lists millions of tensors, a tensor whose shape is
larger than the file. So each kind of file is looked at first. What it asks for
may not be much more than what it is.
"""

import contextlib
import io
import json
import pickletools
import struct
import zipfile
from pathlib import PurePosixPath

import h5py

# What lists the contents of a file: a zip archive's directory, a header of
# safetensors, a pickle, a configuration. 200 bytes for each of the 1,500
# tensors of the largest variant, and for those of its optimizer, are one.
LIST_BYTES = 2 * 2**20
# What a file may unpack to. Weights hardly shrink when they are compressed.
EXPANSION = 20
SPARE_BYTES = 64 * 2**20
MIB = 2**20
MAKERS_OF_BYTES = {"bytearray", "encode"}


def room(path):
    """Say how many bytes a file may unpack to."""
    return SPARE_BYTES + EXPANSION * path.stat().st_size


def check_list(path, what, size):
    """Check the size of what lists the contents of a file.

    Raises:
        ValueError: if it is larger than `LIST_BYTES`.
    """
    if size > LIST_BYTES:
        raise ValueError(
            f"{path} was refused: its {what} has {size:,} bytes or more; a "
            f"checkpoint's has at most {LIST_BYTES:,}."
        )


def check_room(path, what, size):
    """Check how much memory a file asks for.

    Raises:
        ValueError: if it is more than `room`.
    """
    if size > room(path):
        raise ValueError(
            f"{path} was refused: its {what} would take {size / MIB:,.0f} "
            f"MiB, but the file has {path.stat().st_size / MIB:,.1f}. Weights "
            f"take at most {EXPANSION} times their file, and "
            f"{SPARE_BYTES // MIB} MiB."
        )


# === Zip archives ===


def directory_of(path):
    """Find the directory at the end of a zip archive.

    Each program that reads archives searches for it in its own way. So it has
    to be where all of them find the same: it ends where the archive ends.

    Returns:
        Where it starts, where it ends, and where it is said to start and how
        long it is said to be: four ints.

    Raises:
        ValueError: if the archive ends otherwise.
    """
    with open(path, "rb") as file:
        start = max(path.stat().st_size - 98, 0)
        file.seek(start)
        end = file.read()
    if end[-22:-18] != b"PK\x05\x06" or end[-2:] != b"\0\0":
        raise ValueError(f"{path} is truncated: it starts as a zip archive.")
    size, offset = struct.unpack("<II", end[-10:-2])
    place = start + len(end) - 22
    if end[-42:-38] == b"PK\x06\x07":  # for more than 4 GiB
        if end[-98:-94] != b"PK\x06\x06":
            raise ValueError(
                f"{path} is corrupted: its archive has no directory."
            )
        size, offset = struct.unpack("<QQ", end[-58:-42])
        place -= 76
    return place - size, place, offset, size


def check_members(members, path):
    """Check what is in an archive, a list of `zipfile.ZipInfo`.

    Raises:
        ValueError: for a name that leads out of the archive, for one that is
            there twice, and for what is packed too tightly.
    """
    names = set()
    for member in members:
        name = member.filename
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name:
            raise ValueError(
                f"{path} was refused: {name!r} in it leads out of the archive."
            )
        if name in names:
            raise ValueError(f"{path} was refused: it holds {name!r} twice.")
        names.add(name)
        if member.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise ValueError(
                f"{path} was refused: {name!r} in it is compressed by a "
                "method that checkpoints do not use; deflate would work."
            )
    check_room(path, "archive", sum(member.file_size for member in members))


@contextlib.contextmanager
def archive(path):
    """Open a zip archive, if its names and sizes are those of a checkpoint.

    Yields:
        A `zipfile.ZipFile`.

    Raises:
        ValueError: if they are not, or if the archive is cut off.
    """
    start, end, offset, size = directory_of(path)
    check_list(path, "archive's directory", size)
    if start != offset or start + size != end:
        raise ValueError(
            f"{path} is corrupted: its archive's directory is not where it is "
            "said to be."
        )
    with zipfile.ZipFile(path) as opened:
        check_members(opened.infolist(), path)
        yield opened


def config_of(opened, path):
    """Read the configuration in an archive.

    Args:
        opened: a `zipfile.ZipFile`.
        path: its file, for the error.

    Returns:
        What `config.json` holds; `None` if it is not there.

    Raises:
        ValueError: if it is too large, or not JSON.
    """
    if "config.json" not in opened.namelist():
        return None
    check_list(path, "config.json", opened.getinfo("config.json").file_size)
    return json.loads(opened.read("config.json"))


# === HDF5 ===


def check_links(group, path):
    """Raise `ValueError` if something in an HDF5 group lies elsewhere."""
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(
                f"{path} refers to other places, from {group.name}: {name}."
            )


def check_dataset(dataset, path):
    """Check that an array of an HDF5 file is stored in it, as it is.

    Raises:
        ValueError: if it is in another file, compressed, or empty.
    """
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{path} refers to other files: {dataset.name}.")
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(
            f"{path} was refused: {dataset.name} is compressed, and could "
            "unpack to anything. Keras stores weights as they are; h5repack "
            "-f NONE unpacks them."
        )
    if dataset.shape is None or dataset.id.get_storage_size() < dataset.nbytes:
        raise ValueError(
            f"{path} is truncated or corrupted: {dataset.name} of shape "
            f"{dataset.shape} is not all there."
        )


def datasets(file, path):
    """List the arrays in an HDF5 file, once all of them have been checked.

    Args:
        file: an `h5py.File`.
        path: its name, for the error.

    Returns:
        A dict: name inside the file to `h5py.Dataset`.

    Raises:
        ValueError: if they have others read, are compressed, or have more
            bytes than the file.
    """
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Group):
            check_links(item, path)
        elif isinstance(item, h5py.Dataset):
            check_dataset(item, path)
            found[name] = item

    check_links(file, path)
    file.visititems(visit)
    size = sum(dataset.nbytes for dataset in found.values())
    if size > file.id.get_filesize():
        raise ValueError(
            f"{path} was refused: its arrays have {size:,} bytes, more than "
            f"the {file.id.get_filesize():,} of the file."
        )
    return found


# === Pickles, and safetensors ===


def globals_in(content, count):
    """List what pickles name, without unpickling them.

    Args:
        content: what a file begins with, bytes.
        count: how many pickles follow each other at most, an int.

    Yields:
        Texts such as `"collections OrderedDict"`.
    """
    stream = io.BytesIO(content)
    for _ in range(count):
        if stream.tell() == len(content):
            return
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name == "GLOBAL":
                yield argument


def check_pickles(content, path, count):
    """Check the pickles that list the weights in a PyTorch file.

    PyTorch runs no code of theirs, but it allows a few functions that make as
    many bytes as they are told.

    Args:
        content: as for `globals_in`.
        path: the file, for the error.
        count: as for `globals_in`.

    Raises:
        ValueError: if the pickles are too long or damaged, or name such a
            function.
    """
    try:
        names = set(globals_in(content, count))
    except ValueError as error:
        check_list(path, "list of weights", len(content))
        raise ValueError(
            f"{path} is truncated or corrupted: {error}"
        ) from error
    for name in names:
        if name.split()[-1] in MAKERS_OF_BYTES:
            raise ValueError(
                f"{path} was refused: it wants to run code of "
                f"{name.replace(' ', '.')}, which weights do not need."
            )


def check_pytorch(path):
    """Check a PyTorch file, an archive or older pickles, before it is read.

    Raises:
        ValueError: if it asks for more than its weights need, or is damaged.
    """
    with open(path, "rb") as file:
        start = file.read(LIST_BYTES + 1)
    if not start.startswith(b"PK"):
        check_pickles(start, path, count=5)  # no storage is before them
        return
    with archive(path) as opened:
        damaged = opened.testzip()  # PyTorch does not compare checksums
        if damaged:
            raise ValueError(
                f"{path} is corrupted: the checksum of {damaged} differs."
            )
        for member in opened.infolist():
            if member.filename.endswith("data.pkl"):
                check_list(path, member.filename, member.file_size)
                check_pickles(opened.read(member), path, count=1)


def check_tensors(tensors, path):
    """Check how much tensors of PyTorch take: one number can be a billion.

    Args:
        tensors: a list of them.
        path: their file.

    Raises:
        ValueError: if they would take more than `room`.
    """
    size = sum(x.numel() * max(x.element_size(), 4) for x in tensors)
    check_room(path, "tensors", size)


def check_safetensors(path):
    """Check the header of a safetensors file; the rest is as long as it says.

    Raises:
        ValueError: if it is too long.
    """
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
    if size > path.stat().st_size:
        raise ValueError(f"{path} is truncated: its header is longer.")
    check_list(path, "header", size)
