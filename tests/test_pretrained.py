"""Checkpoints: read whole or not at all, fetched whole or not at all."""

import argparse
import hashlib
import json
import math
import os
import pickle
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from keras import ops
from safetensors import deserialize
from safetensors.numpy import save_file

import gcvit
from gcvit import pretrained
from gcvit.model import VARIANTS
from gcvit.pretrained import (
    BYTES,
    CHECKPOINTS,
    KERAS_NAMES,
    NVIDIA_NAMES,
    TIMM_NAMES,
    at_image_size,
    class_names,
    decode_predictions,
    from_pretrained,
    keras_axes,
    load_checkpoint,
    named_weights,
    preprocess,
    resize_bias_table,
    scale_windows,
    translate,
)

try:
    import torch
except ImportError:  # as where one backend is tested alone
    torch = None

NEEDS_PYTORCH = pytest.mark.skipif(
    torch is None,
    reason="PyTorch is not installed here; make test-checkpoints has it",
)
DATA = Path(__file__).parent / "data"
SHAPE = (None, 224, 224, 3)
# For tests to which it does not matter which of the two models it is.
ONE_MODEL = pytest.mark.parametrize("reference", ["ref_small"], indirect=True)
# From Keras's axes to PyTorch's, as in tests/data/README.md.
TO_PYTORCH = {
    "id": lambda array: array,
    "T": lambda array: array.T,
    "hwio": lambda array: array.transpose(3, 2, 0, 1),
    "hwio_dw": lambda array: array.transpose(2, 3, 0, 1),
}


def keras_tensors(path):
    """Every array of a .keras file by its path."""
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with (
        zipfile.ZipFile(path) as archive,
        archive.open("model.weights.h5") as member,
        h5py.File(member) as file,
    ):
        file.visititems(keep)
    return arrays


def read_bfloat16(path):
    """Every array of a safetensors file, as float32."""
    arrays = {}
    for name, tensor in deserialize(path.read_bytes()):
        upper_half = np.frombuffer(tensor["data"], "uint16").astype("uint32")
        array = (upper_half << 16).view("float32")
        arrays[name] = array.reshape(tensor["shape"])
    return arrays


@pytest.fixture(scope="session")
def stored(reference):
    """The reference's weights under each family's names."""
    name = "small_ls" if reference.config["layer_scale"] else "small"
    names = json.loads((DATA / f"{name}_names.json").read_text("utf-8"))
    arrays = keras_tensors(reference.checkpoint)
    nvidia = {
        name: np.ascontiguousarray(TO_PYTORCH[transform](arrays[path]))
        for name, (path, transform) in names.items()
    }
    timm_file = DATA / f"{name}_timm_bf16.safetensors"
    return SimpleNamespace(
        model=reference.model,
        config=reference.config,
        checkpoint=reference.checkpoint,
        keras=arrays,
        nvidia=nvidia,
        timm=read_bfloat16(timm_file),
        timm_file=timm_file,
    )


@pytest.fixture(scope="session")
def shared_model(reference):
    """A model like the reference; each test that uses it scrambles it."""
    model = gcvit.GCViT(**reference.config, head_activation=None)
    model.build(SHAPE)
    return model


@pytest.fixture
def model(shared_model):
    """A built model like the reference, with none of its weights."""
    scramble(shared_model)
    return shared_model


def tiny_model(size=(32, 32), **options):
    """A model of two levels with random weights, built."""
    config = {"embed_dim": 4, "depths": (1, 2), "num_heads": (1, 2)}
    model = gcvit.GCViT(**{"window_size": (2, 4), **config, **options})
    model.build((None, *size, 3))
    return model


def scramble(model):
    """Fill a model with a number that no reference weight is."""
    model.set_weights([np.full(w.shape, 0.123) for w in model.weights])


def same_weights(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def assert_refused(model, path, *texts):
    """Loading raises, says why, and leaves the model as it was."""
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        load_checkpoint(model, path)
    for text in (str(path), *texts):
        assert text in str(error.value)
    assert all(map(np.array_equal, before, model.get_weights()))


# === Formats ===


def with_index(tensors):
    """As NVIDIA's files are: each attention has its index of the table."""
    return tensors | {
        name.replace("bias_table", "index"): np.arange(4)
        for name in tensors
        if name.endswith("relative_position_bias_table")
    }


def tensors(arrays, dtype="float32"):
    """As PyTorch has them."""
    dtype = getattr(torch, dtype)
    return {name: torch.tensor(arrays[name]).to(dtype) for name in arrays}


def save_with_options(stored, path):
    """As training scripts save: the weights are one thing of many."""
    options = argparse.Namespace(model="gcvit", lr=1e-3, cooldown=[1, 2])
    content = {
        "epoch": 3,
        "arch": "gcvit",
        "state_dict": tensors(stored.nvidia),
        "optimizer": {"state": {0: {"step": 1}}, "param_groups": [{"lr": 1}]},
        "args": options,
        "metric": 79.9,
    }
    torch.save(content, path)


# What writes a file, and the ending that such files have.
FORMATS = {
    "keras": (".keras", lambda s, path: shutil.copy(s.checkpoint, path)),
    "keras-saved-now": (".keras", lambda s, path: s.model.save(path)),
    "h5": (".weights.h5", lambda s, path: s.model.save_weights(path)),
    "nvidia-safetensors": (
        ".safetensors",
        lambda s, path: save_file(with_index(s.nvidia), path),
    ),
    "timm-safetensors": (
        ".safetensors",
        lambda s, path: save_file(s.timm, path),
    ),
    "timm-safetensors-bfloat16": (
        ".safetensors",
        lambda s, path: shutil.copy(s.timm_file, path),
    ),
}
PYTORCH_FORMATS = {
    "nvidia": (".pth", lambda s, path: torch.save(tensors(s.nvidia), path)),
    "nvidia-state_dict": (
        ".pth.tar",
        lambda s, path: torch.save({"state_dict": tensors(s.nvidia)}, path),
    ),
    "nvidia-state_dict_ema": (
        ".pth.tar",
        lambda s, path: torch.save(
            {"state_dict_ema": tensors(s.nvidia)}, path
        ),
    ),
    "nvidia-model": (
        ".pth",
        lambda s, path: torch.save(
            {"model": tensors(s.nvidia), "epoch": 1}, path
        ),
    ),
    "nvidia-legacy": (
        ".pth.tar",
        lambda s, path: torch.save(
            {"state_dict": tensors(s.nvidia)},
            path,
            _use_new_zipfile_serialization=False,
        ),
    ),
    "nvidia-options": (".pth.tar", save_with_options),
    "nvidia-index": (
        ".pth.tar",
        lambda s, path: torch.save(
            tensors(s.nvidia)
            | {
                "levels.0.blocks.0.attn.relative_position_index": torch.ones(4)
            },
            path,
        ),
    ),
    "nvidia-module": (
        ".pth.tar",
        lambda s, path: torch.save(
            {f"module.{n}": t for n, t in tensors(s.nvidia).items()}, path
        ),
    ),
    "nvidia-bfloat16": (
        ".pth",
        lambda s, path: torch.save(tensors(s.nvidia, "bfloat16"), path),
    ),
    "timm": (".pth", lambda s, path: torch.save(tensors(s.timm), path)),
    "timm-module": (
        ".pth",
        lambda s, path: torch.save(
            {f"module.{n}": t for n, t in tensors(s.timm).items()}, path
        ),
    ),
}


def forms(*names):
    """Parameters for a test; those of PyTorch need it."""
    return [
        pytest.param(
            name, marks=[NEEDS_PYTORCH] if name in PYTORCH_FORMATS else []
        )
        for name in names
    ]


def write(stored, form, folder):
    """Write a checkpoint under a name that such files have."""
    ending, save = (FORMATS | PYTORCH_FORMATS)[form]
    path = folder / f"weights{ending}"
    save(stored, path)
    return path


@pytest.mark.parametrize("form", forms(*FORMATS, *PYTORCH_FORMATS))
def test_each_format_is_read_whole(form, stored, model, tmp_path):
    path = write(stored, form, tmp_path)
    is_keras = form.startswith(("keras", "h5"))
    misleading = tmp_path / ("other.pth" if is_keras else "other.keras")
    shutil.copy(path, misleading)
    for file in (path, misleading):
        scramble(model)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert load_checkpoint(model, file) == len(stored.keras)
        assert not [w for w in caught if "classes" in str(w.message)]
        assert same_weights(model, stored.model)


@pytest.mark.parametrize(
    "form",
    forms("keras", "h5", "nvidia-state_dict", "timm-safetensors-bfloat16"),
)
def test_logits_are_the_official_ones(
    form, reference, stored, model, images, run, tmp_path
):
    load_checkpoint(model, write(stored, form, tmp_path))
    logits = ops.convert_to_numpy(run(model, images[:1]))
    expected = reference.answers["logits_f64"]
    assert abs(logits - expected[:1]).max() / expected.std() < 5e-6


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_bfloat16_is_read_from_keras_files(ending, tmp_path):
    path = tmp_path / f"weights{ending}"
    rounded = tiny_model(dtype="bfloat16")
    (rounded.save if ending == ".keras" else rounded.save_weights)(path)
    model = tiny_model()
    assert load_checkpoint(model, path) == len(model.weights)
    for weight, stored in zip(model.weights, rounded.weights, strict=True):
        expected = ops.convert_to_numpy(ops.cast(stored, "float32"))
        np.testing.assert_array_equal(weight.numpy(), expected)


@ONE_MODEL
def test_an_unbuilt_model_is_built(stored):
    model = gcvit.GCViT(**stored.config)
    assert load_checkpoint(model, stored.checkpoint) == len(stored.keras)
    assert model.image_shape == (224, 224, 3)
    assert same_weights(model, stored.model)


# === Files that do not fit ===


@ONE_MODEL
@pytest.mark.parametrize("form", ["keras", "nvidia-safetensors"])
def test_another_number_of_classes_leaves_the_head(form, stored, tmp_path):
    path = write(stored, form, tmp_path)
    model = gcvit.GCViT(**stored.config | {"num_classes": 3})
    model.build(SHAPE)
    scramble(model)
    with pytest.warns(UserWarning, match="another number of classes.* 3"):
        assert load_checkpoint(model, path) == len(stored.keras) - 2
    for layer, loaded in zip(model.layers, stored.model.layers, strict=True):
        if layer is not model.head:
            assert same_weights(layer, loaded)
    for weight in model.head.get_weights():
        np.testing.assert_array_equal(weight, np.float32(0.123))


def without(*names):
    return lambda arrays: {n: arrays[n] for n in arrays if n not in names}


def reshaped(**shapes):
    """Other tensors, all ones; `__` stands for a dot."""
    new = {
        name.replace("__", "."): np.ones(shape, "float32")
        for name, shape in shapes.items()
    }
    return lambda arrays: arrays | new


# What is done to the weights, and what the error says of it.
DIFFERENCES = {
    "missing": (
        without("levels.3.blocks.0.attn.qkv.bias"),
        "in the model: levels.3.blocks.0.attn.qkv.bias (192,).",
    ),
    "missing-head-bias": (
        without("head.bias"),
        "in the model: head.bias (10,).",
    ),
    "missing-head-kernel": (without("head.weight"), "head.kernel (64, 10)"),
    "missing-head": (without("head.weight", "head.bias"), "head.bias (10,)"),
    "left-over": (
        reshaped(extra__weight=(3, 2)),
        "in the file: extra.kernel (2, 3).",
    ),
    "left-over-index": (
        reshaped(position_index=(4,)),
        "in the file: position_index (4,).",
    ),
    "another-shape": (
        reshaped(norm__weight=(32,)),
        "in the file: norm.gamma (32,). Only in the model: norm.gamma (64,).",
    ),
    "a-scalar": (reshaped(norm__bias=()), "in the file: norm.beta ()."),
    "head-of-another-width": (
        reshaped(head__weight=(10, 32)),
        "in the file: head.kernel (32, 10).",
    ),
    "head-at-odds-with-its-bias": (
        reshaped(head__weight=(20, 64)),
        "in the file: head.kernel (64, 20).",
    ),
    "bias-at-odds-with-its-head": (
        reshaped(head__bias=(20,)),
        "in the file: head.bias (20,).",
    ),
    "a-bias-that-is-a-scalar": (
        reshaped(head__bias=()),
        "in the file: head.bias ().",
    ),
}


@ONE_MODEL
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_no_other_difference_is_let_through(
    difference, stored, model, tmp_path
):
    change, text = DIFFERENCES[difference]
    path = tmp_path / "weights.safetensors"
    save_file(change(stored.nvidia), path)
    assert_refused(model, path, text, "Nothing was loaded")


@ONE_MODEL
def test_the_first_five_of_each_side_are_named(stored, model, tmp_path):
    renamed = {
        name.replace("levels.3.blocks.0.norm", "levels.3.blocks.9.norm"): value
        for name, value in stored.nvidia.items()
    }
    renamed["levels.3.blocks.9.attn"] = np.ones(2, "float32")
    renamed["levels.3.blocks.9.mlp"] = np.ones(2, "float32")
    save_file(renamed, tmp_path / "weights.safetensors")
    new, old = "levels.3.blocks.9", "levels.3.blocks.0"
    assert_refused(
        model,
        tmp_path / "weights.safetensors",
        f"Only in the file: {new}.attn (2,), {new}.mlp (2,), "
        f"{new}.norm1.beta (64,), {new}.norm1.gamma (64,), "
        f"{new}.norm2.beta (64,) and 1 more.",
        f"Only in the model: {old}.norm1.beta (64,), "
        f"{old}.norm1.gamma (64,), {old}.norm2.beta (64,), "
        f"{old}.norm2.gamma (64,).",
    )


@ONE_MODEL
@pytest.mark.parametrize("form", ["keras", "nvidia-safetensors"])
def test_other_windows_are_refused(form, stored, tmp_path):
    path = write(stored, form, tmp_path)
    model = gcvit.GCViT(**stored.config | {"window_size": (8, 8, 16, 8)})
    model.build((None, 256, 256, 3))
    table = "levels.0.blocks.0.attn.relative_position_bias_table"
    assert_refused(model, path, f"{table} (169, 1)", f"{table} (225, 1)")


def test_turned_windows_are_refused(tmp_path):
    # Tables of 2×3 and 3×2 windows have one shape; the file knows better.
    turned = tiny_model((32, 48), window_size=((2, 3), (4, 6)))
    turned.save(tmp_path / "turned.keras")
    model = tiny_model((48, 32), window_size=((3, 2), (6, 4)))
    assert_refused(model, tmp_path / "turned.keras", "windows of")


@ONE_MODEL
@pytest.mark.parametrize("start", [b"\x80", b"PK"], ids=["pickle", "zip"])
def test_the_length_of_a_header_is_not_a_format(start, stored, tmp_path):
    # A safetensors file opens with a number of eight bytes, whatever it is.
    path = tmp_path / "weights.safetensors"
    save_file(stored.nvidia, path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    while not struct.pack("<Q", len(header)).startswith(start):
        header += b" "
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    model = gcvit.GCViT(**stored.config)
    assert load_checkpoint(model, path) == len(model.weights)
    assert same_weights(model, stored.model)


@ONE_MODEL
@pytest.mark.parametrize("twin", ["norm.gamma", "module.norm.weight"])
def test_two_tensors_for_one_weight_are_refused(twin, stored, model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(stored.nvidia | {twin: np.ones(64, "float32")}, path)
    assert_refused(model, path, "both norm.gamma")


@ONE_MODEL
def test_a_tensor_of_another_type_is_named(stored, model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(stored.nvidia | {"steps": np.ones(1, "int32")}, path)
    assert_refused(model, path, "steps", "I32")


@ONE_MODEL
@NEEDS_PYTORCH
def test_parameters_are_read_as_tensors_are(stored, tmp_path):
    arrays = tensors(stored.nvidia)
    parameters = {
        name: torch.nn.Parameter(array) for name, array in arrays.items()
    }
    torch.save(parameters, tmp_path / "weights.pth")
    model = gcvit.GCViT(**stored.config)
    load_checkpoint(model, tmp_path / "weights.pth")
    assert same_weights(model, stored.model)


# === Files that are no checkpoints ===


def with_damaged_config(content):
    """Flip one bit of the compressed config.json in a .keras file."""
    start = content.index(b"config.json") + len("config.json") + 20
    flipped = bytes([content[start] ^ 1])
    return content[:start] + flipped + content[start + 1 :]


def with_damaged_directory(content):
    """Spoil the signature of the last entry in a zip archive's directory."""
    start = content.rindex(b"PK\x01\x02")
    return content[:start] + b"PK\x01\x03" + content[start + 4 :]


@ONE_MODEL
@pytest.mark.parametrize(
    "damage", [with_damaged_config, with_damaged_directory]
)
def test_a_damaged_archive_is_refused(
    damage, stored, model, site, published, tmp_path
):
    content = damage(stored.checkpoint.read_bytes())
    (tmp_path / "weights.keras").write_bytes(content)
    assert_refused(model, tmp_path / "weights.keras", "corrupted")
    site.cache.mkdir(parents=True)
    path = site.cache / published["keras.io"][0]
    path.write_bytes(damage(published["keras.io"][1]))
    with pytest.raises(ValueError, match="corrupted.*was deleted"):
        from_pretrained("xxtiny")
    assert_a_whole_site_helps(site, "keras.io", stored.model)


@ONE_MODEL
@pytest.mark.parametrize("kept", [0.5, 0.99], ids=["half", "all-but-1%"])
@pytest.mark.parametrize(
    "form",
    forms("keras", "h5", "nvidia", "nvidia-legacy", "timm-safetensors"),
)
def test_a_truncated_file_is_refused(form, kept, stored, model, tmp_path):
    path = write(stored, form, tmp_path)
    os.truncate(path, int(path.stat().st_size * kept))
    assert_refused(model, path, "is truncated")


@ONE_MODEL
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html>\n<html>Sign in</html>",
        b"{" * 99,
        pytest.param(b"\x80\x04", marks=NEEDS_PYTORCH),
    ],
    ids=["empty", "html", "json", "start-of-a-pickle"],
)
def test_another_kind_of_file_is_refused(content, model, tmp_path):
    path = tmp_path / "weights.keras"
    path.write_bytes(content)
    assert_refused(model, path)


@ONE_MODEL
def test_another_keras_model_is_refused(model, tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.save(tmp_path / "dense.keras")
    assert_refused(model, tmp_path / "dense.keras", "(4, 3)")


@ONE_MODEL
def test_another_archive_is_refused(model, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", b"")
    assert_refused(model, tmp_path / "photos.zip")


@ONE_MODEL
@NEEDS_PYTORCH
@pytest.mark.parametrize(
    "content",
    [
        ["weights"],
        {"head.bias": 1, "epoch": 2},
        {"state_dict": 1},
        7,
        {0: np.ones(3)},
    ],
    ids=["list", "ints", "int-for-weights", "int", "numbered"],
)
def test_a_pytorch_file_without_weights_is_refused(content, model, tmp_path):
    if isinstance(content, dict) and 0 in content:
        content = tensors(content)
    torch.save(content, tmp_path / "other.pth")
    assert_refused(model, tmp_path / "other.pth", "holds no weights")


class Trap:
    """Something that touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@ONE_MODEL
@NEEDS_PYTORCH
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_in_a_pickle_is_not_run(form, stored, model, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "weights.pth"
    content = {"state_dict": tensors(stored.nvidia), "args": Trap(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(Trap(marker), protocol=2))
        pickle.loads(path.read_bytes())
    else:
        is_zip = form == "zip"
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
        torch.load(path, weights_only=False)
    assert marker.exists()  # it is a trap
    marker.unlink()
    assert_refused(model, path, "wants to run code of", "refused")
    assert not marker.exists()


@ONE_MODEL
def test_a_missing_file_is_an_error_of_the_system(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.keras"):
        load_checkpoint(model, tmp_path / "nowhere.keras")


@ONE_MODEL
@pytest.mark.parametrize(
    ("form", "package"),
    [
        pytest.param("nvidia", "torch", marks=NEEDS_PYTORCH),
        pytest.param("nvidia-legacy", "torch", marks=NEEDS_PYTORCH),
        ("timm-safetensors", "safetensors"),
    ],
)
def test_a_package_that_is_absent_is_named(
    form, package, stored, model, tmp_path, monkeypatch
):
    path = write(stored, form, tmp_path)
    before = model.get_weights()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=f"pip install {package}"):
            load_checkpoint(model, path)
    assert all(map(np.array_equal, before, model.get_weights()))


# === Names of every variant ===


def layer(name, *shapes):
    """A kernel or scale, and perhaps a bias, as all families call them."""
    for i, (end, shape) in enumerate(zip(("weight", "bias"), shapes)):
        yield f"{name}.{end}", f"{name}.{end}", f"{name}/vars/{i}", shape


def under(nvidia, timm, path, *parts):
    """Put what encloses them before the names of parts."""
    for part in parts:
        for name, timm_name, keras_path, shape in part:
            yield nvidia + name, timm + timm_name, path + keras_path, shape


def counted(name, i):
    """Keras leaves number 0 out: level, level_1, level_2."""
    return f"{name}_{i}" if i else name


def fused_mbconv(width):
    """Four convolutions and dense layers without a bias."""
    conv, squeeze = "conv/", "conv/squeeze_and_excitation/fc/"
    return [
        ("conv.0", "conv_dw", f"{conv}depthwise_conv2d", (width, 1, 3, 3)),
        ("conv.2.fc.0", "se.fc1", f"{squeeze}dense", (width // 4, width)),
        ("conv.2.fc.2", "se.fc2", f"{squeeze}dense_1", (width, width // 4)),
        ("conv.3", "conv_pw", f"{conv}conv2d", (width, width, 1, 1)),
    ]


def convolutions(width):
    for name, timm_name, path, shape in fused_mbconv(width):
        yield f"{name}.weight", f"{timm_name}.weight", f"{path}/vars/0", shape


def reduce_size(width, new_width):
    yield from under("", "conv_block.", "", convolutions(width))
    yield from layer("norm1", (width,), (width,))
    yield from layer("reduction", (new_width, width, 3, 3))
    yield from layer("norm2", (new_width,), (new_width,))


def block(i, width, hidden, heads, window, layer_scale):
    """The i-th block of a level; the odd ones are given their query."""
    if layer_scale:
        for j in (1, 2):
            yield f"gamma{j}", f"ls{j}.gamma", f"vars/{j - 1}", (width,)
    inner = (3 - i % 2) * width
    table = "relative_position_bias_table"
    shape = ((2 * window - 1) ** 2, heads)
    yield f"attn.{table}", f"attn.rel_pos.{table}", "attn/vars/0", shape
    for layers in (
        under(
            "attn.", "attn.", "attn/", layer("qkv", (inner, width), (inner,))
        ),
        under(
            "attn.", "attn.", "attn/", layer("proj", (width, width), (width,))
        ),
        under(
            "mlp.", "mlp.", "mlp/", layer("fc1", (hidden, width), (hidden,))
        ),
        under("mlp.", "mlp.", "mlp/", layer("fc2", (width, hidden), (width,))),
        layer("norm1", (width,), (width,)),
        layer("norm2", (width,), (width,)),
    ):
        yield from layers


def level(i, config, map_size, is_last):
    """The i-th level; timm gives its downsampling to the next one."""
    width = config["embed_dim"] * 2**i
    window = config["window_size"][i]
    hidden = int(width * config["mlp_ratio"])
    options = config["num_heads"][i], window, config.get("layer_scale")
    here = f"levels.{i}.", f"stages.{i}.", f"layers/{counted('level', i)}/"
    for j in range(config["depths"][i]):
        place = (
            f"blocks.{j}.",
            f"blocks.{j}.",
            f"blocks/{counted('block', j)}/",
        )
        part = block(j, width, hidden, *options)
        yield from under(*here, under(*place, part))
    for j in range(max(1, int(math.log2(map_size / window)))):
        place = (
            f"q_global_gen.to_q_global.{j}.",
            f"global_block.blocks.conv{j + 1}.",
            f"q_global_gen/to_q_global/{counted('feature_extraction', j)}/",
        )
        yield from under(*here, under(*place, convolutions(width)))
    if not is_last:
        place = "downsample.", f"stages.{i + 1}.downsample.", "down/"
        part = under(*place, reduce_size(width, 2 * width))
        yield from under(here[0], "", here[2], part)


def official_tensors(config, image_size):
    """Each tensor's name at NVIDIA, at timm and in Keras; PyTorch's shape."""
    width, last = config["embed_dim"], len(config["depths"]) - 1
    stem = "patch_embed.", "stem.", "layers/patch_embed/"
    conv = layer("proj", (width, 3, 3, 3), (width,))
    for name, timm_name, path, shape in under(*stem, conv):
        yield name, timm_name.replace("proj", "conv1"), path, shape
    place = "conv_down.", "down.", "conv_down/"
    yield from under(*stem, under(*place, reduce_size(width, width)))
    for i in range(last + 1):
        yield from level(i, config, image_size / 4 / 2**i, i == last)
    width *= 2**last
    for name, timm_name, path, shape in layer("norm", (width,), (width,)):
        path = path.replace("norm", "layers/layer_normalization")
        yield name, f"stages.{last}.{timm_name}", path, shape
    classes = config.get("num_classes", 1000)
    for name, _, path, shape in layer("head", (classes, width), (classes,)):
        yield name, name.replace("head", "head.fc"), path, shape


def timm_shape(name, shape):
    """timm's squeeze and excitation is made of 1×1 convolutions."""
    return (*shape, 1, 1) if ".se." in name else shape


def test_the_names_are_those_of_the_files(stored):
    tensors = list(official_tensors(stored.config, 224))
    assert {name: shape for name, _, _, shape in tensors} == {
        name: array.shape for name, array in stored.nvidia.items()
    }
    assert {
        name: timm_shape(name, shape) for _, name, _, shape in tensors
    } == {name: array.shape for name, array in stored.timm.items()}
    assert {path for _, _, path, _ in tensors} == set(stored.keras)
    assert len(tensors) == len(stored.keras)


def translated(names_and_shapes, replacements):
    """Translate PyTorch's names and shapes; sorted, nothing merged."""
    found = []
    for name, shape in names_and_shapes:
        name = translate(name, replacements)
        array = np.broadcast_to(np.float32(0), shape)
        found.append((name, keras_axes(name, array).shape))
    return sorted(found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_name_of_every_variant_is_known(variant):
    config = VARIANTS[variant]
    image_size = 32 * config["window_size"][-1]
    model = gcvit.GCViT.from_variant(variant)
    with keras.StatelessScope(initialize_variables=False):
        model.build((None, image_size, image_size, 3))
        weights = named_weights(model)
    assert {id(w) for w in weights.values()} == {id(w) for w in model.weights}
    wanted = sorted((name, tuple(w.shape)) for name, w in weights.items())
    tensors = list(official_tensors(config, image_size))
    nvidia = [(name, shape) for name, _, _, shape in tensors]
    timm = [(name, timm_shape(name, shape)) for _, name, _, shape in tensors]
    paths = [translate(path, KERAS_NAMES) for _, _, path, _ in tensors]
    assert translated(nvidia, NVIDIA_NAMES) == wanted
    assert translated(timm, TIMM_NAMES) == wanted
    assert sorted(paths) == sorted(weights)


# === Fetching ===


def whole(handler, content):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def too_short(handler, content):
    """Announce all of it, send half, and end politely."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def cut(handler, content):
    """Send half, then reset the connection."""
    too_short(handler, content)
    handler.wfile.flush()
    linger = struct.pack("ii", 1, 0)  # close() resets, and sends nothing
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def cut_chunks(handler, content):
    """Send half as a chunk that is not the last, and end."""
    half = content[: len(content) // 2]
    handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))


def half(handler, content):
    """Send half as if it were all, as a proxy does that was cut."""
    whole(handler, content[: len(content) // 2])


def half_without_length(handler, content):
    """Send half without saying how much there is."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def damaged(handler, content):
    """Send one byte in the middle wrong."""
    middle = len(content) // 2
    byte = bytes([content[middle] ^ 1])
    whole(handler, content[:middle] + byte + content[middle + 1 :])


def missing(handler, content):
    handler.send_error(404)


def page(handler, content):
    """Send the page that asks to sign in."""
    whole(handler, b"<!DOCTYPE html><html>Sign in</html>")


def hang(handler, content):
    """Answer late: patience would be rewarded, after 20 seconds."""
    if not handler.server.finished.wait(20):
        whole(handler, content)


def hang_midway(handler, content):
    too_short(handler, content)
    handler.wfile.flush()
    handler.server.sent_half.set()
    if not handler.server.finished.wait(20):
        handler.wfile.write(content[len(content) // 2 :])


def redirect(handler, content):
    """Send elsewhere, where it is."""
    if handler.path.startswith("/elsewhere/"):
        return whole(handler, content)
    handler.send_response(302)
    handler.send_header("Location", f"/elsewhere{handler.path}")
    handler.end_headers()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files[self.path.rsplit("/", 1)[1]]
        self.server.answer(self, content)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def published(reference, stored, tmp_path_factory):
    """A file of the small model from each source: its name and content."""
    folder = tmp_path_factory.mktemp("published")
    # Their content tells what they are, so that no test here needs PyTorch.
    forms = {"nvidia": "nvidia-safetensors", "timm": "timm-safetensors"}
    files = {"keras.io": ("gcvitxxtiny.keras", stored.checkpoint.read_bytes())}
    for source, form in forms.items():
        content = write(stored, form, folder).read_bytes()
        digits = hashlib.sha256(content).hexdigest()[:8]
        name = {
            "nvidia": "gcvit_1k_xxtiny.pth.tar",
            "timm": f"gcvit_xxtiny_224_nvidia-{digits}.pth",
        }[source]
        files[source] = (name, content)
    return files


@pytest.fixture
def site(published, stored, tmp_path, monkeypatch):
    """A mirror on this machine; the small model plays XXTiny.

    `answer` is how it answers, `requests` what it was asked for, and `cache`
    the folder in which downloads are kept.
    """
    timm_name, _ = published["timm"]
    keras_name, keras_content = published["keras.io"]
    address = f"https://example.org/weights/{timm_name}"
    monkeypatch.setitem(VARIANTS, "xxtiny", stored.config)
    monkeypatch.setitem(CHECKPOINTS["xxtiny"], "timm", address)
    monkeypatch.setitem(BYTES, keras_name, len(keras_content))
    monkeypatch.setattr(pretrained, "TIMEOUT", 0.5)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(77)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files = dict(published.values())
    server.requests = []
    server.answer = whole
    server.finished, server.sent_half = threading.Event(), threading.Event()
    server.cache = tmp_path / "keras" / "gcvit"
    server.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("GCVIT_WEIGHTS", server.address)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.finished.set()
    server.shutdown()
    server.server_close()
    thread.join()
    assert socket.getdefaulttimeout() == 77
    socket.setdefaulttimeout(before)


def assert_a_whole_site_helps(site, source, model):
    """The next call fetches the file, if the site is in order again."""
    site.answer = whole
    site.requests.clear()
    assert same_weights(from_pretrained("xxtiny", source=source), model)
    assert len(site.requests) == 1


SOURCES = pytest.mark.parametrize("source", ["keras.io", "nvidia", "timm"])


@ONE_MODEL
@SOURCES
@pytest.mark.parametrize("answer", [whole, redirect])
def test_a_file_is_fetched_once(answer, source, site, published, stored):
    site.answer = answer
    name, content = published[source]
    model = from_pretrained("xxtiny", source=source)
    assert same_weights(model, stored.model)
    assert site.requests[0] == f"/{name}"
    assert [path.name for path in site.cache.iterdir()] == [name]
    assert (site.cache / name).read_bytes() == content
    site.requests.clear()
    model = from_pretrained("xxtiny", source=source)
    assert same_weights(model, stored.model)
    assert site.requests == []


@ONE_MODEL
@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("nvidia", too_short),
        ("nvidia", cut),
        ("nvidia", cut_chunks),
        ("nvidia", missing),
        ("nvidia", hang),
        ("nvidia", hang_midway),
        ("keras.io", half),
        ("keras.io", page),
        ("timm", half_without_length),
        ("timm", damaged),
    ],
)
def test_a_failed_download_leaves_nothing(
    source, answer, site, published, stored
):
    site.answer = answer
    name, _ = published[source]
    with pytest.raises((OSError, ValueError)) as error:
        from_pretrained("xxtiny", source=source)
    assert len(site.requests) == 1
    assert list(site.cache.iterdir()) == []
    place = str(site.cache / name)
    for help in (f"{site.address}/{name}", place, "GCVIT_WEIGHTS", '"nano"'):
        assert help in str(error.value)
    assert socket.getdefaulttimeout() == 77
    assert_a_whole_site_helps(site, source, stored.model)


@ONE_MODEL
@pytest.mark.parametrize("answer", [half, half_without_length, page])
def test_what_no_publisher_vouches_for_is_read_first(answer, site, stored):
    # NVIDIA publishes no size and no hash: only reading tells.
    site.answer = answer
    with pytest.raises(ValueError, match="gcvit_1k_xxtiny.*was deleted"):
        from_pretrained("xxtiny", source="nvidia")
    assert list(site.cache.iterdir()) == []
    assert_a_whole_site_helps(site, "nvidia", stored.model)


@ONE_MODEL
def test_nothing_listens(site, stored, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("GCVIT_WEIGHTS", address)
        with pytest.raises(OSError) as error:
            from_pretrained("xxtiny")
    place = str(site.cache / "gcvitxxtiny.keras")
    for help in (f"{address}/gcvit", place, "GCVIT_WEIGHTS", '"nano"'):
        assert help in str(error.value)
    assert list(site.cache.iterdir()) == []
    monkeypatch.setenv("GCVIT_WEIGHTS", site.address)
    assert_a_whole_site_helps(site, "keras.io", stored.model)


@ONE_MODEL
def test_a_killed_download_is_not_taken_for_the_file(site, stored):
    site.answer = hang_midway
    code = (
        "from gcvit import pretrained\n"
        "pretrained.find(pretrained.checkpoint_address('xxtiny', 'nvidia'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert site.sent_half.wait(timeout=300)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (site.cache / "gcvit_1k_xxtiny.pth.tar").exists()
    assert_a_whole_site_helps(site, "nvidia", stored.model)


@ONE_MODEL
@SOURCES
def test_a_damaged_file_in_the_cache_is_deleted(
    source, site, published, stored
):
    name, content = published[source]
    site.cache.mkdir(parents=True)
    path = site.cache / name
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is truncated.*was deleted") as error:
        from_pretrained("xxtiny", source=source)
    assert str(path) in str(error.value)
    assert not path.exists()
    assert site.requests == []
    assert_a_whole_site_helps(site, source, stored.model)


@ONE_MODEL
def test_your_own_damaged_file_is_not_deleted(
    site, published, tmp_path, monkeypatch
):
    name, content = published["keras.io"]
    path = tmp_path / name
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is truncated") as error:
        from_pretrained("xxtiny", weights_path=path)
    assert "was deleted" not in str(error.value)
    monkeypatch.setenv("GCVIT_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="is truncated") as error:
        from_pretrained("xxtiny")
    assert "was deleted" not in str(error.value)
    assert path.read_bytes() == content[: len(content) // 2]
    assert site.requests == []


@ONE_MODEL
def test_a_file_is_not_deleted_for_a_package_that_is_absent(
    site, stored, monkeypatch
):
    from_pretrained("xxtiny", source="nvidia")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "safetensors", None)
        with pytest.raises(ImportError):
            from_pretrained("xxtiny", source="nvidia")
    assert len(list(site.cache.iterdir())) == 1


def no_network(*arguments, **options):
    raise AssertionError("the network was asked")


@ONE_MODEL
@SOURCES
def test_a_folder_takes_the_place_of_the_network(
    source, site, published, stored, tmp_path, monkeypatch
):
    name, content = published[source]
    monkeypatch.setenv("GCVIT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(keras.utils, "get_file", no_network)
    with pytest.raises(FileNotFoundError) as error:
        from_pretrained("xxtiny", source=source)
    address = CHECKPOINTS["xxtiny"][source]
    for help in (address, str(tmp_path / name), "GCVIT_WEIGHTS", '"nano"'):
        assert help in str(error.value)
    (tmp_path / name).write_bytes(content)
    model = from_pretrained("xxtiny", source=source)
    assert same_weights(model, stored.model)


@ONE_MODEL
def test_the_cache_as_your_own_folder_is_your_own(
    site, published, monkeypatch
):
    name, content = published["keras.io"]
    site.cache.mkdir(parents=True)
    monkeypatch.setenv("GCVIT_WEIGHTS", str(site.cache))
    with pytest.raises(FileNotFoundError):
        from_pretrained("xxtiny")
    (site.cache / name).write_bytes(content[:-1])
    with pytest.raises(ValueError, match="is truncated"):
        from_pretrained("xxtiny")
    assert (site.cache / name).read_bytes() == content[:-1]
    assert site.requests == []


@pytest.mark.parametrize("variant", ["xxtiny", "large_21k_512"])
def test_without_settings_the_publisher_is_asked(
    variant, tmp_path, monkeypatch
):
    asked = []

    def get_file(name, address, **options):
        asked.append((name, address))
        raise OSError("refused")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.delenv("GCVIT_WEIGHTS", raising=False)
    with pytest.raises(OSError) as error:
        from_pretrained(variant)
    address = next(iter(CHECKPOINTS[variant].values()))
    name = address.rsplit("/", 1)[1]
    assert asked == [(name, address)]
    assert str(tmp_path / ".keras" / "gcvit" / name) in str(error.value)


def test_the_wait_is_half_a_minute():
    assert pretrained.TIMEOUT == 30


# === Which checkpoints there are ===

NVIDIA = "https://huggingface.co/nvidia/GCViT/resolve/main/gcvit_"
TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download"
TIMM_HASHES = {
    "xxtiny": "d1d86009",
    "xtiny": "274b92b7",
    "tiny": "ac783954",
    "small": "4e98afa2",
    "base": "f009139b",
}


def test_the_addresses_are_the_published_ones():
    assert set(VARIANTS) - set(CHECKPOINTS) == {"large_21k"}
    assert set(CHECKPOINTS) <= set(VARIANTS)
    assert CHECKPOINTS["nano"] == {"book": "nano.weights.h5"}
    for variant, sources in CHECKPOINTS.items():
        if variant == "nano":
            continue
        file = variant.replace("large_21k", "21k_large")
        file = file if "21k" in file else f"1k_{file}"
        expected = {"nvidia": f"{NVIDIA}{file}.pth.tar"}
        if variant == "xxtiny":
            expected["keras.io"] = (
                "https://github.com/awsaf49/gcvit-tf/releases/download/v1.1.6/"
                "gcvitxxtiny.keras"
            )
        if variant in TIMM_HASHES:
            expected["timm"] = (
                f"{TIMM}/v0.1-weights-morevit/gcvit_{variant}_224_nvidia-"
                f"{TIMM_HASHES[variant]}.pth"
            )
        assert sources == expected
        default = "keras.io" if variant == "xxtiny" else "nvidia"
        assert next(iter(sources)) == default
    assert BYTES == {"gcvitxxtiny.keras": 48_767_519}


@pytest.mark.parametrize(
    ("arguments", "seen", "listed"),
    [
        ({"variant": "xxxtiny"}, "'xxxtiny'", ["nano", "xxtiny", "base"]),
        ({"variant": "large_21k"}, "'large_21k'", ["large", "large_21k_384"]),
        (
            {"variant": "xxtiny", "source": "google"},
            "'google'",
            ["keras.io, nvidia, timm"],
        ),
        ({"variant": "tiny2", "source": "timm"}, "'timm'", ["nvidia"]),
        ({"variant": "nano", "source": "nvidia"}, "'nvidia'", ["book"]),
    ],
)
def test_what_does_not_exist_is_said(arguments, seen, listed, monkeypatch):
    monkeypatch.setattr(keras.utils, "get_file", no_network)
    with pytest.raises(ValueError) as error:
        from_pretrained(**arguments)
    for text in (seen, *listed):
        assert text in str(error.value)


# === Other image sizes and classes ===


def keys(distance):
    """Keys's cubic with a = -0.5."""
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def bicubic(image, size):
    """Resize (height, width, channels) in float64; pixels are centred."""
    image = np.asarray(image, "float64")
    for axis, new in enumerate(size):
        old = image.shape[axis]
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        distances = abs(centres[:, None] - np.arange(old))
        weights = keys(distances / max(old / new, 1))
        weights /= weights.sum(axis=1, keepdims=True)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


def resized(table, old, new):
    """What `resize_bias_table` should give, windows being pairs."""
    image = np.reshape(table, (2 * old[0] - 1, 2 * old[1] - 1, -1))
    image = bicubic(image, (2 * new[0] - 1, 2 * new[1] - 1))
    return image.reshape(-1, image.shape[-1])


WINDOWS = [
    (7, 12),
    (14, 32),
    ((7, 7), (8, 10)),
    ((2, 5), (5, 3)),
    (12, 7),
    (7, 7),
    (1, 3),
]


@pytest.mark.parametrize(("old", "new"), WINDOWS)
def test_tables_are_resized_bicubically(old, new):
    h, w = np.broadcast_to(old, 2)
    table = np.random.default_rng(0).normal(
        size=((2 * h - 1) * (2 * w - 1), 3)
    )
    table = table.astype("float32")
    result = ops.convert_to_numpy(resize_bias_table(table, old, new))
    expected = resized(table, (h, w), np.broadcast_to(new, 2))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_a_resized_table_keeps_its_shape():
    constant = np.full((13 * 13, 2), 0.7, "float32")
    result = ops.convert_to_numpy(resize_bias_table(constant, 7, (8, 10)))
    assert result.shape == (15 * 19, 2)
    np.testing.assert_allclose(result, 0.7, rtol=0, atol=1e-6)
    # Linear in the vertical distance, which is 0 in the middle.
    linear = np.repeat(np.arange(-6.0, 7.0), 13)[:, None].astype("float32")
    result = ops.convert_to_numpy(resize_bias_table(linear, 7, (8, 10)))
    rows = result.reshape(15, 19)
    np.testing.assert_allclose(rows, -rows[::-1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(rows, rows[:, :1].repeat(19, 1), atol=1e-5)
    assert (np.diff(rows[:, 0]) > 0.1).all()


SIZES = {
    224: (7, 7, 14, 7),
    384: (12, 12, 24, 12),
    512: (16, 16, 32, 16),
    (256, 320): ((8, 10), (8, 10), (16, 20), (8, 10)),
}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_windows_grow_with_the_image(size):
    assert scale_windows((7, 7, 14, 7), 224, size) == SIZES[size]
    assert scale_windows((7, 7, 14, 7), (224, 224), size) == SIZES[size]
    assert scale_windows(SIZES[size], size, 224) == (7, 7, 14, 7)


@pytest.mark.parametrize(
    ("windows", "old", "new", "text"),
    [
        ((7, 7, 14, 7), 224, 230, "height must be a multiple of 32"),
        ((7, 7, 14, 7), 224, (224, 250), "width of 32"),
        (((2, 3), (4, 6)), (32, 48), 56, "width of 16"),
        ((7, 14), (224, 448), 112, "height must be a multiple of 32"),
        ((7, 14), (224, 448), 96, "width of 64"),
        ((7, 7, 14, 7), 224, 0, "image_size=0"),
        ((7, 7, 14, 7), 224, 224.5, "image_size=224.5"),
    ],
)
def test_a_size_that_does_not_work_is_named(windows, old, new, text):
    with pytest.raises(ValueError) as error:
        scale_windows(windows, old, new)
    assert text in str(error.value)
    assert f"image_size={new}" in str(error.value)


def assert_scaled(model, original, size):
    """All weights are the original's, but the tables, which are resized."""
    height, width = np.broadcast_to(size, 2)
    assert model.window_size == SIZES[size]
    assert model.image_shape == (height, width, 3)
    weights, originals = named_weights(model), named_weights(original)
    assert set(weights) == set(originals)
    tables = [name for name in weights if name.endswith("bias_table")]
    assert len(tables) == sum(model.depths)
    for name, weight in weights.items():
        expected = ops.convert_to_numpy(originals[name])
        if name in tables:
            i = int(name.split(".")[1])
            windows = original.window_size[i], model.window_size[i]
            pairs = [np.broadcast_to(window, 2) for window in windows]
            expected = resized(expected, *pairs)
        tolerance = 1e-5 if name in tables else 0
        np.testing.assert_allclose(
            ops.convert_to_numpy(weight),
            expected,
            rtol=0,
            atol=tolerance,
            err_msg=name,
        )


@ONE_MODEL
@pytest.mark.parametrize("size", [384, 512, (256, 320)], ids=str)
def test_a_model_at_another_size(size, stored, run, monkeypatch):
    monkeypatch.setitem(VARIANTS, "xxtiny", stored.config)
    model = from_pretrained(
        "xxtiny", image_size=size, weights_path=stored.checkpoint
    )
    assert_scaled(model, stored.model, size)
    height, width = np.broadcast_to(size, 2)
    images = np.random.default_rng(0).normal(size=(1, height, width, 3))
    answer = ops.convert_to_numpy(run(model, images.astype("float32")))
    assert answer.shape == (1, 10)
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer.sum(), 1, rtol=1e-5)


def test_a_size_that_the_stem_rounds_up_stays_itself():
    model = tiny_model((30, 30), window_size=(4, 4))
    assert same_weights(at_image_size(model, 30), model)
    with pytest.raises(ValueError, match="multiple of 15"):
        at_image_size(model, 32)


@ONE_MODEL
def test_the_same_size_changes_nothing(stored, monkeypatch):
    monkeypatch.setitem(VARIANTS, "xxtiny", stored.config)
    options = {"weights_path": stored.checkpoint}
    for size in (None, 224, (224, 224)):
        model = from_pretrained("xxtiny", image_size=size, **options)
        assert same_weights(model, stored.model)
        assert model.image_shape == (224, 224, 3)
        assert model.window_size == (7, 7, 14, 7)
    copy = at_image_size(stored.model, 224)
    assert copy is not stored.model
    assert copy.get_config() == stored.model.get_config()
    assert_scaled(copy, stored.model, 224)


@ONE_MODEL
def test_a_size_that_does_not_work_is_not_fetched_for(site):
    with pytest.raises(ValueError, match="multiple of 32"):
        from_pretrained("xxtiny", image_size=250)
    assert site.requests == []


@ONE_MODEL
@pytest.mark.parametrize("size", [224, (256, 320)], ids=str)
def test_other_classes_at_another_size(size, site, stored):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # it was asked for
        model = from_pretrained("xxtiny", num_classes=3, image_size=size)
    assert model.num_classes == 3
    assert model.head.kernel.shape == (64, 3)
    assert same_weights(model.patch_embed, stored.model.patch_embed)
    assert same_weights(
        model.levels[3].blocks[0].mlp, stored.model.levels[3].blocks[0].mlp
    )


# === From a photo to an answer ===

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def normalised(pixels):
    return (np.asarray(pixels, "float64") / 255 - MEAN) / STD


def prepared(*arguments):
    return ops.convert_to_numpy(preprocess(*arguments))


def assert_close(seen, expected, tolerance=1e-5):
    assert seen.dtype == "float32"
    assert seen.shape == expected.shape
    np.testing.assert_allclose(seen, expected, rtol=0, atol=tolerance)


def photo(height, width):
    """Random pixels: each step of resizing overshoots somewhere."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (height, width, 3), dtype="uint8")


def test_one_colour_stays_one_colour():
    image = np.empty((40, 60, 3), "uint8")
    image[:] = [255, 128, 0]
    expected = np.broadcast_to(normalised([255, 128, 0]), (1, 224, 224, 3))
    assert_close(prepared(image), expected)


def test_an_image_of_the_right_size_is_not_resampled():
    images = np.stack([photo(48, 64), photo(48, 64)[::-1]])
    assert_close(prepared(images, (48, 64)), normalised(images))


def middle(image, size):
    """Cut out the largest piece of a size's proportions."""
    height, width = image.shape[:2]
    h = min(height, width * size[0] // size[1])
    w = min(width, height * size[1] // size[0])
    top, left = (height - h) // 2, (width - w) // 2
    return image[top : top + h, left : left + w]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((90, 60), (32, 32)),
        ((45, 121), (60, 60)),
        ((20, 20), (32, 32)),
        ((50, 90), (32, 48)),
    ],
    ids=str,
)
def test_the_middle_of_a_photo_is_resized_bicubically(shape, size):
    image = photo(*shape)
    pixels = np.clip(bicubic(middle(image, size), size), 0, 255)
    expected = normalised(pixels)[None]
    assert_close(prepared(image, size), expected, 1e-4)
    assert_close(prepared(image.astype("float32"), size), expected, 1e-4)
    tensor = ops.convert_to_tensor(image)
    assert_close(prepared(tensor, size), expected, 1e-4)


def test_one_photo_is_a_batch_of_one():
    images = np.stack([photo(50, 70), photo(50, 70)[:, ::-1]])
    together = prepared(images, 32)
    assert together.shape == (2, 32, 32, 3)
    for i in range(2):
        np.testing.assert_array_equal(prepared(images[i], 32)[0], together[i])


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((8, 8), "uint8"), "(8, 8)"),
        (np.zeros((8, 8, 4), "uint8"), "(8, 8, 4)"),
        (np.zeros((1, 3, 8, 8), "uint8"), "(1, 3, 8, 8)"),
        (np.zeros((1, 1, 8, 8, 3), "uint8"), "(1, 1, 8, 8, 3)"),
        (np.full((8, 8, 3), 0.5), "from 0 to 255"),
        (np.ones((8, 8, 3), "float32"), "from 0 to 255"),
    ],
)
def test_what_is_no_photo_is_refused(images, text):
    with pytest.raises(ValueError) as error:
        preprocess(images)
    assert text in str(error.value)


def test_black_is_a_photo():
    expected = np.broadcast_to(normalised([0, 0, 0]), (1, 8, 8, 3))
    assert_close(prepared(np.zeros((8, 8, 3)), 8), expected)
    ones = np.ones((8, 8, 3), "uint8")
    expected = np.broadcast_to(normalised([1, 1, 1]), (1, 8, 8, 3))
    assert_close(prepared(ones, 8), expected)


@pytest.mark.parametrize("variant", ["xxtiny", "base", "large_21k"])
def test_the_classes_of_imagenet(variant):
    names = class_names(variant)
    assert len(names) == 1000
    known = {
        0: "tench",
        1: "goldfish",
        207: "golden retriever",
        281: "tabby",
        282: "tiger cat",
        285: "Egyptian cat",
        340: "zebra",
        999: "toilet tissue",
    }
    assert {i: names[i] for i in known} == known


def test_the_classes_of_cifar10():
    names = class_names("nano")
    expected = "airplane automobile bird cat deer dog frog horse ship truck"
    assert names == expected.split()
    names.clear()  # a caller's list is the caller's
    assert class_names("nano") == expected.split()


def test_an_unknown_variant_has_no_classes():
    with pytest.raises(ValueError, match="xxxtiny.*nano"):
        class_names("xxxtiny")


def test_predictions_are_decoded_in_order():
    names = ["ant", "bee", "cat", "dog"]
    predictions = ops.convert_to_tensor(
        [[0.1, 0.2, 0.5, 0.25], [0.75, 0.0, 0.125, 0.0625]]
    )
    assert decode_predictions(predictions, names, top=2) == [
        [("cat", 0.5), ("dog", 0.25)],
        [("ant", 0.75), ("cat", 0.125)],
    ]
    everything = decode_predictions(predictions, names)
    assert [len(row) for row in everything] == [4, 4]
    assert [name for name, _ in everything[1]] == ["ant", "cat", "dog", "bee"]
    assert type(everything[0][0][1]) is float


@pytest.mark.parametrize("shape", [(2, 3), (4,), (1, 2, 4)], ids=str)
def test_each_class_needs_a_name(shape):
    with pytest.raises(ValueError, match="4 names") as error:
        decode_predictions(np.zeros(shape), ["ant", "bee", "cat", "dog"])
    assert str(shape) in str(error.value)
