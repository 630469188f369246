"""Checkpoints of the reference models in every format, and fixtures."""

import argparse
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from helpers import numpy, stored_arrays
from safetensors import deserialize
from safetensors.numpy import save_file

import gcvit
from gcvit.pretrained import named_weights

try:
    import torch
except ImportError:  # as where one backend is tested alone
    torch = None

NEEDS_PYTORCH = pytest.mark.skipif(
    torch is None,
    reason="PyTorch is not installed here; make test-checkpoints has it",
)
NEEDS_LORA = pytest.mark.skipif(
    not hasattr(keras.layers.Dense, "enable_lora"),
    reason="this Keras has no LoRA",
)
DATA = Path(__file__).parent / "data"
# For tests to which it does not matter which of the two models it is.
ONE_MODEL = pytest.mark.parametrize("reference", ["ref_small"], indirect=True)
# From Keras's axes to PyTorch's, as in tests/data/README.md.
TO_PYTORCH = {
    "id": lambda array: array,
    "T": lambda array: array.T,
    "hwio": lambda array: array.transpose(3, 2, 0, 1),
    "hwio_dw": lambda array: array.transpose(2, 3, 0, 1),
}


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
    arrays = stored_arrays(reference.checkpoint)
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
    model.build((None, 224, 224, 3))
    return model


@pytest.fixture
def model(shared_model):
    """A built model like the reference, with none of its weights."""
    scramble(shared_model)
    return shared_model


def scramble(model):
    """Fill a model with a number that no reference weight is."""
    model.set_weights([np.full(w.shape, 0.123) for w in model.weights])


def assert_refused(model, path, *texts, **options):
    """Loading raises, says why, and leaves the model as it was."""
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        gcvit.load_checkpoint(model, path, **options)
    for text in (str(path), *texts):
        assert text in str(error.value)
    assert all(map(np.array_equal, before, model.get_weights()))


# === A tiny model of any precision ===

# One level, for 16 pixels.
TINY = {"shape": (None, 16, 16, 3), "window_size": (4,)}
TINY |= {"depths": (2,), "num_heads": (1,)}


def float64_on_jax():
    """JAX has float64 only where it is asked for."""
    if keras.backend.backend() != "jax":
        return nullcontext()
    import jax

    return jax.enable_x64(True)


def pytorch_axes(name, array):
    """The inverse of `keras_axes`."""
    if name.endswith("kernel"):
        is_depthwise = name.endswith("conv.0.kernel") and array.ndim == 4
        channels = (2, 3) if is_depthwise else (3, 2)
        array = (
            array.transpose(*channels, 0, 1) if array.ndim == 4 else array.T
        )
    return np.ascontiguousarray(array)


def save_as(model, ending, folder):
    """Save a model's weights in its own precision and under its own names."""
    path = folder / f"weights{ending}"
    if ending == ".keras":
        model.save(path)
        return path
    if ending == ".weights.h5":
        model.save_weights(path)
        return path
    arrays = {
        name: pytorch_axes(name, numpy(weight))
        for name, weight in named_weights(model).items()
    }
    if ending == ".safetensors":
        save_file(arrays, path)
        return path
    dtype = getattr(torch, model.variable_dtype)
    # PyTorch takes no bfloat16 of NumPy; float64 holds every other number.
    wide = {name: array.astype("float64") for name, array in arrays.items()}
    torch.save({n: torch.tensor(wide[n]).to(dtype) for n in wide}, path)
    return path


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


# === Damage ===


def with_damaged_config(content):
    """Flip one bit of the compressed config.json in a .keras file."""
    start = content.index(b"config.json") + len("config.json") + 20
    flipped = bytes([content[start] ^ 1])
    return content[:start] + flipped + content[start + 1 :]


def with_damaged_directory(content):
    """Spoil the signature of the last entry in a zip archive's directory."""
    start = content.rindex(b"PK\x01\x02")
    return content[:start] + b"PK\x01\x03" + content[start + 4 :]
