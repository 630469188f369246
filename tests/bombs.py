"""Files of a stranger: each is small, and would take all of the memory."""

import io
import json
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np

BIG = 640 * 2**20  # more memory than a refusal may take


def zeros(size):
    """Blocks of zeros, a MiB each, as long as needed."""
    for _ in range(size // 2**20):
        yield bytes(2**20)


def packed(path, members, method=zipfile.ZIP_DEFLATED):
    """Write an archive; a member is bytes, or the size of as many zeros."""
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=True) as file:
                is_size = isinstance(content, int)
                for part in zeros(content) if is_size else [content]:
                    file.write(part)
    return path


def hdf5(fill):
    """Make an HDF5 file in memory with what a function puts in it."""
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        fill(opened)
    return file.getvalue()


def torch_archive(path, pickled, **members):
    members = {f"a/data/{key[1:]}": value for key, value in members.items()}
    named = {"a/data.pkl": pickled, "a/version": b"3\n"}
    return packed(path, named | members, zipfile.ZIP_DEFLATED)


def pickled_tensor(count, strides=(1,), kind="FloatStorage", more=b""):
    """The pickle of a state with one tensor, which has a storage `0`."""
    stored = "ctorch\n" + kind + "\n"
    return (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(("
        + b"X\x07\x00\x00\x00storage"
        + stored.encode()
        + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ"
        + struct.pack("<i", count if strides != (0,) else 1)
        + more
        + b"tQK\x00J"
        + struct.pack("<i", count)
        + b"\x85K"
        + bytes(strides)
        + b"\x85\x89ccollections\nOrderedDict\n)RtRs."
    )


def directory(entries):
    """An archive that lists very many members, and holds none."""
    entry = b"PK\x01\x02" + struct.pack(
        "<HHHHHHIIIHHHHHII", *[20] * 2, *[0] * 14
    )
    entry = entry[:28] + struct.pack("<H", 4) + entry[30:]
    listed = b"".join(entry + struct.pack("<I", i) for i in range(entries))
    end = struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(listed), 30, 0)
    return b"PK\x03\x04" + bytes(26) + listed + b"PK\x05\x06" + end


def config(**changes):
    """The configuration that Keras stores of a model."""
    arguments = {"window_size": [4], "embed_dim": 4, "depths": [1]}
    arguments |= {"num_heads": [1], "num_classes": 5}
    return json.dumps(
        {
            "module": "gcvit.model",
            "class_name": "GCViT",
            "registered_name": "gcvit>GCViT",
            "config": arguments | changes,
            "build_config": {"input_shape": [None, 16, 16, 3]},
        }
    ).encode()


def shape_bomb(file):
    file.create_dataset("vars/0", (2**40,), "f4", chunks=(2**20,))


def gzip_bomb(file):
    data = np.zeros(2**20, "f4")
    made = file.create_dataset(
        "vars/0", (2**28,), "f4", chunks=(2**20,), compression="gzip"
    )
    for i in range(2**8):
        made[i * 2**20 : (i + 1) * 2**20] = data


def link_away(file):
    file["vars"] = h5py.ExternalLink("/etc/hostname", "/vars")


def many_safetensors(count):
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({str(i): empty for i in range(count)}).encode()
    return struct.pack("<Q", len(header)) + header


def huge_safetensors():
    tensor = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    header = json.dumps({"head.weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header


def legacy(pickled):
    """PyTorch's older format: five pickles, then the storages."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    return magic + pickle.dumps({"little_endian": True}, 2) + pickled + KEYS


KEYS = pickle.dumps(["0"], 2) + struct.pack("<q", 2**30) + bytes(64)
WEIGHTS, CONFIG = "model.weights.h5", "config.json"
BYTES = b"\x80\x02}X\x01\x00\x00\x00wc%b\nbytearray\nJ\xff\xff\xff\x7f\x85Rs."
LISTS = b"\x80\x02(" + b"]" * (4 * 2**20) + b"l."


# What each is called, its ending, and what writes it to a path.
BOMBS = {
    "keras-zip": (".keras", lambda p: packed(p, {WEIGHTS: BIG})),
    "keras-bzip2": (
        ".keras",
        lambda p: packed(p, {WEIGHTS: BIG}, zipfile.ZIP_BZIP2),
    ),
    "keras-config": (
        ".keras",
        lambda p: packed(p, {CONFIG: BIG, WEIGHTS: b""}),
    ),
    "keras-members": (".keras", lambda p: p.write_bytes(directory(10**6))),
    "keras-out": (".keras", lambda p: packed(p, {WEIGHTS: b"", "../x": b""})),
    "keras-shape": (
        ".keras",
        lambda p: packed(p, {CONFIG: config(), WEIGHTS: hdf5(shape_bomb)}),
    ),
    "h5-shape": (".weights.h5", lambda p: p.write_bytes(hdf5(shape_bomb))),
    "h5-gzip": (".weights.h5", lambda p: p.write_bytes(hdf5(gzip_bomb))),
    "h5-out": (".weights.h5", lambda p: p.write_bytes(hdf5(link_away))),
    "torch-zip": (
        ".pth",
        lambda p: torch_archive(p, pickled_tensor(BIG // 4), _0=BIG),
    ),
    "torch-strides": (
        ".pth",
        lambda p: torch_archive(
            p, pickled_tensor(2**30, (0,), "BFloat16Storage"), _0=bytes(2)
        ),
    ),
    "torch-bytes": (".pth", lambda p: torch_archive(p, BYTES % b"builtins")),
    "torch-pickle": (".pth", lambda p: torch_archive(p, LISTS)),
    "torch-members": (".pth", lambda p: p.write_bytes(directory(10**6))),
    "torch-out": (
        ".pth",
        lambda p: packed(p, {"a/data.pkl": b"\x80\x02}.", "a/../../x": b""}),
    ),
    "legacy-shape": (
        ".pth.tar",
        lambda p: p.write_bytes(legacy(pickled_tensor(2**30, more=b"N"))),
    ),
    "legacy-bytes": (
        ".pth.tar",
        lambda p: p.write_bytes(legacy(BYTES % b"__builtin__")),
    ),
    "legacy-pickle": (".pth.tar", lambda p: p.write_bytes(legacy(LISTS))),
    "safetensors-header": (
        ".safetensors",
        lambda p: p.write_bytes(many_safetensors(10**6)),
    ),
    "safetensors-shape": (
        ".safetensors",
        lambda p: p.write_bytes(huge_safetensors()),
    ),
}
# Of models that are made from what a file says.
MODELS = {
    "wide": config(embed_dim=2**16),
    "deep": config(depths=[10**9]),
    "window": config(window_size=[10**5]),
    "classes": config(num_classes=10**10),
    "levels": config(
        depths=[1] * 30, num_heads=[1] * 30, window_size=[1] * 30
    ),
}


def model_bomb(path, stored):
    """Write a `.keras` file of a model that its weights do not fill."""

    def fill(file):
        file.create_dataset("head/vars/0", data=np.zeros((4, 5), "f4"))

    return packed(path, {CONFIG: stored, WEIGHTS: hdf5(fill)})


# === Pictures ===


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    size = struct.pack(">I", len(content))
    return size + kind + content + struct.pack(">I", checksum)


def png(width, height):
    """A picture of 1 bit for each pixel, all of them black."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height))
    content = chunk(b"IHDR", header) + chunk(b"IDAT", rows + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


def png_text(size):
    """A small picture with a long text in it."""
    packer = zlib.compressobj(1)
    text = b"".join(packer.compress(part) for part in zeros(size))
    whole = png(8, 8)
    text = chunk(b"zTXt", b"Comment\0\0" + text + packer.flush())
    return whole[:33] + text + whole[33:]


def tiff(size, tile):
    """A grey picture of one tile, which is larger than the picture."""
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(bytes(tile)) for _ in range(tile))
    data += packer.flush()
    tags = {256: size, 257: size, 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: tile, 323: tile, 324: 8, 325: len(data)}
    listed = b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()
    )
    listed = struct.pack("<H", len(tags)) + listed + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + listed


PICTURES = {
    "png": lambda: png(30_000, 30_000),
    "text": lambda: png_text(BIG),
    "tiff": lambda: tiff(30_000, 30_000),
    "tile": lambda: tiff(64, 30_000),
}
