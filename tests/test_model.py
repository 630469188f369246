"""The model: official logits and maps, building, sizes, precision, imports."""

import collections
import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from checkpoint_files import NEEDS_LORA
from helpers import (
    DATA,
    PACKAGE_DATA,
    SHAPE,
    SMALL,
    numpy,
    random_images,
    randomize,
    same_arrays,
    same_weights,
    small_model,
    stored_arrays,
)

import gcvit
from gcvit import check
from gcvit.pretrained import named_weights
from tools import backends

# Enough for what each level does.
ONE = {"window_size": (4,), "depths": (2,), "num_heads": (1,)}


@pytest.fixture(scope="module")
def answer(run):
    """What the small model answers for the fixed images."""
    return numpy(run(small_model(), random_images()))


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


def test_the_front_page_shows_what_this_backend_answers(run):
    found, expected = backends.answers(run)
    rows = backends.stored_rows()
    name = backends.BACKENDS[keras.backend.backend()]
    assert list(rows) == [backends.OFFICIAL, *backends.BACKENDS.values()]
    answers = {backends.OFFICIAL: expected, name: found}
    for name, logits in answers.items():
        shown = np.array(rows[name].split(" | ")[1:-1], "float64")
        difference = np.abs(shown - logits[0, : backends.SHOWN]).max()
        assert difference / expected.std() < check.TOLERANCE, name
    said = float(rows[name].strip(" |\n").rpartition(" | ")[2])
    assert 0 < said < check.TOLERANCE


# === The maps of the levels ===


def stored_maps(reference):
    """The official maps of both images, each before it is halved."""
    stored = h5py.File(PACKAGE_DATA / "official_small.h5")
    if reference.config["layer_scale"] is not None:
        stored = np.load(DATA / "layers_small_ls.npz")
    with stored:
        return {
            "stem": stored["patch_embed_out"][()],
            "level_0": stored["reduce_size_in"][()],
            "level_1": stored["block_global_out"][()],
            "level_3": reference.answers["final_map_f64"],
        }


@pytest.fixture(scope="module")
def feature_maps(run):
    """The maps of a model, as arrays."""

    def compute(model, images):
        maps = run(model.feature_maps, images)
        return {name: numpy(x) for name, x in maps.items()}

    return compute


def test_feature_maps_are_the_official_ones(
    reference, images, feature_maps, run
):
    maps = feature_maps(reference.model, images)
    assert {name: x.shape for name, x in maps.items()} == {
        "stem": (2, 56, 56, 8),
        "level_0": (2, 56, 56, 8),
        "level_1": (2, 28, 28, 16),
        "level_2": (2, 14, 14, 32),
        "level_3": (2, 7, 7, 64),
    }
    answers = reference.answers
    far = {}
    for name, expected in stored_maps(reference).items():
        far[name] = check.difference(maps[name], expected)
    # Of level 2 there are three numbers, after its downsampling.
    halved = numpy(run(reference.model.levels[2].down, maps["level_2"]))
    found = [halved.mean(), halved.std(ddof=1), np.abs(halved).max()]
    far["level_2"] = np.abs(found - answers["stat_level2"]).max()
    assert {k: x for k, x in far.items() if not x < check.TOLERANCE} == {}


def test_level_goes_on_from_the_map_before(
    reference, images, feature_maps, run
):
    """The stored numbers of level 2 are few; so here is what makes level 3."""
    model = reference.model
    maps = feature_maps(model, images[:1])
    x = run(model.levels[2].down, maps["level_2"])
    x = run(model.levels[3].refine, x)
    expected = reference.answers["final_map_f64"][:1]
    assert check.difference(x, expected) < check.TOLERANCE


@pytest.fixture
def calls(monkeypatch):
    """Counts the calls of each stem, generator, block and downsampling."""
    counts = collections.Counter()

    def counted(self, *inputs, **options):
        counts[self] += 1
        return keras.layers.Layer.__call__(self, *inputs, **options)

    for cls in (
        gcvit.PatchEmbed,
        gcvit.GlobalQueryGenerator,
        gcvit.Block,
        gcvit.ReduceSize,
    ):
        monkeypatch.setattr(cls, "__call__", counted, raising=False)
    return counts


@pytest.mark.parametrize("way", ["call", "feature_maps"])
def test_nothing_is_computed_twice(way, calls, run):
    model = small_model()
    parts = [model.patch_embed, model.patch_embed.conv_down]
    for level in model.levels:
        parts += [level.q_global_gen, *level.blocks]
        parts += [level.down] if level.downsample else []
    calls.clear()
    run(getattr(model, way), random_images(1))
    assert {part.path: calls[part] for part in parts} == {
        part.path: 1 for part in parts
    }
    assert calls.total() == len(parts) == 9


def test_feature_maps_build_and_drop_out(run):
    model = gcvit.GCViT(**(SMALL | ONE), drop_rate=0.5)
    images = random_images()
    model.feature_maps(images)
    plain, again, dropped = (
        numpy(run(model.feature_maps, images, training=mode)["stem"])
        for mode in (False, None, True)
    )
    np.testing.assert_array_equal(plain, again)
    assert (dropped == 0).mean() > 0.25 > (plain == 0).mean()


# === Images of another size ===


def test_pooled_maps_are_what_the_head_sees():
    model, x = small_model(**ONE), random_images()
    features = model.pool(model.norm(model.feature_maps(x)["level_0"]))
    np.testing.assert_array_equal(numpy(model.head(features)), numpy(model(x)))


def test_windows_stay_where_images_are_larger(feature_maps):
    """Without global blocks, as in a model that was built for the size."""
    model = small_model(depths=(1, 1))
    other = small_model((None, 64, 64, 3), depths=(1, 1))
    weights = named_weights(model)
    for name, weight in named_weights(other).items():
        if name in weights:  # it has larger query generators, for nothing
            weight.assign(weights[name])
    x = random_images(2, 64, 64)
    found = feature_maps(model, x)
    for name, expected in feature_maps(other, x).items():
        np.testing.assert_allclose(
            found[name], expected, atol=1e-5, err_msg=name
        )
    with pytest.raises(ValueError, match="32.*64"):
        model(x)


def test_images_of_any_size_have_maps(feature_maps):
    """News from a corner is in the first window, at the corner's place."""
    model = small_model(depths=(2, 1))
    x = random_images(2, 41, 54)
    maps = feature_maps(model, x)
    assert maps["level_0"].shape == (2, 11, 14, 8)
    assert maps["level_1"].shape == (2, 6, 7, 16)
    x[:, -8:, -8:] *= -1
    others = feature_maps(model, x)
    corner = {
        name: np.abs(others[name] - maps[name])[:, :4, :4].max()
        for name in ("stem", "level_0")
    }
    assert corner["stem"] < 2e-5 < 1e-4 < corner["level_0"]


# === Building and calling ===


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
    blocks = [block for level in model.levels for block in level.blocks]
    kinds = [block.global_query for block in blocks]
    assert kinds == [False, True, False, False, True]
    rates = [block.path_drop for block in blocks]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4])
    assert {block.dropout for block in blocks} == {0.1}
    assert {block.attention_dropout for block in blocks} == {0.2}


def test_build_makes_every_variable_once():
    model = gcvit.GCViT(**SMALL)
    model.build(SHAPE)
    built = [id(variable) for variable in model.variables]
    values = model.get_weights()
    model.build(SHAPE)
    model(keras.Input(SHAPE[1:]))
    assert [id(variable) for variable in model.variables] == built
    assert same_arrays(model.get_weights(), values)


def test_batches_of_any_size_and_no_look_at_the_neighbours():
    """One graph for all batches; on JAX and TensorFlow a compiled one."""
    graph = small_model(head_activation=None).build_graph()
    x = random_images(3)
    three = graph.predict(x, verbose=0)
    assert three.shape == (3, 5)
    alone = graph.predict(x[1:2], verbose=0)
    assert check.difference(alone, three[1:2]) < check.TOLERANCE
    # The same image between other neighbours.
    between = graph.predict(x[[2, 1, 0]], verbose=0)
    assert check.difference(between[[2, 1, 0]], three) < check.TOLERANCE
    assert tuple(graph.predict_on_batch(x[:0]).shape) == (0, 5)


def test_no_image_at_all(run):
    """In a call, eager and compiled, and for the maps."""
    model = small_model(**ONE)
    none = random_images(0)
    assert tuple(run(model, none).shape) == (0, 5)
    assert tuple(model(none).shape) == (0, 5)
    shapes = {k: tuple(x.shape) for k, x in model.feature_maps(none).items()}
    assert shapes == {
        "stem": (0, 8, 8, 8),
        "level_0": (0, 8, 8, 8),
    }


def test_graph_has_the_weights_of_the_model(answer, run):
    model = small_model()
    graph = model.build_graph()
    assert {id(x) for x in graph.weights} == {id(x) for x in model.weights}
    assert (
        check.difference(run(graph, random_images()), answer) < check.TOLERANCE
    )


# === Graphs that share their tensors ===


def map_and_answer(model, shape=None):
    """Make a model of a layer's `output` besides the answer."""
    graph = model.build_graph(shape)
    maps = graph.get_layer("level_1").output
    return keras.Model(graph.input, [maps, graph.output])


def test_a_layers_output_is_in_every_graph(answer, feature_maps, run):
    model = small_model()
    expected = feature_maps(model, random_images())["level_1"]
    model.summary(print_fn=lambda *_, **__: None)
    for shape in (None, SHAPE[1:], list(SHAPE[1:])):
        maps, found = run(map_and_answer(model, shape), random_images())
        assert check.difference(maps, expected) < check.TOLERANCE
        assert check.difference(found, answer) < check.TOLERANCE
    one, other = model.build_graph(), model.build_graph()
    output = other.get_layer("level_0").output
    assert keras.Model(one.input, output).output is output
    with pytest.raises(ValueError, match="32.*64"):
        model.build_graph((64, 64, 3))


def test_a_graph_leaves_no_trace_in_the_model(tmp_path):
    model = small_model()

    def traces(name):
        model.save(tmp_path / name)
        layers = [layer.name for layer in model.layers]
        variables = [id(variable) for variable in model.variables]
        return layers, variables, sorted(stored_arrays(tmp_path / name))

    before = traces("before.keras")
    model.build_graph()
    assert traces("after.keras") == before
    loaded = keras.saving.load_model(tmp_path / "after.keras")
    assert same_weights(loaded, model)


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        keras.models.clone_model,
        lambda model: model.from_config(model.get_config()),
    ],
    ids=["copy", "deepcopy", "pickle", "clone", "config"],
)
def test_a_copy_has_a_graph_of_its_own(duplicate, run):
    model = small_model()
    model.build_graph()
    twin = duplicate(model)
    twin.build(SHAPE)
    twin.set_weights([weight + 1 for weight in model.get_weights()])
    maps, found = run(map_and_answer(twin), random_images())
    expected = numpy(run(twin, random_images()))
    assert check.difference(found, expected) < check.TOLERANCE
    theirs, _ = run(map_and_answer(model), random_images())
    assert not np.allclose(numpy(maps), numpy(theirs))


def test_a_graph_trains_what_its_model_trains():
    model = small_model()
    model.build_graph()
    model.levels[0].trainable = False
    graph = model.build_graph()
    ours = {id(weight) for weight in model.trainable_weights}
    assert {id(weight) for weight in graph.trainable_weights} == ours
    assert 0 < len(ours) < len(model.weights)


@NEEDS_LORA
def test_a_graph_made_after_lora_has_it():
    """Also where another graph has been compiled, and answered."""
    model = small_model(**ONE)
    images = random_images()
    plain = model.build_graph().predict(images, verbose=0)
    model.head.enable_lora(2)
    randomize(model.head)
    graph = model.build_graph()
    assert {id(x) for x in graph.weights} == {id(x) for x in model.weights}
    found = graph.predict(images, verbose=0)
    assert check.difference(found, numpy(model(images))) < check.TOLERANCE
    assert not np.allclose(found, plain)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="written on TensorFlow"
)
def test_gradients_say_where_a_class_was_seen():
    """Grad-CAM, as it is mostly written."""
    import tensorflow as tf

    model = small_model(head_activation=None)
    model.summary(print_fn=lambda *_, **__: None)
    images = random_images(1)
    with tf.GradientTape() as tape:
        maps, logits = map_and_answer(model)(images)
        score = logits[:, 2]
    gradients = tape.gradient(score, maps)
    assert gradients.shape == maps.shape == (1, 4, 4, 16)
    assert np.abs(numpy(gradients)).max() > 1e-3
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))
    assert heat.shape == (1, 4, 4)


def test_channels_first_setting_changes_nothing(keras_settings, answer, run):
    keras.config.set_image_data_format("channels_first")
    np.testing.assert_array_equal(
        numpy(run(small_model(), random_images())), answer
    )
    assert keras.config.image_data_format() == "channels_first"


def test_channels_first_images_are_recognised():
    with pytest.raises(ValueError, match="channels first"):
        gcvit.GCViT(**SMALL).build((None, 3, 32, 32))


def test_bytes_are_images_too(run):
    model = small_model()
    images = np.arange(32 * 32 * 3, dtype="uint8").reshape(1, 32, 32, 3)
    expected = numpy(run(model, images.astype("float32")))
    np.testing.assert_array_equal(numpy(run(model, images)), expected)


# === Summaries ===


@pytest.mark.parametrize("shape", [None, SHAPE[1:]])
def test_summary_before_the_build_leaves_no_trace(shape, capsys):
    """Not in the model, not in its size, not in its later weights."""
    weights = []
    for is_summarised in (True, False):
        keras.utils.set_random_seed(0)
        model = gcvit.GCViT(**SMALL, drop_rate=0.5)
        if is_summarised:
            model.summary(shape)
            assert not model.built and not model.weights
            assert model.image_shape is None
        model.build((None, 64, 64, 3))
        weights.append(model.get_weights())
    assert same_arrays(*weights)
    printed = capsys.readouterr().out
    assert "(None, 4, 4, 16)" in printed


def test_summary_of_a_built_model(capsys):
    model = small_model()
    model.summary()
    printed = capsys.readouterr().out
    assert "(None, 4, 4, 16)" in printed
    assert "?" not in printed
    assert f"{model.count_params():,}" in printed


# === Mixed precision ===


def test_mixed_precision(answer, run):
    model = small_model(dtype="mixed_bfloat16")
    maps = model.feature_maps(keras.KerasTensor((None, 32, 32, 3)))
    assert {x.dtype for x in maps.values()} == {"bfloat16"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    probabilities = run(model, random_images())
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


@pytest.mark.weekly
@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch compiles nothing here"
)
def test_a_large_compiled_batch_is_right():
    """Compilers have had faults that only large arrays show."""
    keras.utils.set_random_seed(0)
    # Level 2 has six blocks; the first two have arrays of every size in it.
    settings = {"depths": (2, 2, 2, 2), "head_activation": None}
    model = gcvit.GCViT.from_variant("xxtiny", **settings)
    model.compile(jit_compile=True)
    images = random_images(32, 224, 224)
    together = model.predict(images, batch_size=32, verbose=0)
    alone = model.predict(images[::9], batch_size=1, verbose=0)
    assert check.difference(together[::9], alone) < check.TOLERANCE
