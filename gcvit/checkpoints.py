"""Checkpoints: reading files by their content, and loading all or nothing.

Five formats are read: Keras's `.keras` and `.weights.h5`, PyTorch's archives
and its older pickles, and safetensors. A file's name says little, its first
bytes say what it is. A PyTorch file is a pickle, which can run any code when
it is read; PyTorch is asked to refuse everything but arrays.
"""

import argparse
import contextlib
import os
import pickle
import re
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

from gcvit import limits, saved_models, stored_tensors
from gcvit.arguments import boolean, file_path
from gcvit.sizes import level_windows, size_pair, smallest_image_shape

# === Each format ===


def read_keras(path, take=lambda dataset: dataset[()]):
    """Read the weights in a `.keras` or `.weights.h5` file.

    Args:
        path: the file.
        take: what to take of each, a function of an `h5py.Dataset`.

    Returns:
        A dict: name inside the file to what was taken. What an optimizer or a
        random number generator left there does not count.

    Raises:
        ValueError: if the file would have others read, or asks for more memory
            than its weights need.
    """
    with contextlib.ExitStack() as stack:
        file = path
        if zipfile.is_zipfile(path):
            # Unpacked: HDF5 jumps about, which a compressed file cannot.
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            archive = stack.enter_context(limits.archive(path))
            file = archive.extract("model.weights.h5", folder)
        file = stack.enter_context(h5py.File(file))
        return {
            name: take(dataset)
            for name, dataset in stored_tensors.datasets(file, path).items()
            if not {"optimizer", "seed_generator"} & set(name.split("/"))
        }


def shape_of(dataset):
    return dataset.shape


def unpickle(path):
    """Read what is in a PyTorch file, and run no code that is in it."""
    try:
        import torch
        from torch.serialization import safe_globals
    except ImportError as error:
        raise ImportError(
            f"{path} is a PyTorch file. Reading it takes PyTorch 2.5 or "
            "newer, under any Keras backend: pip install torch."
        ) from error
    stored_tensors.check_pytorch(path)
    try:
        # Training scripts store their options next to the weights.
        with safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{path} is truncated or corrupted, or wants to run code"
            f"{' of ' + code[1] if code else ''}. It was refused."
        ) from error


# Where scripts keep weights: those of the last step, and those averaged over
# many, mostly as exponential moving averages (EMA).
LIVE = ("state_dict", "model")
AVERAGED = ("state_dict_ema", "model_ema")


def no_averaged(path, names):
    """Give the error for a file without averaged weights."""
    names = [repr(name) for name in names]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ValueError(
        f"{path} holds no averaged weights, so averaged=True does not work. "
        f"It holds {', '.join(names[:3]) or 'nothing'}{more}. averaged=False "
        "loads the weights in it."
    )


def choose_weights(stored, path, averaged):
    """Choose between live and averaged weights.

    Args:
        stored: what is in a PyTorch file, a dict.
        path: the file, for the error and the warning.
        averaged: whether the averaged ones are wanted, a bool.

    Returns:
        The live ones unless others are wanted, with a warning if there are
        both; the averaged ones if there are no others; everything if neither
        has a key of its own.

    Raises:
        ValueError: if the averaged ones are wanted, and there are none.
    """
    live = [key for key in LIVE if isinstance(stored.get(key), dict)]
    ema = [key for key in AVERAGED if isinstance(stored.get(key), dict)]
    if averaged and not ema:
        raise no_averaged(path, stored)
    if live and ema and not averaged:
        warnings.warn(
            f"{path} holds live weights, in {live[0]!r}, and averaged ones, "
            f"in {ema[0]!r}. The live ones were taken; "
            "gcvit.load_checkpoint(model, path, averaged=True) takes the "
            "others.",
            stacklevel=5,  # who called load_checkpoint
        )
    keys = ema if averaged else live + ema
    return stored[keys[0]] if keys else stored


def read_pytorch(path, averaged=False):
    """Read the weights in a `.pth` or `.pth.tar` file.

    They may lie on top, or under a key in `LIVE` or `AVERAGED`; which of them,
    `choose_weights` says.
    """
    stored = unpickle(path)
    if isinstance(stored, dict):
        stored = choose_weights(stored, path, averaged)
    if not isinstance(stored, dict) or not all(
        isinstance(name, str) and hasattr(tensor, "detach")
        for name, tensor in stored.items()
    ):
        raise ValueError(f"{path} is a PyTorch file, but holds no weights.")
    tensors = {name: tensor.detach() for name, tensor in stored.items()}
    stored_tensors.check_tensors(tensors.values(), path)
    return {
        # NumPy has no bfloat16 of its own.
        name: (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()
        for name, x in tensors.items()
    }


def read_safetensors(path):
    """Read the weights in a `.safetensors` file."""
    try:
        from safetensors import deserialize
    except ImportError as error:
        raise ImportError(
            f"{path} is a safetensors file. Reading it takes a package: "
            "pip install safetensors."
        ) from error
    stored_tensors.check_safetensors(path)
    dtypes = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    dtypes |= {"F64": "float64", "I64": "int64"}
    arrays = {}
    for name, tensor in deserialize(Path(path).read_bytes()):
        if tensor["dtype"] not in dtypes:
            raise ValueError(
                f"{path} holds {name} in {tensor['dtype']}; weights are in "
                f"{', '.join(dtypes)}."
            )
        array = np.frombuffer(tensor["data"], dtypes[tensor["dtype"]])
        arrays[name] = array.reshape(tensor["shape"])
    return arrays


# === Any format ===


def reader_of(path):
    """Tell what reads a file, by its first bytes.

    Returns:
        `read_keras`, `read_pytorch` or `read_safetensors`.

    Raises:
        ValueError: if none of them does, or the file is an archive that is
            cut off, or whose names or sizes are not those of a checkpoint.
    """
    with open(path, "rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":  # after eight bytes of length, which can be any
        return read_safetensors
    if start.startswith(b"\x89HDF"):
        return read_keras
    if start.startswith(b"\x80"):
        return read_pytorch
    names = []
    if start.startswith(b"PK"):
        with limits.archive(path) as archive:
            names = archive.namelist()
    if "model.weights.h5" in names:
        return read_keras
    if any(name.endswith("data.pkl") for name in names):
        return read_pytorch
    raise ValueError(
        f"{path} is not a checkpoint: it starts like no Keras, PyTorch or "
        "safetensors file."
    )


@contextlib.contextmanager
def damage_named(path):
    """Turn what the libraries raise for a damaged file into a `ValueError`."""
    try:
        yield
    except (ImportError, MemoryError, Warning):
        raise
    except Exception as error:  # each library has its own
        if getattr(error, "errno", None):  # a full disk, say
            raise
        if isinstance(error, ValueError) and str(path) in str(error):
            raise  # it is from here, and says more
        said = str(error) or type(error).__name__
        raise ValueError(
            f"{path} is truncated or corrupted: {said}"
        ) from error


def read(path, averaged=False):
    """Read the weights in a checkpoint, whatever its format.

    Args:
        path: a Keras, PyTorch or safetensors file, under any name.
        averaged: whether averaged weights are wanted, a bool; only PyTorch's
            files have them.

    Returns:
        Whether the names and axes are Keras's, a bool, and a dict from names
        in the file to arrays.

    Raises:
        ImportError: if the format takes a package that is not installed.
        ValueError: if the file is none of these, damaged, or without averaged
            weights where they are wanted.
        OSError: if there is no such file.
    """
    path = file_path("path", path)
    averaged = boolean("averaged", averaged)
    with damage_named(path):
        reader = reader_of(path)
        if reader is read_pytorch:
            arrays = read_pytorch(path, averaged)
        else:
            arrays = reader(path)
    if averaged and reader is not read_pytorch:
        raise no_averaged(path, arrays)
    for name, array in arrays.items():
        if array.dtype.kind == "V":  # how HDF5 stores a bfloat16
            arrays[name] = array.view("bfloat16")
    return reader is read_keras, arrays


# What lies around a model when it is saved: PyTorch's wrappers for several
# devices and for compiling, and the classes of those who train it.
WRAPPERS = re.compile(r"((module|model|backbone|_orig_mod)\.)*")


def without_prefix(arrays):
    """Take off what wrappers put before all names in a file; a new dict.

    What only some of the names have stays.
    """
    shared = WRAPPERS.match(os.path.commonprefix(list(arrays)))[0]
    return {name.removeprefix(shared): arrays[name] for name in arrays}


def stored_shapes(path):
    """Read the names and shapes of the weights in a Keras checkpoint.

    Raises:
        ValueError: if it is another kind of file, or damaged.
    """
    path = file_path("path", path)
    with damage_named(path):
        if reader_of(path) is not read_keras:
            raise ValueError(
                f"{path} is not a checkpoint of Keras. "
                "gcvit.load_checkpoint(model, path) reads it."
            )
        return read_keras(path, shape_of)


def shapes_when_saved(layer):
    """Give the names and shapes that a layer's weights have in a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.weights.h5"
        keras.saving.save_weights(layer, path)
        return read_keras(path, shape_of)


def load_model(path, kind):
    """Load the model in a `.keras` file, to answer and not to train.

    Nothing that the file names is made before all its names and sizes have
    been checked.

    Args:
        path: the file.
        kind: what it must be, a class that is registered with Keras.

    Returns:
        A model that is not compiled.

    Raises:
        ValueError: if the file holds something else, names what could run
            code, asks for more memory than its weights need, or is damaged.
        OSError: if there is no such file.
    """
    path = file_path("model", path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not a file. A .keras file of model.save would work."
        )
    with damage_named(path):
        saved_models.check(path, kind)
        read_keras(path, shape_of)  # raises for what is not all there
        return keras.saving.load_model(path, compile=False, safe_mode=True)


# === Another configuration ===


def stored_windows(path):
    """Read the windows of the model that a checkpoint was saved from.

    Returns:
        A list of (height, width) pairs; `None` where the file does not say,
        as all but `.keras` files, or calls something else `window_size`.
    """
    if not zipfile.is_zipfile(path):
        return None
    with limits.archive(path) as archive:
        stored = limits.config_of(archive, path)
    config = stored.get("config") if isinstance(stored, dict) else None
    windows = config.get("window_size") if isinstance(config, dict) else None
    try:
        return list(map(size_pair, level_windows("window_size", windows)))
    except ValueError:
        return None


def check_windows(window_size, path):
    """Check that a checkpoint was saved from a model with the same windows.

    Tables of windows that are turned have one shape. So shapes do not tell.

    Args:
        window_size: one window for each level, ints or pairs.
        path: a file; if it does not know its windows, they pass.

    Raises:
        ValueError: if the windows differ, or the file is damaged.
    """
    path = file_path("path", path)
    with damage_named(path):
        windows = stored_windows(path)
    if windows not in (None, list(map(size_pair, window_size))):
        raise ValueError(
            f"{path} was saved with windows of {windows}, this model has "
            f"window_size={window_size}. Nothing was loaded."
        )


def only_in(one, other):
    """List the first weights that one dict of shapes has and another not."""
    extra = sorted(one.items() - other.items())
    names = ", ".join(f"{name} {shape}" for name, shape in extra[:5])
    more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
    return (names or "nothing") + more


def unnamed(model, weights):
    """List weights that have no name, as those of LoRA, by Keras's path.

    Args:
        model: a built model.
        weights: those that are named, variables.

    Returns:
        A dict from paths to shapes.
    """
    known = {id(weight) for weight in weights}
    others = [weight for weight in model.weights if id(weight) not in known]
    return {weight.path: tuple(weight.shape) for weight in others}


def has_other_classes(found, wanted):
    """Whether a file is for another number of classes than a model.

    Args:
        found: names, as in `named_weights`, and shapes in the file, a dict.
        wanted: those of the model.

    Returns:
        A bool; `False` if the heads differ in more than that.
    """
    kernel = found.get("head.kernel", ())
    wanted_kernel = wanted.get("head.kernel", ())
    return (
        kernel[:1] == wanted_kernel[:1]
        and kernel[1:] == found.get("head.bias")
        and kernel != wanted_kernel
    )


def check_same(found, wanted, path, advice=""):
    """Check that a file holds just a model's weights.

    Args:
        found: names and shapes in the file, a dict.
        wanted: those of the model.
        path: the file, for the error.
        advice: what would work, a sentence.

    Raises:
        ValueError: if they differ; it names the first five of each side.
    """
    if found != wanted:
        raise ValueError(
            f"{path} holds the weights of another configuration. "
            f"Only in the file: {only_in(found, wanted)}. "
            f"Only in the model: {only_in(wanted, found)}. "
            f"Nothing was loaded. {advice}".rstrip()
        )


# === All or nothing ===


@contextlib.contextmanager
def all_or_nothing(model):
    """Put every variable of a model back if what happens inside fails."""
    variables = list(model.variables)
    if getattr(model, "optimizer", None) is not None:
        variables += model.optimizer.variables
    # Copies: on some backends an array shares the variable's memory.
    before = [np.array(keras.ops.convert_to_numpy(x)) for x in variables]
    try:
        yield
    except BaseException:  # the user's interrupt, too
        for variable, value in zip(variables, before):
            variable.assign(value)
        raise


@contextlib.contextmanager
def load_whole(model, path, skip_mismatch):
    """Let Keras's own loader load a whole file, or nothing.

    Args:
        model: a model with `window_size` and `image_shape`.
        path: a `.keras` or `.weights.h5` file.
        skip_mismatch: whether what does not fit is passed over.

    Yields:
        The path, for the loader.

    Raises:
        ValueError: if the model is not built; without `skip_mismatch`, also if
            the file is of another kind or from another configuration.
    """
    path = file_path("filepath", path)
    if not model.built:
        shape = (None, *smallest_image_shape(model.window_size))
        raise ValueError(
            f"cannot load {path} yet: the model has no variables. Build it "
            f"for the size of your images first, such as model.build({shape})."
        )
    with all_or_nothing(model):
        if skip_mismatch:
            yield path
            return
        if not path.name.endswith((".keras", ".weights.h5")):
            raise ValueError(
                f"{path} is neither a .keras nor a .weights.h5 file. "
                "gcvit.load_checkpoint(model, path) goes by the content."
            )
        check_windows(model.window_size, path)
        found = stored_shapes(path)
        advice = "With skip_mismatch=True, what fits is loaded."

        def check():
            check_same(found, shapes_when_saved(model), path, advice)

        if len(found) != len(model.weights):  # Keras minds no left-overs
            check()
        try:
            yield path
        except ValueError:  # Keras knows one weight; name all that differ
            check()
            raise
