"""Files are read by their content, and loaded whole or not at all."""

import os
import pickle
import re
import shutil
import struct
import sys
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from checkpoint_files import (
    FORMATS,
    NEEDS_LORA,
    NEEDS_PYTORCH,
    ONE_MODEL,
    PYTORCH_FORMATS,
    TINY,
    assert_refused,
    float64_on_jax,
    forms,
    save_as,
    scramble,
    tensors,
    torch,
    with_damaged_config,
    with_damaged_directory,
    with_index,
    write,
)
from helpers import numpy, same_weights, small_model
from keras import ops
from safetensors.numpy import save_file

import gcvit
from gcvit import load_checkpoint

# === Formats ===


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
    rounded = small_model(dtype="bfloat16")
    (rounded.save if ending == ".keras" else rounded.save_weights)(path)
    model = small_model()
    assert load_checkpoint(model, path) == len(model.weights)
    for weight, stored in zip(model.weights, rounded.weights, strict=True):
        expected = numpy(ops.cast(stored, "float32"))
        np.testing.assert_array_equal(numpy(weight), expected)


@ONE_MODEL
def test_an_unbuilt_model_is_built(stored):
    model = gcvit.GCViT(**stored.config)
    assert load_checkpoint(model, stored.checkpoint) == len(stored.keras)
    assert model.image_shape == (224, 224, 3)
    assert same_weights(model, stored.model)


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


# === What wrappers put before the names ===

PREFIXES = ["module.", "model.", "backbone.", "_orig_mod."]
PREFIXES += ["module._orig_mod.model.", "_orig_mod.module.", "model.model."]


def with_prefix(prefix, arrays):
    return {f"{prefix}{name}": array for name, array in arrays.items()}


@ONE_MODEL
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("family", ["nvidia", "timm"])
def test_what_all_names_start_with_is_taken_off(
    family, prefix, stored, model, tmp_path
):
    arrays = with_index(getattr(stored, family))
    path = tmp_path / "weights.safetensors"
    save_file(with_prefix(prefix, arrays), path)
    assert load_checkpoint(model, path) == len(stored.keras)
    assert same_weights(model, stored.model)


@ONE_MODEL
def test_an_index_without_a_prefix_does_not_matter(stored, model, tmp_path):
    path = tmp_path / "weights.safetensors"
    arrays = with_prefix("model.", stored.nvidia)
    index = {"relative_position_index": np.arange(4)}
    save_file(arrays | index, path)
    assert load_checkpoint(model, path) == len(stored.keras)
    assert same_weights(model, stored.model)


@ONE_MODEL
@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_some_names_start_with_stays(prefix, stored, model, tmp_path):
    path = tmp_path / "weights.safetensors"
    arrays = dict(stored.nvidia)
    arrays[f"{prefix}norm.weight"] = arrays.pop("norm.weight")
    save_file(arrays, path)
    assert_refused(
        model,
        path,
        f"in the file: {prefix}norm.gamma (64,).",
        "in the model: norm.gamma (64,).",
    )


@ONE_MODEL
def test_no_more_is_taken_off_than_all_names_have(stored, model, tmp_path):
    path = tmp_path / "weights.safetensors"
    arrays = with_prefix("model.", stored.nvidia)
    arrays["model.model.norm.weight"] = arrays.pop("model.norm.weight")
    save_file(arrays, path)
    assert_refused(model, path, "in the file: model.norm.gamma (64,).")


# === Live and averaged weights ===


def save_both(stored, path, live="state_dict", averaged="state_dict_ema"):
    """Save live weights and, as their average, weights that are 1 more."""
    more = {name: array + 1 for name, array in stored.nvidia.items()}
    content = {averaged: tensors(more), "epoch": 3}
    if live:
        content[live] = tensors(stored.nvidia)
    torch.save(content, path)


def assert_averaged(model, stored):
    for weight, live in zip(
        model.get_weights(), stored.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weight, live + 1)


BOTH = [
    ("state_dict", "state_dict_ema"),
    ("model", "model_ema"),
    ("model", "state_dict_ema"),
]


@ONE_MODEL
@NEEDS_PYTORCH
@pytest.mark.parametrize(("live", "averaged"), BOTH)
def test_live_weights_are_taken_and_said(
    live, averaged, stored, model, tmp_path
):
    path = tmp_path / "weights.pth"
    save_both(stored, path, live, averaged)
    text = f"'{live}'.*'{averaged}'.*live ones were taken.*averaged=True"
    with pytest.warns(UserWarning, match=text) as caught:
        assert load_checkpoint(model, path) == len(stored.keras)
    (warning,) = [w for w in caught if "live ones" in str(w.message)]
    assert str(path) in str(warning.message)
    assert warning.filename == __file__
    assert same_weights(model, stored.model)


ALONE = [
    (None, averaged, wanted)
    for averaged in ("state_dict_ema", "model_ema")
    for wanted in (False, True)
]


@ONE_MODEL
@NEEDS_PYTORCH
@pytest.mark.parametrize(
    ("live", "averaged", "wanted"),
    [*((*pair, True) for pair in BOTH), *ALONE],
)
def test_averaged_weights_are_taken_if_wanted_or_alone(
    live, averaged, wanted, stored, model, tmp_path
):
    path = tmp_path / "weights.pth"
    save_both(stored, path, live, averaged)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_checkpoint(model, path, averaged=wanted)
    assert_averaged(model, stored)


@ONE_MODEL
@NEEDS_PYTORCH
def test_a_key_without_weights_is_passed_over(stored, model, tmp_path):
    # The name of the architecture, say, and averaging that was off.
    path = tmp_path / "weights.pth"
    live = {"state_dict": tensors(stored.nvidia)}
    torch.save(live | {"model": "gcvit", "state_dict_ema": None}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_checkpoint(model, path)
    assert same_weights(model, stored.model)
    said = "It holds 'state_dict', 'model', 'state_dict_ema'. "
    assert_refused(model, path, said, averaged=True)
    averaged = {"state_dict_ema": tensors(stored.nvidia)}
    torch.save({"model": "gcvit"} | averaged, path)
    scramble(model)
    load_checkpoint(model, path)
    assert same_weights(model, stored.model)


@ONE_MODEL
@pytest.mark.parametrize(
    "form", forms("keras", "h5", "nvidia-safetensors", "nvidia")
)
def test_a_file_without_averaged_weights_is_refused(
    form, stored, model, tmp_path
):
    path = write(stored, form, tmp_path)
    names = stored.keras if form in ("keras", "h5") else stored.nvidia
    assert_refused(model, path, "no averaged weights", averaged=True)
    with pytest.raises(ValueError, match="It holds '(.+?)', .* more") as error:
        load_checkpoint(model, path, averaged=True)
    first = re.search("It holds '(.+?)'", str(error.value))[1]
    assert first in names or first.endswith("index")


@ONE_MODEL
@NEEDS_PYTORCH
def test_a_warning_that_is_an_error_is_no_damage(stored, model, tmp_path):
    path = tmp_path / "weights.pth"
    save_both(stored, path)
    before = model.get_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(UserWarning, match="live ones were taken"):
            load_checkpoint(model, path)
    assert all(map(np.array_equal, before, model.get_weights()))


@ONE_MODEL
@pytest.mark.parametrize("averaged", [None, "yes", 1], ids=repr)
def test_whether_averaged_is_a_bool(averaged, stored, model):
    options = {"averaged": averaged}
    with pytest.raises(ValueError, match=f"averaged={averaged!r} is neither"):
        load_checkpoint(model, stored.checkpoint, **options)


# === Files that are not checkpoints ===


@ONE_MODEL
@pytest.mark.parametrize(
    "damage", [with_damaged_config, with_damaged_directory]
)
def test_a_damaged_archive_is_refused(damage, stored, model, tmp_path):
    content = damage(stored.checkpoint.read_bytes())
    (tmp_path / "weights.keras").write_bytes(content)
    assert_refused(model, tmp_path / "weights.keras", "corrupted")


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


# === Precision ===

ENDINGS = [
    ".keras",
    ".weights.h5",
    ".safetensors",
    pytest.param(".pth", marks=NEEDS_PYTORCH),
]


def assert_rounded_once(model, original):
    """A model has another's values, each rounded to the weight's own dtype."""
    for weight, wide in zip(model.weights, original.weights, strict=True):
        found, expected = numpy(weight), numpy(wide).astype(weight.dtype)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=weight.path)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16"]
)
def test_values_keep_their_precision(dtype, ending, tmp_path):
    with float64_on_jax():
        original = small_model(**TINY, dtype=dtype)
        path = save_as(original, ending, tmp_path)
        for model_dtype in {dtype, "float64"}:
            model = small_model(**TINY, dtype=model_dtype)
            scramble(model)
            load_checkpoint(model, path)
            assert {str(x.dtype) for x in model.weights} == {model_dtype}
            assert_rounded_once(model, original)
        if ending in (".keras", ".weights.h5"):
            model = small_model(**TINY, dtype=dtype)
            scramble(model)
            model.load_weights(path)
            assert_rounded_once(model, original)


@pytest.mark.parametrize("ending", [".keras", ".safetensors"])
@pytest.mark.parametrize(
    "policy",
    ["float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16"],
)
def test_wider_values_are_rounded_to_the_model(policy, ending, tmp_path):
    with float64_on_jax():
        original = small_model(**TINY, dtype="float64")
        path = save_as(original, ending, tmp_path)
        model = small_model(**TINY, dtype=policy)
        dtypes = [weight.dtype for weight in model.weights]
        scramble(model)
        load_checkpoint(model, path)
        assert [weight.dtype for weight in model.weights] == dtypes
        assert_rounded_once(model, original)


# === Paths ===

LOADERS = pytest.mark.parametrize(
    "load", [load_checkpoint, gcvit.GCViT.load_weights]
)


@LOADERS
def test_a_path_can_start_at_home(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved = small_model(**TINY)
    saved.save_weights(tmp_path / "own.weights.h5")
    model = small_model(**TINY)
    scramble(model)
    load(model, "~/own.weights.h5")
    assert same_weights(model, saved)


@LOADERS
@pytest.mark.parametrize("path", [None, 3, b"w.keras"], ids=str)
def test_what_is_no_path_is_named(load, path):
    model = small_model(**TINY)
    with pytest.raises(ValueError, match="path=.* is not a path") as error:
        load(model, path)
    assert repr(path) in str(error.value)


@LOADERS
def test_a_folder_is_no_damaged_file(load, tmp_path):
    folder = tmp_path / "weights.keras"
    folder.mkdir()
    model = small_model(**TINY)
    with pytest.raises(OSError, match="(?i)directory") as error:
        load(model, folder)
    assert str(folder) in str(error.value)
    assert "corrupted" not in str(error.value)


# === The windows in a file ===


def with_config(path, text, folder):
    """Copy a .keras file, with another config.json."""
    changed = folder / "changed.keras"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            is_config = name == "config.json"
            new.writestr(name, text if is_config else old.read(name))
    return changed


@LOADERS
@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[]",
        "{}",
        '{"config": null}',
        '{"config": [7]}',
        '{"config": {"window_size": null}}',
        '{"config": {"window_size": "x"}}',
        '{"config": {"window_size": [0]}}',
        '{"config": {"window_size": 7}}',
        '{"config": {"window_size": {"a": 1}}}',
        '{"config": {"window_size": [[[4]]]}}',
        '{"config": {"window_size": [4]}}',
        '{"config": {"window_size": [[4, 4]]}}',
    ],
)
def test_what_names_no_windows_says_nothing_of_them(load, text, tmp_path):
    saved = small_model(**TINY)
    path = with_config(save_as(saved, ".keras", tmp_path), text, tmp_path)
    model = small_model(**TINY)
    scramble(model)
    load(model, path)
    assert same_weights(model, saved)


@LOADERS
@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe\xff", "[" * 100_000])
def test_a_config_that_cannot_be_read_is_damage(load, text, tmp_path):
    model = small_model(**TINY)
    path = with_config(save_as(model, ".keras", tmp_path), text, tmp_path)
    before = model.get_weights()
    with pytest.raises(ValueError, match="corrupted") as error:
        load(model, path)
    assert str(path) in str(error.value)
    assert all(map(np.array_equal, before, model.get_weights()))


# === One wording ===


@LOADERS
@pytest.mark.parametrize("depth", [1, 3])
def test_both_loaders_word_it_alike(load, depth, tmp_path):
    other = small_model(**TINY | {"depths": (depth,)})
    path = save_as(other, ".weights.h5", tmp_path)
    model = small_model(**TINY)
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        load(model, path)
    assert all(map(np.array_equal, before, model.get_weights()))
    text = (
        "{} holds the weights of another configuration. "
        "Only in the file: {}. Only in the model: {}. Nothing was loaded."
    )
    parts = text.replace("{}", "(.+)")
    found = re.match(parts.replace(". ", r"\. "), str(error.value))
    file, in_file, in_model = found.groups()
    assert file == str(path)
    assert ("nothing", "nothing") != (in_file, in_model)
    assert (in_file == "nothing") == (depth == 1)
    assert (in_model == "nothing") == (depth == 3)


@NEEDS_LORA
def test_keras_loads_into_lora(tmp_path):
    # A file of such a model has no other names than before.
    saved = small_model(**TINY)
    path = save_as(saved, ".weights.h5", tmp_path)
    model = small_model(**TINY)
    model.head.enable_lora(2)
    scramble(model)
    model.load_weights(path)
    np.testing.assert_allclose(
        numpy(model.head.kernel), numpy(saved.head.kernel)
    )


# === All or nothing ===


def compiled_model():
    """A model whose optimizer has a state."""
    model = small_model(**TINY)
    model.compile(keras.optimizers.SGD(0.5, momentum=0.5))
    model.optimizer.build(model.trainable_variables)
    for variable in model.optimizer.variables[2:]:  # not steps and rate
        variable.assign(np.full(variable.shape, 0.25))
    return model


def state(model):
    return [
        numpy(x).copy() for x in model.variables + model.optimizer.variables
    ]


def fail_at(number, error, monkeypatch):
    """Let only one assignment fail, counted from 1."""
    assign, calls = keras.Variable.assign, iter(range(1, 10_000))

    def assign_or_fail(variable, value):
        if next(calls) == number:
            raise error
        return assign(variable, value)

    monkeypatch.setattr(keras.Variable, "assign", assign_or_fail)


@LOADERS
@pytest.mark.parametrize(
    "error", [ValueError("no"), MemoryError(), KeyboardInterrupt()], ids=repr
)
@pytest.mark.parametrize("position", ["first", "middle", "last"])
def test_a_load_that_fails_changes_nothing(
    position, error, load, tmp_path, monkeypatch
):
    model = compiled_model()
    path = tmp_path / "weights.weights.h5"
    model.save_weights(path)
    scramble(model)
    for variable in model.optimizer.variables:
        variable.assign(np.ones(variable.shape))
    before, count = state(model), len(model.weights)
    number = {"first": 1, "middle": count // 2, "last": count}[position]
    fail_at(number, error, monkeypatch)
    # Keras's loader makes a ValueError of most others.
    with pytest.raises((type(error), ValueError)):
        load(model, path)
    assert all(map(np.array_equal, before, state(model)))


@LOADERS
def test_the_same_shapes_under_other_names_change_nothing(
    load, stored, model, tmp_path
):
    path = tmp_path / "weights.weights.h5"
    stored.model.save_weights(path)
    with h5py.File(path, "a") as file:
        file.move("layers/level_2", "layers/level_9")
    before = model.get_weights()
    with pytest.raises(ValueError, match="another configuration.*levels?.9"):
        load(model, path)
    assert all(map(np.array_equal, before, model.get_weights()))
