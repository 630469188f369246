"""Arguments: each one that cannot work is named when the layer is made."""

import inspect
import math

import pytest
from cases import ARGUMENTS

import gcvit


class Entry:
    """A sequence with an entry that cannot work, which is what is named."""

    def __init__(self, values, entry):
        self.values, self.entry = values, entry


NAN, INF = math.nan, math.inf
# What cannot be an argument of each kind.
WHOLE = [0, -1, 1.5, NAN, "2", True, (2,)]
FACTOR = [0, -0.5, NAN, INF, "2", True, (2.0,)]
FINITE = [NAN, INF, -INF, "x", True, (0.1,)]
RATE = [-0.1, 1, 1.5, NAN, "0.1", True, None]
BOOLEAN = ["False", "", 0, 1, None, (True,)]
WINDOW = [0, -7, (7,), (7, 0), (7, 7, 7), 2.5, NAN, "7", None]
ACTIVATION = ["nonsense", 3]
LEVELS = [2, (), None, "22"]

BAD = {
    "expansion": [*FACTOR, None],
    "keepdims": BOOLEAN,
    "embed_dim": [*WHOLE, 3, None],
    "window_size": WINDOW,
    "num_heads": [*WHOLE, None],
    "global_query": BOOLEAN,
    "qkv_bias": BOOLEAN,
    "qk_scale": FACTOR,
    "attention_dropout": [*RATE, (0.1, 0.2)],
    "projection_dropout": RATE,
    "rate": RATE,
    "seed": [-1, 1.5, NAN, "2", True, (2,)],
    "hidden_features": WHOLE,
    "out_features": WHOLE,
    "activation": ACTIVATION,
    "dropout": RATE,
    "mlp_ratio": [*FACTOR, None],
    "path_drop": RATE,
    "layer_scale": FINITE,
    "depth": [*WHOLE, None],
    "downsample": BOOLEAN,
    "drop_rate": RATE,
    "num_classes": [*WHOLE, -3, None],
    "head_activation": ACTIVATION,
    "class_names": ["ant", 5, {}, (1, 2, 3, 4, 5), ("ant",), ()],
    "value_range": [255, "01", (0,), (255, 0), (0, 0), (0, NAN), (0, "1")],
}
# Arguments that mean more in one class than in the others.
PER_LEVEL = [*LEVELS, Entry((2, 0), 0), Entry((2, 1.5), 1.5)]
PER_LEVEL += [Entry((True, 2), True), Entry((2, "2"), "2")]
BAD_IN = {
    (gcvit.GlobalQueryGenerator, "keepdims"): [
        True,
        (),
        None,
        "yes",
        Entry((False, 1), 1),
        Entry(("False",), "False"),
    ],
    (gcvit.Level, "path_drop"): [
        *RATE,
        (0.1,),
        Entry((0.1, 1.0), 1.0),
        Entry((0.1, NAN), NAN),
        Entry((0.1, "0.1"), "0.1"),
    ],
    (gcvit.GCViT, "window_size"): [
        7,
        *LEVELS[1:3],
        Entry((2, 2.5), 2.5),
        Entry(((2, 2, 2), 4), (2, 2, 2)),
        Entry((2, 0), 0),
        Entry((2, "7"), "7"),
    ],
    (gcvit.GCViT, "depths"): PER_LEVEL,
    (gcvit.GCViT, "num_heads"): PER_LEVEL,
}


def wrong_values(cls, name):
    return BAD_IN.get((cls, name)) or BAD[name]


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls in ARGUMENTS for name in ARGUMENTS[cls]],
)
def test_what_cannot_work_is_named(cls, name):
    for value in wrong_values(cls, name):
        seen = value
        if isinstance(value, Entry):
            value, seen = value.values, value.entry
        with pytest.raises(ValueError) as error:
            cls(**{**ARGUMENTS[cls], name: value})
        message = str(error.value)
        assert f"{name}={seen!r}" in message, (value, message)


def test_every_argument_of_every_class_is_here():
    for cls, arguments in ARGUMENTS.items():
        signature = inspect.signature(cls.__init__).parameters
        assert set(signature) - {"self", "kwargs"} == set(arguments)
    used = {name for arguments in ARGUMENTS.values() for name in arguments}
    assert used - {"depths"} == set(BAD)


NONE_IS_NONE = ["qk_scale", "layer_scale", "hidden_features", "out_features"]


@pytest.mark.parametrize("name", [*NONE_IS_NONE, "activation"])
def test_none_may_mean_something(name):
    for cls, arguments in ARGUMENTS.items():
        if name in arguments:
            layer = cls(**{**arguments, name: None})
            config = layer.get_config()
            assert config[name] == ("linear" if name == "activation" else None)


@pytest.mark.parametrize("scale", [-0.5, 0, 1e-5])
def test_a_layer_scale_may_start_anywhere(scale):
    block = gcvit.Block(2, 2, False, layer_scale=scale)
    assert block.layer_scale == scale


@pytest.mark.parametrize(
    "changes",
    [
        {"num_heads": (3, 4)},
        {"embed_dim": 9, "num_heads": (2, 2)},
        {"depths": (2, 2, 2)},
        {"num_heads": (1, 2, 4)},
        {"window_size": (4, 4, 4)},
        {"num_classes": 3},
    ],
    ids=str,
)
def test_arguments_that_do_not_agree(changes):
    with pytest.raises(ValueError) as error:
        gcvit.GCViT(**{**ARGUMENTS[gcvit.GCViT], **changes})
    for name, value in changes.items():
        assert f"{name}={value}" in str(error.value)


def test_an_unknown_argument_is_an_error():
    with pytest.raises((TypeError, ValueError), match="colour"):
        gcvit.Block(2, 2, False, colour="red")
