"""Limits: what a stranger's file may ask for before it is read.

A file of a few bytes can ask for all of the memory: an archive that unpacks to
gigabytes, a header that lists millions of tensors, a tensor whose shape is
larger than the file. So each kind of file is looked at first. What it asks for
may not be much more than what it is.
"""

import contextlib
import json
import struct
import zipfile
from pathlib import PurePosixPath

# What lists the contents of a file: a zip archive's directory, a header of
# safetensors, a pickle, a configuration. 200 bytes for each of the 1,500
# tensors of the largest variant, and for those of its optimizer, are one.
LIST_BYTES = 2 * 2**20
# What a file may unpack to. Weights hardly shrink when they are compressed.
EXPANSION = 20
SPARE_BYTES = 64 * 2**20
MIB = 2**20
# A bit of a member's attributes, from DOS. PyTorch reads nothing of what has it,
# says nothing, and its tensor has what was in the memory before.
FOLDER = 0x10


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
            there twice, for a folder with bytes, and for what is packed too
            tightly.
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
        if member.external_attr & FOLDER and member.file_size:
            raise ValueError(
                f"{path} is corrupted: {name!r} in it is marked as a folder, "
                f"and has {member.file_size:,} bytes."
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
