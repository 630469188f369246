"""The two reference models, and what the official code answers for them."""

import json
import os
from types import SimpleNamespace

import launch

# JAX reads its variables when it is imported, so this comes before Keras.
if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.update(launch.quick() | os.environ)

import keras
import numpy as np
import pytest
from helpers import DATA, PACKAGE_DATA

import gcvit

pytest_plugins = ["checkpoint_files", "tools.suites"]

CHECKPOINTS = {
    "ref_small": PACKAGE_DATA / "official_small.keras",
    "ref_small_ls": DATA / "ref_small_ls.keras",
}


def pytest_configure(config):
    # Keras's own, for each variable that becomes an array.
    ignored = "ignore:__array__ implementation:DeprecationWarning"
    config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(scope="session")
def images():
    """Two images, (2, 224, 224, 3), that both reference models saw."""
    with np.load(DATA / "ref_small.npz") as stored:
        return (stored["x_u8"].astype("float32") - 128) / 64


@pytest.fixture(scope="session", params=CHECKPOINTS)
def reference(request):
    """A reference model with its checkpoint loaded, and official answers."""
    with np.load(DATA / f"{request.param}.npz") as stored:
        answers = dict(stored)
    official = json.loads(str(answers["config"]))
    config = {
        "window_size": official["window_size"],
        "embed_dim": official["dim"],
        "depths": official["depths"],
        "num_heads": official["num_heads"],
        "mlp_ratio": official["mlp_ratio"],
        "num_classes": official["num_classes"],
        "path_drop": official["drop_path_rate"],
        "layer_scale": official["layer_scale"],
    }
    # The checkpoints' head ends in a softmax; the answers are logits.
    model = gcvit.GCViT(**config, head_activation=None)
    model.build((None, 224, 224, 3))
    model.load_weights(CHECKPOINTS[request.param])
    return SimpleNamespace(
        config=config,
        checkpoint=CHECKPOINTS[request.param],
        model=model,
        answers=answers,
    )


@pytest.fixture(scope="session")
def run():
    """Calls a layer, or a method of one that is built.

    On JAX it is compiled as a whole, not operation by operation: each new
    operation takes JAX as long as it takes PyTorch to call a model.
    """

    def call(function, *inputs, **options):
        if keras.backend.backend() != "jax":
            return function(*inputs, **options)
        import jax

        variables = getattr(function, "__self__", function).variables

        @jax.jit
        def compiled(values, inputs):
            with keras.StatelessScope(zip(variables, values)):
                return function(*inputs, **options)

        return compiled([x.value for x in variables], inputs)

    return call


@pytest.fixture
def keras_settings():
    """Puts the global settings back that a test changes."""
    policy = keras.config.dtype_policy()
    data_format = keras.config.image_data_format()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(data_format)
