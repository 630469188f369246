"""What all layers promise: the official numbers, and to suit Keras."""

import inspect
import json

import keras
import numpy as np
import pytest
from cases import ARGUMENTS, CASES, make
from helpers import DATA, numpy, random_arrays, randomize

import gcvit
from gcvit import check


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


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
        stored = {**arrays, "image": images}
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


# === In training and outside ===

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
    layer, inputs = make(name, **rates)
    quiet = numpy(run(layer, *inputs))
    np.testing.assert_array_equal(numpy(run(layer, *inputs)), quiet)
    loud = numpy(run(layer, *inputs, training=True))
    assert np.abs(loud - quiet).max() > 0.01 * quiet.std()


# === Good citizens of Keras ===


def test_every_public_class_is_here():
    members = [getattr(gcvit, name) for name in gcvit.__all__]
    classes = filter(inspect.isclass, members)
    public = {cls for cls in classes if issubclass(cls, keras.layers.Layer)}
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
def test_config_goes_through_json(cls):
    layer = cls(**ARGUMENTS[cls], dtype="mixed_bfloat16")
    config = layer.get_config()
    assert cls.from_config(config).get_config() == config
    written = json.dumps(config)
    again = cls.from_config(json.loads(written))
    # JSON turns tuples into lists.
    assert json.dumps(again.get_config()) == written
    assert again.dtype_policy.name == "mixed_bfloat16"


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_serialized_layer_goes_through_json(cls):
    layer = cls(**ARGUMENTS[cls])
    written = json.dumps(keras.saving.serialize_keras_object(layer))
    read = keras.saving.deserialize_keras_object(json.loads(written))
    assert type(read) is cls
    assert json.dumps(read.get_config()) == json.dumps(layer.get_config())


def as_numpy(value):
    """The same argument, of NumPy; a function for the name of one."""
    if isinstance(value, str):
        return keras.activations.get(value)
    return np.array(value) if np.iterable(value) else np.array(value)[()]


@pytest.mark.parametrize("cls", ARGUMENTS)
def test_arguments_that_are_no_plain_python(cls):
    """Numbers and arrays of NumPy, functions, and objects for the dtype."""
    others = {name: as_numpy(x) for name, x in ARGUMENTS[cls].items()}
    policy = keras.DTypePolicy("mixed_bfloat16")
    layer = cls(**others, dtype=policy, name="mine")
    plain = cls(**ARGUMENTS[cls], dtype="mixed_bfloat16", name="mine")
    assert json.dumps(layer.get_config()) == json.dumps(plain.get_config())


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
    answer = numpy(run(layer, *random_arrays(*shapes)))
    assert layer.compute_output_shape(*shapes) == answer.shape
    unknown = (None, *answer.shape[1:])
    assert layer.compute_output_shape(*(x.shape for x in inputs)) == unknown
    assert outputs.shape == unknown

    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = [x for x in loaded.layers if type(x) is cls]
    assert len(again) == 1
    np.testing.assert_array_equal(
        numpy(run(again[0], *random_arrays(*shapes))), answer
    )


def test_mixed_precision(case, run):
    """Every layer computes in bfloat16, and keeps its weights in float32."""
    cls, arguments, shapes = case
    layer = cls(**arguments, dtype="mixed_bfloat16")
    layer.build(*shapes)
    answer = run(layer, *random_arrays(*shapes))
    assert keras.backend.standardize_dtype(answer.dtype) == "bfloat16"
    assert {weight.dtype for weight in layer.weights} <= {"float32"}
    for child in layer._flatten_layers():
        assert child.dtype_policy.name == "mixed_bfloat16", child.path


# === Batches of any size ===


def resized(shapes, images):
    """The shapes for another number of images than 2."""
    return [(batch // 2 * images, *rest) for batch, *rest in shapes]


def compiled(layer, inputs_shapes):
    """A layer as one program for any batch, where the backend has such."""
    if keras.backend.backend() != "tensorflow":
        return layer
    import tensorflow as tf

    signature = [
        tf.TensorSpec((None, *shape[1:]), "float32") for shape in inputs_shapes
    ]
    return tf.function(layer, input_signature=signature)


def test_batch_of_any_size_even_none(case, run):
    """No image, one and three: alone, and in the graph of a model."""
    cls, arguments, shapes = case
    layer = cls(**arguments)
    symbolic = symbols(shapes)
    graph = keras.Model(symbolic, layer(*symbolic))
    randomize(layer)
    program = compiled(layer, shapes)
    three = random_arrays(*resized(shapes, 3))
    answer = numpy(run(layer, *three))
    each = len(answer) // 3  # windows, or one map
    for images in (0, 1, 3):
        inputs = [x[: len(x) // 3 * images] for x in three]
        for call in {layer, program}:  # one, where none is compiled
            found = numpy(run(call, *inputs))
            assert found.shape == (each * images, *answer.shape[1:])
            np.testing.assert_allclose(
                found, answer[: each * images], rtol=1e-4, atol=1e-5
            )
    found = numpy(run(graph, [x[:0] for x in three]))
    assert found.shape == (0, *answer.shape[1:])
