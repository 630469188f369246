"""Each layer: equal to the official one, and a good citizen of Keras."""

import inspect
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import gcvit
from gcvit import check

DATA = Path(__file__).parent / "data"

# Every argument of every layer, none of them at its default.
ARGUMENTS = {
    gcvit.SqueezeAndExcitation: {"expansion": 0.5},
    gcvit.ReduceSize: {"keepdims": True},
    gcvit.PatchEmbed: {"embed_dim": 8},
    gcvit.FeatureExtraction: {"keepdims": True},
    gcvit.GlobalQueryGenerator: {"keepdims": (False, True)},
    gcvit.WindowAttention: {
        "window_size": (2, 4),
        "num_heads": 2,
        "global_query": True,
        "qkv_bias": False,
        "qk_scale": 0.3,
        "attention_dropout": 0.1,
        "projection_dropout": 0.2,
    },
    gcvit.DropPath: {"rate": 0.3, "seed": 7},
    gcvit.MLP: {
        "hidden_features": 12,
        "out_features": 6,
        "activation": "relu",
        "dropout": 0.1,
    },
    gcvit.Block: {
        "window_size": (2, 4),
        "num_heads": 2,
        "global_query": True,
        "mlp_ratio": 2.0,
        "qkv_bias": False,
        "qk_scale": 0.3,
        "dropout": 0.1,
        "attention_dropout": 0.2,
        "path_drop": 0.3,
        "activation": "relu",
        "layer_scale": 0.5,
    },
    gcvit.Level: {
        "depth": 2,
        "num_heads": 2,
        "window_size": (2, 4),
        "downsample": False,
        "mlp_ratio": 2.0,
        "qkv_bias": False,
        "qk_scale": 0.3,
        "dropout": 0.1,
        "attention_dropout": 0.2,
        "path_drop": (0.1, 0.3),
        "layer_scale": 0.5,
    },
    gcvit.GCViT: {
        "window_size": ((4, 2), (4, 2)),
        "embed_dim": 8,
        "depths": (2, 1),
        "num_heads": (2, 4),
        "drop_rate": 0.1,
        "mlp_ratio": 2.0,
        "qkv_bias": False,
        "qk_scale": 0.3,
        "attention_dropout": 0.2,
        "path_drop": 0.3,
        "layer_scale": 0.5,
        "num_classes": 5,
        "head_activation": "sigmoid",
    },
}

# A layer's class, its arguments, the shapes of its inputs, batch 2.
MAP, ODD, TOKENS = (2, 8, 8, 8), (2, 5, 7, 8), (2, 8, 8)
LOCAL = {"window_size": (2, 4), "num_heads": 2, "global_query": False}
GLOBAL = {**LOCAL, "global_query": True}
CASES = {
    "squeeze_excitation": (gcvit.SqueezeAndExcitation, {}, [ODD]),
    "reduce_size": (gcvit.ReduceSize, {}, [MAP]),
    "reduce_size_odd": (gcvit.ReduceSize, {"keepdims": True}, [ODD]),
    "patch_embed": (gcvit.PatchEmbed, {"embed_dim": 8}, [(2, 32, 32, 3)]),
    "patch_embed_odd": (gcvit.PatchEmbed, {"embed_dim": 4}, [(2, 9, 14, 3)]),
    "feature_extraction": (gcvit.FeatureExtraction, {}, [MAP]),
    "feature_extraction_odd": (gcvit.FeatureExtraction, {}, [ODD]),
    "feature_extraction_keep": (
        gcvit.FeatureExtraction,
        {"keepdims": True},
        [ODD],
    ),
    "global_query": (
        gcvit.GlobalQueryGenerator,
        {"keepdims": (False, True, False)},
        [ODD],
    ),
    "attention_local": (gcvit.WindowAttention, LOCAL, [(6, 8, 8)]),
    "attention_global": (
        gcvit.WindowAttention,
        GLOBAL,
        [(6, 8, 8), (2, 2, 4, 8)],
    ),
    "drop_path": (gcvit.DropPath, {"rate": 0.5}, [MAP]),
    "mlp": (gcvit.MLP, {"hidden_features": 12, "out_features": 6}, [TOKENS]),
    "block_local": (gcvit.Block, LOCAL, [MAP]),
    "block_global": (gcvit.Block, GLOBAL, [MAP, (2, 2, 4, 8)]),
    "level": (
        gcvit.Level,
        {"depth": 2, "num_heads": 2, "window_size": 4, "layer_scale": 0.5},
        [MAP],
    ),
    "level_last": (
        gcvit.Level,
        {
            "depth": 2,
            "num_heads": 2,
            "window_size": (2, 4),
            "downsample": False,
        },
        [(2, 4, 8, 8)],
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def arrays(shapes):
    """Fixed random inputs."""
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype("float32") for shape in shapes]


def randomize(layer):
    """Give every weight a value, so that none hides behind its initial one."""
    generator = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(generator.normal(0, 0.3, weight.shape))


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


# === Equal to the official layers ===

# The model as a whole is in test_model.py.
OFFICIAL = {k: make for k, make in check.LAYERS.items() if k != "model"}


def test_tolerance():
    """A wider one would let known mistakes through."""
    assert check.TOLERANCE <= 5e-6


def test_every_stored_component_is_compared():
    assert set(OFFICIAL) == set(check.COMPONENTS) - {"model"}


@pytest.mark.parametrize("component", OFFICIAL)
def test_parity(component, run):
    inputs, expected = check.official(component)
    layer = OFFICIAL[component]()
    layer.build(*(x.shape for x in inputs))
    check.load_official_weights(layer, component)
    assert check.difference(run(layer, *inputs), expected) < check.TOLERANCE


def test_parity_as_the_chapters_ask_for_it():
    layer = gcvit.SqueezeAndExcitation()
    assert check.parity(layer, "squeeze_excitation") < check.TOLERANCE
    layer.fc[0].activation = keras.activations.relu
    assert check.parity(layer, "squeeze_excitation") > 1e-3


@pytest.mark.parametrize("reference", ["ref_small_ls"], indirect=True)
def test_parity_with_layer_scale(reference, images, run):
    """The sublayers of the model that has it."""
    children = reference.model.layers
    (stem,) = [x for x in children if isinstance(x, gcvit.PatchEmbed)]
    levels = [x for x in children if isinstance(x, gcvit.Level)]
    down = levels[0].down
    generator = levels[1].q_global_gen
    local_block, global_block = levels[1].blocks
    with np.load(DATA / "layers_small_ls.npz") as arrays:
        stored = {**arrays, "image": images[:1]}
    steps = [
        (stem, ["image"], "patch_embed_out"),
        (down, ["reduce_size_in"], "reduce_size_out"),
        (
            down.conv[1],
            ["squeeze_excitation_in"],
            "squeeze_excitation_out",
        ),
        (
            generator.to_q_global[0],
            ["level_1_in"],
            "feature_extraction_out",
        ),
        (generator, ["level_1_in"], "global_query_out"),
        (
            local_block.attn,
            ["window_attention_local_in"],
            "window_attention_local_out",
        ),
        (
            global_block.attn,
            ["window_attention_global_in", "global_query_out"],
            "window_attention_global_out",
        ),
        (local_block, ["level_1_in"], "block_local_out"),
        (
            global_block,
            ["block_local_out", "global_query_out"],
            "block_global_out",
        ),
        (levels[1], ["level_1_in"], "level_1_out"),
    ]
    used = {name for _, names, output in steps for name in (*names, output)}
    assert used == set(stored)
    far = {}
    for layer, inputs, output in steps:
        answer = run(layer, *(stored[name] for name in inputs))
        difference = check.difference(answer, stored[output])
        if not difference < check.TOLERANCE:
            far[output] = difference
    assert not far


# === What each layer computes ===


def test_windows_are_cut_and_put_back():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    windows = numpy(gcvit.window_partition(ops.array(x), (2, 3)))
    assert windows.shape == (8, 2, 3, 3)
    # Row by row within an image, then the next image.
    np.testing.assert_array_equal(windows[1], x[0, :2, 3:])
    np.testing.assert_array_equal(windows[2], x[0, 2:, :3])
    np.testing.assert_array_equal(windows[4], x[1, :2, :3])
    back = gcvit.window_reverse(ops.array(windows), (2, 3), 4, 6)
    np.testing.assert_array_equal(numpy(back), x)


def test_square_windows_take_an_int():
    x = ops.reshape(ops.arange(32), (1, 4, 8, 1))
    windows = gcvit.window_partition(x, 4)
    assert tuple(windows.shape) == (2, 4, 4, 1)
    back = gcvit.window_reverse(windows, 4, 4, 8)
    np.testing.assert_array_equal(numpy(back), numpy(x))


def test_drop_path_drops_whole_samples():
    x = np.ones((64, 2, 3, 4), "float32")
    dropped = numpy(gcvit.DropPath(0.25, seed=3)(x, training=True))
    kept = dropped[:, 0, 0, 0] != 0
    np.testing.assert_allclose(
        dropped, np.where(kept, 1 / 0.75, 0)[:, None, None, None] * x
    )
    assert 0 < kept.sum() < 64


def test_drop_path_is_the_identity_at_inference():
    (x,) = arrays([MAP])
    layer = gcvit.DropPath(0.9)
    np.testing.assert_array_equal(numpy(layer(x)), x)
    np.testing.assert_array_equal(numpy(layer(x, training=False)), x)


ALL_RATES = {"dropout": 0.5, "attention_dropout": 0.5, "path_drop": 0.5}


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("attention_local", {"attention_dropout": 0.5}),
        ("attention_global", {"projection_dropout": 0.5}),
        ("mlp", {"dropout": 0.5}),
        ("block_local", {"dropout": 0.5}),
        ("block_local", {"attention_dropout": 0.5}),
        ("block_global", {"path_drop": 0.5}),
        ("level", ALL_RATES),
    ],
)
def test_rates_are_for_training_only(name, rates, run):
    keras.utils.set_random_seed(0)
    cls, arguments, shapes = CASES[name]
    layer = cls(**arguments, **rates)
    layer.build(*shapes)
    randomize(layer)
    inputs = arrays(shapes)
    quiet = numpy(run(layer, *inputs))
    np.testing.assert_array_equal(numpy(run(layer, *inputs)), quiet)
    loud = numpy(run(layer, *inputs, training=True))
    assert np.abs(loud - quiet).max() > 0.01 * quiet.std()


@pytest.mark.parametrize("name", ["block_local", "block_global"])
def test_without_both_branches_a_block_is_the_identity(name, run):
    keras.utils.set_random_seed(0)
    cls, arguments, shapes = CASES[name]
    layer = cls(**arguments, path_drop=0.9999)
    layer.build(*shapes)
    randomize(layer)
    inputs = arrays(shapes)
    dropped = numpy(run(layer, *inputs, training=True))
    np.testing.assert_array_equal(dropped, inputs[0])


def test_attention_scores(run):
    """Against a few lines of NumPy, in a window that is not square."""
    windows, query = arrays([(6, 8, 8), (2, 2, 4, 8)])
    layer = gcvit.WindowAttention(**GLOBAL, qk_scale=0.3)
    layer.build((6, 8, 8), (2, 2, 4, 8))
    randomize(layer)
    answer, scores = layer(windows, query, return_attention_scores=True)
    np.testing.assert_array_equal(numpy(answer), numpy(layer(windows, query)))

    table = numpy(layer.relative_position_bias_table).reshape(3, 7, 2)
    places = [(row, column) for row in range(2) for column in range(4)]
    bias = np.array(
        [
            [table[r1 - r2 + 1, c1 - c2 + 3] for r2, c2 in places]
            for r1, c1 in places
        ]
    )  # (N, N, heads)
    keys_values = windows @ numpy(layer.qkv.kernel) + numpy(layer.qkv.bias)
    keys, values = keys_values[..., :8], keys_values[..., 8:]
    # Three windows an image: each of them gets its own image's query.
    queries = np.repeat(query.reshape(2, 8, 8), 3, axis=0)
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        logits = 0.3 * queries[..., part] @ keys[..., part].swapaxes(1, 2)
        weights = np.exp(logits + bias[..., head])
        weights /= weights.sum(-1, keepdims=True)
        np.testing.assert_allclose(
            numpy(scores)[:, head], weights, rtol=1e-4, atol=1e-6
        )
        heads.append(weights @ values[..., part])
    expected = np.concatenate(heads, -1) @ numpy(layer.proj.kernel)
    np.testing.assert_allclose(
        numpy(answer), expected + numpy(layer.proj.bias), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("arguments", [LOCAL, GLOBAL])
def test_attention_scores_of_symbolic_inputs(arguments):
    inputs = [keras.Input((8, 8)), keras.Input((2, 4, 8))]
    if not arguments["global_query"]:
        inputs.pop()
    layer = gcvit.WindowAttention(**arguments)
    answer, scores = layer(*inputs, return_attention_scores=True)
    assert answer.shape == (None, 8, 8)
    assert scores.shape == (None, 2, 8, 8)
    model = keras.Model(inputs, [answer, scores])
    answer, scores = model(arrays([(2, *x.shape[1:]) for x in inputs]))
    assert tuple(answer.shape) == (2, 8, 8)
    assert tuple(scores.shape) == (2, 2, 8, 8)


# === Good citizens of Keras ===


def test_every_public_class_is_here():
    public = {
        member
        for _, member in inspect.getmembers(gcvit, inspect.isclass)
        if issubclass(member, keras.layers.Layer)
    }
    assert public == set(ARGUMENTS)
    assert public - {gcvit.GCViT} == {cls for cls, _, _ in CASES.values()}


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_config_has_every_argument(cls):
    arguments = ARGUMENTS[cls]
    signature = inspect.signature(cls.__init__).parameters
    assert set(signature) - {"self", "kwargs"} == set(arguments)
    layer = cls(**arguments, name="mine")
    config = layer.get_config()
    stored = {name: config[name] for name in arguments}
    # JSON makes no difference between tuples and lists.
    assert json.dumps(stored) == json.dumps(arguments)
    assert config["name"] == "mine"


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_config_round_trip(cls):
    layer = cls(**ARGUMENTS[cls], dtype="mixed_bfloat16")
    config = layer.get_config()
    assert cls.from_config(config).get_config() == config
    # The way into a file and back; JSON turns tuples into lists.
    written = json.dumps(keras.saving.serialize_keras_object(layer))
    read = keras.saving.deserialize_keras_object(json.loads(written))
    assert type(read) is cls
    assert json.dumps(read.get_config()) == json.dumps(config)
    assert read.dtype_policy.name == "mixed_bfloat16"


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_registered_name(cls):
    name = f"gcvit>{cls.__name__}"
    assert keras.saving.get_registered_name(cls) == name
    assert keras.saving.get_registered_object(name) is cls


def symbols(shapes):
    """Inputs without values, of any batch size."""
    return [keras.Input(shape[1:]) for shape in shapes]


def test_build_makes_every_variable(case):
    cls, arguments, shapes = case
    layer = cls(**arguments)
    layer.build(*shapes)
    built = [id(variable) for variable in layer.variables]
    assert len(layer.weights) or cls is gcvit.DropPath
    # A graph needs no call to be compiled.
    keras.Model(inputs := symbols(shapes), layer(*inputs))
    assert [id(variable) for variable in layer.variables] == built


def test_output_shape_and_saved_layer(case, run, tmp_path):
    """In a functional model, which is saved and gives the same answer."""
    cls, arguments, shapes = case
    layer = cls(**arguments)
    inputs = symbols(shapes)
    outputs = layer(*inputs)
    randomize(layer)
    answer = numpy(run(layer, *arrays(shapes)))
    assert layer.compute_output_shape(*shapes) == answer.shape
    unknown = (None, *answer.shape[1:])
    assert layer.compute_output_shape(*(x.shape for x in inputs)) == unknown
    assert outputs.shape == unknown

    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = [x for x in loaded.layers if type(x) is cls]
    assert len(again) == 1
    np.testing.assert_array_equal(
        numpy(run(again[0], *arrays(shapes))), answer
    )


def test_mixed_precision(case, run):
    """Every layer computes in bfloat16, and keeps its weights in float32."""
    cls, arguments, shapes = case
    layer = cls(**arguments, dtype="mixed_bfloat16")
    layer.build(*shapes)
    answer = run(layer, *arrays(shapes))
    assert keras.backend.standardize_dtype(answer.dtype) == "bfloat16"
    assert {weight.dtype for weight in layer.weights} <= {"float32"}
    for child in layer._flatten_layers():
        assert child.dtype_policy.name == "mixed_bfloat16", child.path
