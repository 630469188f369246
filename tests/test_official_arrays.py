"""The stored arrays are what tools/official_arrays.py makes of the weights.

With a clone of https://github.com/NVlabs/GCVit, and PyTorch, also what the
official code makes of them:

    GCVIT_OFFICIAL=CLONE KERAS_BACKEND=torch .venv-torch/bin/python \
        -m pytest tests/test_official_arrays.py
"""

import json
import os
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from keras import ops

import gcvit
from gcvit import check
from gcvit.checkpoints import read_keras
from gcvit.pretrained import rename_keras

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import official_arrays as tool

NAMES = [f"tests/data/{name}_names.json" for name in tool.MODELS]
TIMM = [f"tests/data/{name}_timm_bf16.safetensors" for name in tool.MODELS]
ANSWERS = [f"tests/data/ref_{name}.npz" for name in tool.MODELS]
COMPONENTS = [model["components"] for model in tool.MODELS.values()]


@pytest.fixture(params=tool.MODELS)
def name(request):
    """A model's key in the tool's tables."""
    return request.param


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The tool writes into an empty copy of the folders."""
    for folder in ("gcvit/data", "tests/data"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    return tmp_path


# === The tables ===


def test_every_component_has_a_module_and_a_layer():
    assert tool.MODULES.keys() == check.COMPONENTS.keys()
    assert check.LAYERS.keys() == check.COMPONENTS.keys()
    assert len(set(tool.MODULES.values())) == len(tool.MODULES)


def test_files_hold_the_components_arrays():
    named = {
        array
        for inputs, output, _ in check.COMPONENTS.values()
        for array in (*inputs, output)
    }
    package, tests = (tool.read(path) for path in COMPONENTS)
    assert set(package) == named
    assert set(tests) == named - {"image", "logits"} | {"level_1_in"}


def test_the_stored_models_are_the_tools(name):
    stored = tool.read(f"tests/data/ref_{name}.npz")
    assert json.loads(str(stored["config"])) == tool.MODELS[name]["config"]
    mistakes = {key for key in stored if key.startswith("logits_bug_")}
    assert mistakes == {f"logits_bug_{key}" for key in tool.MISTAKES}


# === Names and weights ===


def test_names_are_derived_as_stored(name):
    stored = tool.read(f"tests/data/{name}_names.json")
    arrays = tool.read_checkpoint(name)
    names = tool.map_names(list(stored), arrays)
    assert tool.compare("names.json", stored, names) == (True, "equal")
    assert len(names) == len(arrays)


def test_names_that_do_not_fit_are_refused():
    names = list(tool.read(NAMES[0]))
    arrays = tool.read_checkpoint("small")
    last = arrays.popitem()[0]
    with pytest.raises(ValueError, match=f"model: .*{names[1]}"):
        tool.map_names([*names[:2]], {})
    with pytest.raises(ValueError, match="in the checkpoint: none"):
        tool.map_names(names, arrays)
    arrays |= {last: np.zeros(3), "extra/vars/0": np.zeros(3)}
    with pytest.raises(ValueError, match="in the checkpoint: extra/vars/0"):
        tool.map_names(names, arrays)


def test_timm_weights_are_derived_as_stored(name):
    names = tool.read(f"tests/data/{name}_names.json")
    weights = tool.official_weights(names, tool.read_checkpoint(name))
    path = f"tests/data/{name}_timm_bf16.safetensors"
    derived = tool.timm_weights(weights)
    assert tool.compare(path, tool.read(path), derived) == (True, "equal")


def test_wrong_timm_names_are_refused(monkeypatch):
    # timm counts the levels of the downsamplings from 1.
    monkeypatch.setattr(tool, "TO_TIMM", [("^levels", "stages")])
    weights = {"levels.1.downsample.norm1.bias": np.zeros(3)}
    with pytest.raises(ValueError, match="makes levels.0.down.norm1.beta of"):
        tool.timm_weights(weights)


def test_weights_are_exact_in_bfloat16(name):
    for path, array in tool.read_checkpoint(name).items():
        assert array.dtype == "float32"
        np.testing.assert_array_equal(tool.as_bfloat16(array), array, path)


def test_rounding_to_bfloat16():
    values = np.random.default_rng(0).normal(size=1000).astype("float32")
    # In the middle of two: to the even one, once down, once up.
    values = np.append(values, np.float32([1 + 2**-8, 1 + 3 * 2**-8, -0.0]))
    expected = values.astype(ml_dtypes.bfloat16).astype("float32")
    np.testing.assert_array_equal(tool.as_bfloat16(values), expected)
    assert not np.array_equal(values, expected)


def test_a_missing_checkpoint_is_made(elsewhere):
    path = tool.MODELS["small_ls"]["checkpoint"]
    tool.make_checkpoint("small_ls")
    made, stored = (
        rename_keras(read_keras(folder / path)) for folder in (elsewhere, ROOT)
    )
    assert made.keys() == stored.keys()
    for key, array in made.items():
        assert array.shape == stored[key].shape
        np.testing.assert_array_equal(tool.as_bfloat16(array), array, key)
        if array.size >= 500:  # else chance plays too large a part
            assert array.std() == pytest.approx(stored[key].std(), rel=0.15)
    ends = {key.rpartition(".")[2] for key in made}
    for end in ends - {"kernel"}:
        new, old = (
            np.concatenate([x[k].ravel() for k in x if k.endswith("." + end)])
            for x in (made, stored)
        )
        assert new.mean() == pytest.approx(old.mean(), abs=0.05), end
        assert new.std() == pytest.approx(old.std(), rel=0.15), end


# === Components ===


def as_official(component):
    """What the tool would see of a component: channels first, heads apart."""
    inputs, output = check.official(component)
    arrays = [
        array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
        for array in (*inputs, output)
    ]
    names = [*check.COMPONENTS[component][0], check.COMPONENTS[component][1]]
    for i, array in enumerate(arrays):
        if names[i] == "global_query_out":  # two heads
            heads = array.reshape(len(array), 2, -1, 49)
            arrays[i] = heads.transpose(0, 1, 3, 2)[:, np.newaxis]
    return arrays[:-1], arrays[-1]


@pytest.fixture
def seen():
    """What the official modules would receive and return."""
    return {tool.MODULES[key]: as_official(key) for key in tool.MODULES}


def test_components_arrays_are_stored_channels_last(seen):
    arrays = tool.component_arrays(seen)
    used = set()
    for component, (names, output, _) in check.COMPONENTS.items():
        inputs, expected = check.official(component)
        for key, array in zip((*names, output), (*inputs, expected)):
            np.testing.assert_array_equal(arrays[key], array, key)
            used.add(key)
    assert used == set(arrays)


def test_one_name_does_not_stand_for_two_arrays(seen):
    inputs, output = seen["levels.1"]
    seen["levels.1"] = ([inputs[0] + 1], output)
    with pytest.raises(ValueError, match="level: reduce_size_out stands for"):
        tool.component_arrays(seen)


def test_a_name_without_an_input_is_refused(seen):
    inputs, output = seen["levels.1.blocks.1"]
    seen["levels.1.blocks.1"] = (inputs[:1], output)
    with pytest.raises(ValueError, match="block_global has names for 2"):
        tool.component_arrays(seen)


def test_two_windows_of_each_image_are_stored(seen):
    attention = "levels.1.blocks.0.attn"
    inputs, output = seen[attention]
    # Three windows of the first image, then three of the second.
    three = [x[[0, 1, 1, 2, 3, 3]] for x in (*inputs, output)]
    seen[attention] = (three[:-1], three[-1])
    images = tool.read(tool.IMAGES)["x_u8"]
    package = tool.stored_components("small", seen, images)
    stored = tool.read(COMPONENTS[0])
    assert tool.compare(COMPONENTS[0], stored, package) == (True, "equal")
    tests = tool.stored_components("small_ls", seen, images)
    for name in ("window_attention_local_in", "window_attention_local_out"):
        np.testing.assert_array_equal(tests[name], stored[name])


@pytest.mark.parametrize("path", COMPONENTS)
def test_both_images_are_stored(path):
    """A batch of one hides what mixes a batch."""
    for name, array in tool.read(path).items():
        images = array.reshape(2, -1, *array.shape[1:])
        assert len(images[0]) == (2 if array.ndim == 3 else 1), name
        assert not np.array_equal(images[0], images[1]), name


# === Files ===


@pytest.mark.parametrize("path", [*NAMES, *ANSWERS, *COMPONENTS, *TIMM])
def test_files_are_written_as_they_are_read(path, elsewhere, monkeypatch):
    if path in TIMM:
        pytest.importorskip("torch", reason="bfloat16 is written with PyTorch")
    with monkeypatch.context() as patch:
        patch.setattr(tool, "ROOT", ROOT)
        content = tool.read(path)
    assert tool.read(path) is None
    tool.write(path, content)
    assert tool.compare(path, tool.read(path), content) == (True, "equal")
    if path in (*NAMES, *TIMM):  # what is compressed can differ
        same = (elsewhere / path).read_bytes() == (ROOT / path).read_bytes()
        assert same


def test_what_bfloat16_would_round_is_not_written(elsewhere):
    pytest.importorskip("torch", reason="bfloat16 is written with PyTorch")
    with pytest.raises(ValueError, match="x is not exact in bfloat16"):
        tool.write(TIMM[0], {"x": np.float32([1 + 2**-8])})
    assert not (elsewhere / TIMM[0]).exists()


@pytest.mark.parametrize("path", [*ANSWERS, *COMPONENTS, *TIMM])
def test_a_file_that_is_off_is_found(path):
    stored = tool.read(path)
    for key, array in stored.items():
        assert tool.tolerance(path, key, array) <= check.TOLERANCE
        changed = array.copy()
        if array.dtype.kind == "f":
            bound = tool.tolerance(path, key, array) * array.std()
            changed.flat[0] += max(2 * bound, 1e-3 * (bound == 0))
        else:
            changed = np.array("{}") if array.ndim == 0 else array + 1
        for wrong in (changed, array[..., np.newaxis], array.astype("O")):
            agrees, report = tool.compare(path, stored | {key: wrong}, stored)
            assert not agrees
            assert f"too far: {key} (" in report
    without = {k: x for k, x in stored.items() if k != key}
    for one, other, problem in (
        (without, stored, "not stored"),
        (stored, without, "nobody's"),
    ):
        report = f"equal; {problem}: {key}"
        assert tool.compare(path, one, other) == (False, report)
    assert tool.compare(path, None, stored) == (False, "missing")


def test_a_nan_is_off():
    far = {"x": np.array([0.0, np.nan])}
    assert not tool.compare("x.npz", far, {"x": np.array([0.0, 1.0])})[0]


def test_names_in_another_order_are_found():
    stored = tool.read(NAMES[0])
    turned = dict(reversed(stored.items()))
    assert turned == stored
    assert tool.compare(NAMES[0], turned, stored) == (False, "other names")


# === The command ===


def test_a_component_without_a_module_is_named(monkeypatch):
    monkeypatch.setitem(check.COMPONENTS, "extra", (["a"], "b", "/"))
    monkeypatch.setattr(sys, "argv", ["official_arrays.py", "clone"])
    with pytest.raises(SystemExit, match="^extra: in one of MODULES and"):
        tool.main()


def test_a_folder_that_is_no_clone_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["official_arrays.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="gc_vit.py is not there. Name the"):
        tool.main()


# === With the official code ===

CLONE = os.environ.get("GCVIT_OFFICIAL")
with_official_code = pytest.mark.skipif(
    not CLONE, reason="GCVIT_OFFICIAL names no clone of NVlabs/GCVit"
)


@with_official_code
def test_everything_stored_is_what_the_official_code_computes(
    monkeypatch, capsys
):
    arguments = ["official_arrays.py", CLONE, "--check"]
    monkeypatch.setattr(sys, "argv", arguments)
    tool.main()
    reports = capsys.readouterr().out.splitlines()
    paths = [line.partition(":")[0] for line in reports]
    assert sorted(paths) == sorted([*NAMES, *ANSWERS, *COMPONENTS, *TIMM])


@with_official_code
def test_a_new_component_can_be_proved():
    """The MLP of a block, of which nothing is stored."""
    module = "levels.1.blocks.0.mlp"
    arrays = tool.read_checkpoint("small")
    model = tool.import_official(CLONE).GCViT(**tool.MODELS["small"]["config"])
    names = tool.map_names(tool.weight_names(model), arrays)
    tool.load(model, tool.official_weights(names, arrays))
    images = (tool.read(tool.IMAGES)["x_u8"][:1].astype("float64") - 128) / 64
    (inputs,), expected = tool.observe(model, images, [module])[module]
    ours = check.LAYERS["block_local"]()
    check.parity(ours, "block_local")  # the official weights
    answer = ops.convert_to_numpy(ours.mlp(inputs.astype("float32")))
    assert isinstance(ours.mlp, gcvit.MLP)
    assert check.difference(answer, expected) < check.TOLERANCE
    for wrong, said in (("levels.9", "has no"), ("levels", "never calls")):
        with pytest.raises(ValueError, match=f"{said} {wrong}"):
            tool.observe(model, images, [wrong])
