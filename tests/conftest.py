"""The two reference models, and what the official code answers for them."""

import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import gcvit
from gcvit import check

DATA = Path(__file__).parent / "data"
PACKAGE_DATA = Path(gcvit.__file__).parent / "data"
CHECKPOINTS = {
    "ref_small": PACKAGE_DATA / "official_small.keras",
    "ref_small_ls": DATA / "ref_small_ls.keras",
}


def small_activations():
    """What the package carries, under the names of the .npz files."""
    arrays = {}
    for component, (names, output, _) in check.COMPONENTS.items():
        inputs, arrays[output] = check.official(component)
        arrays.update(zip(names, inputs))
    arrays["level_1_in"] = arrays["reduce_size_out"]
    return arrays


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
    if request.param == "ref_small":
        activations = small_activations()
    else:
        with np.load(DATA / "layers_small_ls.npz") as stored:
            activations = dict(stored)
    return SimpleNamespace(
        config=config,
        checkpoint=CHECKPOINTS[request.param],
        model=model,
        answers=answers,
        activations=activations,
    )


@pytest.fixture
def keras_settings():
    """Puts the global settings back that a test changes."""
    policy = keras.config.dtype_policy()
    data_format = keras.config.image_data_format()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_image_data_format(data_format)
