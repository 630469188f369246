"""The variants: the official counts, rates and scales, and how to make one."""

import keras
import pytest

import gcvit
from gcvit.variants import ROWS


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


@pytest.mark.parametrize("name", ROWS)
def test_parameters_of_variant(name, build_without_values):
    model = build_without_values(name)
    assert model.count_params() == ROWS[name].parameters


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
