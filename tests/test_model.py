"""The model: its logits, variants, files, precision, training and errors."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import ops
from official import PARAMETERS

import gcvit
from gcvit import check

# Two levels are enough for everything but the official numbers.
TINY = {
    "window_size": (4, 4),
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "num_classes": 5,
}
SHAPE = (None, 32, 32, 3)


def tiny(shape=SHAPE, **changes):
    """A small model, built, none of its weights at a special value."""
    model = gcvit.GCViT(**{**TINY, **changes})
    model.build(shape)
    generator = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(generator.normal(0, 0.3, weight.shape))
    return model


def photos(batch=2, height=32, width=32):
    """Fixed random images."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(batch, height, width, 3)).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def tensors(file):
    """All arrays in an HDF5 file, by path."""
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(file) as stored:
        stored.visititems(keep)
    return arrays


@pytest.fixture(scope="module")
def answer(run):
    """What the small model answers for the fixed images."""
    return numpy(run(tiny(), photos()))


def assert_same_weights(weights, others):
    assert len(weights) == len(others)
    for weight, other in zip(weights, others):
        np.testing.assert_array_equal(weight, other)


# === The official numbers ===


def test_official_logits(reference, images, run):
    expected = reference.answers["logits_f64"]
    two = numpy(run(reference.model, images))
    assert two.dtype == "float32"
    assert check.difference(two, expected) < check.TOLERANCE
    one = numpy(run(reference.model, images[:1]))
    # The deviation is that of both images, also for the first alone.
    difference = np.abs(one - expected[:1]).max() / expected.std()
    assert difference < check.TOLERANCE
    # The tolerance keeps the known mistakes out.
    mistakes = {
        name: check.difference(two, answer)
        for name, answer in reference.answers.items()
        if name.startswith("logits_bug_")
    }
    assert len(mistakes) == 5
    assert min(mistakes.values()) > 100 * check.TOLERANCE


@pytest.mark.parametrize("reference", ["ref_small"], indirect=True)
def test_feature_maps(reference, images, run):
    inputs = keras.Input((224, 224, 3))
    graph = keras.Model(inputs, reference.model.feature_maps(inputs))
    maps = run(graph, images[:1])
    shapes = {name: tuple(x.shape) for name, x in maps.items()}
    assert shapes == {
        "stem": (1, 56, 56, 8),
        "level_0": (1, 28, 28, 16),
        "level_1": (1, 14, 14, 32),
        "level_2": (1, 7, 7, 64),
        "level_3": (1, 7, 7, 64),
    }
    expected = reference.answers["final_map_f64"][:1]
    difference = check.difference(maps["level_3"], expected)
    assert difference < check.TOLERANCE


def test_checkpoint_is_used_to_the_last_tensor(reference, tmp_path):
    """Every array of the file is in the model, under the same path."""
    with zipfile.ZipFile(reference.checkpoint) as archive:
        official = tensors(io.BytesIO(archive.read("model.weights.h5")))
    reference.model.save_weights(tmp_path / "own.weights.h5")
    own = tensors(tmp_path / "own.weights.h5")
    assert len(official) == len(reference.model.weights)
    assert set(own) == set(official)
    for path, array in official.items():
        np.testing.assert_array_equal(own[path], array, err_msg=path)


@pytest.fixture
def build_without_values():
    """Builds variants whose variables have shapes and take no memory.

    In a stateless scope, Keras creates variables and puts off their values.
    Clearing the session afterwards makes it forget that they are due.
    """

    def build(name):
        model = gcvit.GCViT.from_variant(name)
        side = 32 * gcvit.VARIANTS[name]["window_size"][-1]
        with keras.StatelessScope(initialize_variables=False):
            model.build((None, side, side, 3))
        return model

    yield build
    keras.utils.clear_session(free_memory=False)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_variant(name, build_without_values):
    model = build_without_values(name)
    assert model.count_params() == PARAMETERS[name]


def test_every_variant_is_counted():
    assert list(gcvit.VARIANTS) == ["nano", *PARAMETERS]


def test_what_the_counts_do_not_show():
    """Drop rates, and where the layer scale starts."""
    rates = {name: x["path_drop"] for name, x in gcvit.VARIANTS.items()}
    assert rates == {
        "nano": 0.0,
        "xxtiny": 0.2,
        "xtiny": 0.2,
        "tiny": 0.2,
        "tiny2": 0.25,
        "small": 0.3,
        "small2": 0.35,
        "base": 0.5,
        "large": 0.5,
        "large_21k": 0.5,
        "large_21k_384": 0.1,
        "large_21k_512": 0.1,
    }
    for name, arguments in gcvit.VARIANTS.items():
        scale = None if "tiny" in name or name == "nano" else 1e-5
        assert arguments.get("layer_scale") == scale, name


def test_parameters_of_xxtiny_line_by_line(build_without_values):
    model = build_without_values("xxtiny")
    counts = [layer.count_params() for layer in model.layers]
    assert [count for count in counts if count] == [
        45_632,  # patch embedding
        180_964,
        688_456,
        5_170_608,
        5_395_744,
        1_024,  # the last normalization
        513_000,  # head
    ]
    assert len(model.weights) == 226


def test_variant_with_other_arguments():
    model = gcvit.GCViT.from_variant("xxtiny", num_classes=5, path_drop=0.0)
    config = model.get_config()
    assert config["num_classes"] == 5
    assert config["path_drop"] == 0.0
    assert config["embed_dim"] == 64
    assert gcvit.VARIANTS["xxtiny"]["path_drop"] == 0.2


def test_unknown_variant():
    with pytest.raises(ValueError, match="xxtiny.*large_21k_512"):
        gcvit.GCViT.from_variant("huge")


def test_blocks_alternate_and_drop_more_and_more():
    model = gcvit.GCViT(
        window_size=(4, 4),
        embed_dim=8,
        depths=(3, 2),
        num_heads=(1, 2),
        drop_rate=0.1,
        attention_dropout=0.2,
        path_drop=0.4,
    )
    model.build(SHAPE)
    levels = [x for x in model.layers if isinstance(x, gcvit.Level)]
    blocks = [block for level in levels for block in level.blocks]
    kinds = [block.global_query for block in blocks]
    assert kinds == [False, True, False, False, True]
    rates = [block.path_drop for block in blocks]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])
    assert {block.dropout for block in blocks} == {0.1}
    assert {block.attention_dropout for block in blocks} == {0.2}


# === Building and calling ===


def test_build_makes_every_variable_once():
    model = gcvit.GCViT(**TINY)
    model.build(SHAPE)
    built = [id(variable) for variable in model.variables]
    values = model.get_weights()
    model.build(SHAPE)
    model(keras.Input(SHAPE[1:]))
    assert [id(variable) for variable in model.variables] == built
    assert_same_weights(model.get_weights(), values)


def test_any_batch_size_and_no_look_at_the_neighbours():
    """One graph for all batches; on JAX and TensorFlow a compiled one."""
    graph = tiny(head_activation=None).build_graph()
    x = photos(3)
    three = graph.predict(x, verbose=0)
    assert three.shape == (3, 5)
    alone = graph.predict(x[1:2], verbose=0)
    assert check.difference(alone, three[1:2]) < check.TOLERANCE
    # The same image between other neighbours.
    between = graph.predict(x[[2, 1, 0]], verbose=0)
    assert check.difference(between[[2, 1, 0]], three) < check.TOLERANCE


def test_graph_has_the_weights_of_the_model(answer, run):
    model = tiny()
    graph = model.build_graph()
    assert {id(x) for x in graph.weights} == {id(x) for x in model.weights}
    assert check.difference(run(graph, photos()), answer) < check.TOLERANCE


def test_channels_first_setting_changes_nothing(keras_settings, answer, run):
    keras.config.set_image_data_format("channels_first")
    np.testing.assert_array_equal(numpy(run(tiny(), photos())), answer)
    assert keras.config.image_data_format() == "channels_first"


@pytest.mark.parametrize(
    "changes",
    [
        {"num_heads": (3, 2)},
        {"embed_dim": 9, "num_heads": (2, 2)},
        {"depths": (2, 2, 2)},
        {"num_heads": (1, 2, 4)},
        {"window_size": (4, 4, 4)},
        {"drop_rate": 1.0},
        {"drop_rate": -0.1},
        {"attention_dropout": 1.5},
        {"attention_dropout": -0.1},
        {"path_drop": 1},
        {"path_drop": -0.1},
        {"num_classes": 0},
        {"num_classes": -3},
    ],
    ids=str,
)
def test_bad_arguments(changes):
    with pytest.raises(ValueError) as error:
        gcvit.GCViT(**{**TINY, **changes})
    for name, value in changes.items():
        assert f"{name}={value}" in str(error.value)


# === Files ===


OTHER = {
    "layer_scale": 0.5,
    "qkv_bias": False,
    "qk_scale": 0.2,
    "drop_rate": 0.1,
    "path_drop": 0.0,
    "head_activation": None,
}


@pytest.mark.parametrize(
    ("policy", "another", "changes"),
    [("mixed_bfloat16", "float32", {}), ("float32", "mixed_bfloat16", OTHER)],
)
def test_saved_model(policy, another, changes, tmp_path, keras_settings, run):
    """Bit by bit the same, whatever the policy is where it is loaded."""
    keras.config.set_dtype_policy(policy)
    model = tiny(**changes)
    expected = numpy(run(model, photos()))
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy(another)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is gcvit.GCViT
    assert loaded.dtype_policy.name == policy
    assert loaded.get_config() == model.get_config()
    assert_same_weights(loaded.get_weights(), model.get_weights())
    np.testing.assert_array_equal(numpy(run(loaded, photos())), expected)


def test_saved_weights(tmp_path):
    model, other = tiny(), gcvit.GCViT(**TINY)
    model.save_weights(tmp_path / "model.weights.h5")
    other.build(SHAPE)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_weights(other.get_weights(), model.get_weights())


def test_load_weights_before_build(tmp_path):
    path = tmp_path / "model.weights.h5"
    tiny().save_weights(path)
    for skip_mismatch in (False, True):
        with pytest.raises(ValueError, match=r"model\.build\("):
            gcvit.GCViT(**TINY).load_weights(path, skip_mismatch=skip_mismatch)


# What the file's model has, and what the message must name.
DIFFERENCES = [
    ({"embed_dim": 16}, "layers/layer_normalization/vars/0"),
    ({"depths": (1, 2)}, "level/blocks/block_1"),
    ({"depths": (2, 3)}, "level_1/blocks/block_2"),
    (
        {
            "depths": (2, 2, 1),
            "num_heads": (1, 2, 4),
            "window_size": (4, 4, 2),
        },
        "head/vars/0",
    ),
    ({"num_heads": (2, 2)}, "level/blocks/block/attn"),
    ({"window_size": (2, 4)}, "level/blocks/block/attn"),
    ({"layer_scale": 0.1}, "level/blocks/block/vars"),
    ({"qkv_bias": False}, "level/blocks/block/attn/qkv"),
    ({"mlp_ratio": 4.0}, "level/blocks/block/mlp"),
    ({"num_classes": 7}, "head"),
]


@pytest.fixture(scope="module")
def first():
    return tiny()


@pytest.mark.parametrize(("changes", "path"), DIFFERENCES, ids=str)
def test_weights_of_another_configuration(first, changes, path, tmp_path):
    """In both directions: the file has more, or it has less."""
    models = [first, tiny(**changes)]
    for model, other in (models, models[::-1]):
        other.save_weights(tmp_path / "other.weights.h5", overwrite=True)
        # Values that the file does not have.
        model.set_weights([weight + 1 for weight in model.get_weights()])
        before = model.get_weights()
        with pytest.raises(ValueError, match=path):
            model.load_weights(tmp_path / "other.weights.h5")
        assert_same_weights(model.get_weights(), before)


def test_whole_model_of_another_configuration(tmp_path):
    tiny(num_classes=7).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match=r"head/vars/0 \(16, 7\)"):
        tiny().load_weights(tmp_path / "other.keras")


def test_weights_of_the_functional_graph(tmp_path):
    """Their names differ: they are loaded, or there is an error."""
    tiny().build_graph().save_weights(tmp_path / "graph.weights.h5")
    model = gcvit.GCViT(**TINY)
    model.build(SHAPE)
    try:
        model.load_weights(tmp_path / "graph.weights.h5")
    except ValueError:
        return
    assert_same_weights(model.get_weights(), tiny().get_weights())


# === Mixed precision ===


def test_mixed_precision(answer, run):
    model = tiny(dtype="mixed_bfloat16")
    maps = model.feature_maps(keras.KerasTensor((None, 32, 32, 3)))
    assert {x.dtype for x in maps.values()} == {"bfloat16"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    probabilities = run(model, photos())
    dtype = keras.backend.standardize_dtype(probabilities.dtype)
    assert dtype == "float32"
    probabilities = numpy(probabilities)
    # A softmax in bfloat16 would miss 1 by some thousandths.
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    wide = [
        layer.name
        for layer in model._flatten_layers(include_self=False)
        if layer.compute_dtype != "bfloat16"
    ]
    assert len(wide) == 1
    assert 0 < np.abs(probabilities - answer).max() < 0.2


# === Training ===

# PyTorch's compiler needs a C++ compiler on the machine; JAX without its own
# takes half a minute for a step, so only its calls are tested without.
JIT_COMPILE = {"tensorflow": [False, True], "jax": [True], "torch": [False]}


@pytest.mark.parametrize("jit_compile", JIT_COMPILE[keras.backend.backend()])
def test_training(jit_compile):
    """One step moves every weight, stays finite, and lowers the loss."""
    keras.utils.set_random_seed(0)
    model = gcvit.GCViT(
        window_size=(4,),
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        num_classes=3,
        drop_rate=0.1,
        attention_dropout=0.1,
        path_drop=0.1,
        layer_scale=0.5,
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        "sparse_categorical_crossentropy",
        jit_compile=jit_compile,
    )
    x, y = photos(4), np.array([0, 1, 2, 1])

    def loss():
        return -np.log(model.predict(x, verbose=0)[range(4), y]).mean()

    first = loss()
    before = model.get_weights()
    step = model.train_on_batch(x, y)
    # The same images and weights: only what is dropped makes a difference.
    assert abs(step - first) > 1e-3
    for weight, old in zip(model.weights, before):
        new = numpy(weight)
        assert np.isfinite(new).all(), weight.path
        assert (new != old).any(), weight.path
    assert loss() < first


# === The published example's code ===


def test_published_usage(capsys, tmp_path):
    """Its calls, one by one; one level, so that JAX compiles less."""
    config = {
        "window_size": (28,),
        "embed_dim": 8,
        "depths": (2,),
        "num_heads": (2,),
        "mlp_ratio": 3.0,
        "path_drop": 0.2,
    }
    path = tmp_path / "published.keras"
    published = gcvit.GCViT(**config)
    published.build((None, 224, 224, 3))
    published.save(path)

    model = gcvit.GCViT(**config)
    inp = ops.array(np.random.uniform(size=(1, 224, 224, 3)))
    out = model(inp)
    assert tuple(out.shape) == (1, 1000)
    model.load_weights(path)
    assert_same_weights(model.get_weights(), published.get_weights())
    model.summary((224, 224, 3))
    printed = capsys.readouterr().out
    assert "(None, 56, 56, 8)" in printed
    assert "?" not in printed
    assert f"{model.count_params():,}" in printed
    graph = model.build_graph()
    assert graph.input_shape == (None, 224, 224, 3)
    assert graph.output_shape == (None, 1000)


def test_published_fine_tuning(tmp_path):
    """Another number of classes: everything but the head is loaded."""
    path = tmp_path / "published.keras"
    published = tiny()
    published.save(path)
    stored = published.get_weights()
    model = gcvit.GCViT(**{**TINY, "num_classes": 104})
    model.build(SHAPE)
    before = model.get_weights()
    with pytest.warns(UserWarning):
        model.load_weights(path, skip_mismatch=True)
    heads = {id(weight) for weight in model.head.weights}
    expected = [
        old if id(weight) in heads else new
        for weight, old, new in zip(model.weights, before, stored)
    ]
    assert_same_weights(model.get_weights(), expected)


def test_summary_of_a_built_model(capsys):
    model = tiny()
    model.summary()
    printed = capsys.readouterr().out
    assert "(None, 4, 4, 16)" in printed
    assert "?" not in printed
    assert f"{model.count_params():,}" in printed


# === Imports ===


def test_import_needs_keras_and_numpy_alone():
    """Not even what Keras itself may have imported already."""
    code = """
import json, sys
import keras

backend = keras.backend.backend()
needless = {"jax", "tensorflow", "torch"} - {backend}
needless |= {"matplotlib", "scipy", "skimage", "tensorflow_datasets"}
for name in list(sys.modules):
    if name.split(".")[0] in needless:
        sys.modules[name] = None  # importing it is an error from here on
sys.modules.update(dict.fromkeys(needless))
before = set(sys.modules)
import gcvit

added = {name.split(".")[0] for name in set(sys.modules) - before}
added -= set(sys.stdlib_module_names) | {"keras", "numpy", backend}
print(json.dumps(sorted(added)))
"""
    root = Path(gcvit.__file__).parents[1]
    printed = subprocess.check_output(
        [sys.executable, "-c", code], text=True, cwd=root
    )
    assert json.loads(printed.splitlines()[-1]) == ["gcvit"]
