"""What a stranger's file asks for is bounded, and what it names is refused."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import bombs
import keras
import numpy as np
import pytest
from checkpoint_files import NEEDS_PYTORCH
from helpers import small_model

import gcvit
from gcvit import checkpoints, saved_models, variants

# NumPy is Keras's lightest backend; it borrows from JAX. TensorFlow alone takes
# more memory than any file should.
LIGHTEST = {"KERAS_BACKEND": "numpy"} if find_spec("jax") else {}
MOST = 500 if LIGHTEST else 1000  # MiB, of the whole process
# In a process of its own: each file's path, what
# was said of it, and the most memory that the process had by then, in MiB.
READ = """
import json, re, sys
from pathlib import Path
from gcvit import checkpoints, pictures
if sys.argv[1] == "torch":
    import torch
def peak():
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", text)[1]) / 1024
for path in map(Path, sys.argv[2:]):
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = peak()
    try:
        if path.suffix == ".png":
            pictures.decode(path)
        else:
            checkpoints.read(path)
        said = "it was read"
    except ValueError as error:
        said = str(error)
    print(json.dumps([str(path), said, before, peak()]))
"""


def peaks_of(kind, paths):
    """Let a process read files; give what READ prints of each."""
    done = subprocess.run(
        [sys.executable, "-c", READ, kind, *map(str, paths)],
        env=os.environ | LIGHTEST,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# === Checkpoints ===


@pytest.mark.parametrize(
    "kind", [pytest.param("torch", marks=NEEDS_PYTORCH), "other"]
)
def test_a_bomb_is_refused_in_little_memory(kind, tmp_path):
    paths = []
    for name, (ending, write) in bombs.BOMBS.items():
        if (kind == "torch") == (".pth" in ending):
            paths.append(tmp_path / f"{name}{ending}")
            write(paths[-1])
    found = peaks_of(kind, paths)
    assert len(found) == len(paths)
    for path, said, before, peak in found:
        print(f"{peak:.0f} MiB, {peak - before:.0f} more than before: {said}")
        assert path in said
        assert peak - before < 100
        assert peak < MOST


# === Pictures ===


def test_a_picture_too_large_is_refused_in_little_memory(tmp_path):
    pytest.importorskip("PIL", reason="Pillow reads the pictures")
    paths = []
    for name, make in bombs.PICTURES.items():
        paths.append(tmp_path / f"{name}.png")
        paths[-1].write_bytes(make())
    for path, said, before, peak in peaks_of("other", paths):
        print(f"{peak:.0f} MiB, {peak - before:.0f} more than before: {said}")
        assert f"{path} was refused" in said
        assert peak - before < 100
        assert peak < MOST


@pytest.fixture
def too_large(tmp_path):
    """A folder of two classes, with a picture that is too large in one."""
    pytest.importorskip("PIL", reason="Pillow reads the pictures")
    from picture_files import fill

    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "huge.png").write_bytes(bombs.png(30_000, 30_000))
    return tmp_path


def test_each_way_to_read_pictures_names_one_too_large(too_large):
    path = too_large / "a" / "huge.png"
    said = f"{path} was refused: it would have more than 179 million pixels"
    with pytest.raises(ValueError, match=said):
        gcvit.preprocess(path)
    with pytest.raises(ValueError, match=said):
        gcvit.preprocess([str(path)])
    with pytest.raises(ValueError, match="the picture was refused"):
        gcvit.preprocess(path.read_bytes())


def test_answers_name_a_picture_too_large(too_large):
    model, file = small_model((None, 32, 32, 3)), too_large / "answers.csv"
    gcvit.predict_folder(model, too_large, file)
    (row,) = [x for x in file.read_text().splitlines() if "huge" in x]
    assert row.startswith("a/huge.png,") and "179 million pixels" in row


def test_training_leaves_out_a_picture_too_large(too_large):
    pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")
    with pytest.warns(UserWarning, match=r"179 million pixels.*\(huge.png\)"):
        train, _, _ = gcvit.load_pictures(too_large, 8)
    ((path, reason),) = train.left_out
    assert path.name == "huge.png" and "179 million pixels" in reason


def test_tiles_may_be_a_little_larger_than_the_picture(tmp_path):
    pytest.importorskip("PIL", reason="Pillow reads the pictures")
    (tmp_path / "a.tiff").write_bytes(bombs.tiff(64, 1024))
    assert gcvit.preprocess(tmp_path / "a.tiff", 32).shape == (1, 32, 32, 3)


# === Models of strangers ===


def stored(**changes):
    """The configuration of a model whose file names something more."""
    return json.loads(bombs.config(**changes))


def keras_object(module, name, **config):
    return {"module": module, "class_name": name, "config": config}


FOREIGN = {
    "function": keras_object("os", "function") | {"config": "system"},
    "builtin": keras_object("builtins", "function") | {"config": "exec"},
    "fetch": keras_object("keras.utils", "function") | {"config": "get_file"},
    "dotted": keras_object("keras", "function") | {"config": "utils.get_file"},
    "lambda": keras_object("keras.layers", "Lambda"),
    "bytecode": keras_object(None, "__lambda__", value=["4wA=", None, None]),
    "layer": keras_object("keras.layers", "TFSMLayer", filepath="/tmp"),
    "typespec": keras_object("os", "__typespec__") | {"spec_name": "system"},
    "module": keras_object("antigravity", "Dense"),
    "policy": keras_object("antigravity", "MyDTypePolicy"),
    "named": keras_object("keras", "DTypePolicy") | {"class_name": ["x"]},
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("place", ["argument", "activation", "build"])
def test_what_could_run_code_is_refused(place, foreign, tmp_path):
    named = FOREIGN[foreign]
    if place == "build":
        config = stored()
        config["build_config"]["more"] = [{"deep": named}]
    else:
        name = "head_activation" if place == "activation" else "extra"
        config = stored(**{name: named})
    path = bombs.model_bomb(tmp_path / "a.keras", json.dumps(config).encode())
    with pytest.raises(ValueError, match="a.keras was refused: it names"):
        checkpoints.load_model(path, gcvit.GCViT)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("kind", [gcvit.GCViT, keras.Model])
@pytest.mark.parametrize(
    "top",
    [
        {"class_name": "Sequential", "module": "keras"},
        {"class_name": "system", "module": "os"},
        {"class_name": "function", "module": "os", "config": "system"},
        {"class_name": ["GCViT"]},
        {"class_name": None},
    ],
    ids=str,
)
def test_another_class_is_refused_before_it_is_made(top, kind, tmp_path):
    config = stored() | {"registered_name": None} | top
    path = bombs.model_bomb(tmp_path / "a.keras", json.dumps(config).encode())
    with pytest.raises(ValueError, match=f"a.keras holds a .*{kind.__name__}"):
        checkpoints.load_model(path, kind)


def test_a_model_with_a_lambda_is_refused(tmp_path):
    marker = tmp_path / "marker"
    name = str(marker)
    layer = keras.layers.Lambda(lambda x: (open(name, "w"), x)[1])
    model = keras.Sequential([keras.Input((2,)), layer])
    marker.unlink(missing_ok=True)
    model.save(tmp_path / "a.keras")
    for load in (gcvit.classify, gcvit.predict_folder):
        arguments = [tmp_path / "a.keras", tmp_path, tmp_path / "b.csv"]
        count = 2 if load is gcvit.classify else 3
        with pytest.raises(ValueError, match="a.keras holds a Sequential"):
            load(*arguments[:count])
    assert not marker.exists()


@pytest.mark.parametrize("name", bombs.MODELS)
def test_a_model_larger_than_its_file_is_not_made(name, tmp_path):
    path = bombs.model_bomb(tmp_path / "a.keras", bombs.MODELS[name])
    with pytest.raises(ValueError, match="a.keras was refused: its model"):
        checkpoints.load_model(path, gcvit.GCViT)


@pytest.mark.parametrize(
    "members", [{}, {"config.json": bombs.config()}, {"model.weights.h5": b""}]
)
def test_a_file_without_all_its_parts_is_refused(members, tmp_path):
    path = bombs.packed(tmp_path / "a.keras", members)
    with pytest.raises(ValueError, match="a.keras is not a whole .keras file"):
        checkpoints.load_model(path, gcvit.GCViT)


def test_a_model_of_ones_own_is_loaded(tmp_path):
    model = small_model(layer_scale=0.5, dtype="mixed_bfloat16")
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.save(tmp_path / "a.keras")
    loaded = checkpoints.load_model(tmp_path / "a.keras", gcvit.GCViT)
    assert loaded.get_config() == model.get_config()
    assert all(map(np.array_equal, loaded.get_weights(), model.get_weights()))


@pytest.mark.parametrize("variant", ["nano", "xxtiny", "tiny"])
def test_no_more_weights_are_expected_than_a_variant_has(variant):
    arguments = variants.ROWS[variant].arguments
    least = saved_models.least_weights(arguments)
    parameters = variants.ROWS[variant].parameters
    assert 0.5 * parameters < least <= parameters
