"""Stored tensors: what HDF5, PyTorch and safetensors files say that they hold.

Each is asked before anything is read: a shape in a file costs nothing, and the
array of that shape can cost all of the memory. `gcvit.limits` has the bounds.
"""

import io
import pickletools
import struct

import h5py

from gcvit.limits import LIST_BYTES, archive, check_list, check_room

# What PyTorch allows, although it makes as many bytes as it is told.
MAKERS_OF_BYTES = {"bytearray", "encode"}

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
