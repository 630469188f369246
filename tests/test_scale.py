"""What the chapter `scale` cuts, and its program for PyTorch."""

import importlib.util
import json
import re
import subprocess
import sys

import keras
import nbformat
import pytest

from gcvit import GCViT
from gcvit.scale import layout_map
from tests import launch

# Two steps, and what is left on a device: of the weights, of the averages.
STEPS = """
import json

import numpy as np
from keras import distribution

import gcvit
from gcvit.scale import layout_map

distribution.set_distribution(None)
shape = json.loads(os.environ["MESH"])
if shape:
    mesh = distribution.DeviceMesh(shape, ("batch", "model"))
    distribution.set_distribution(
        distribution.ModelParallel(layout_map=layout_map(mesh))
    )
random = np.random.default_rng(0)
images = random.normal(size=(8, 64, 64, 3)).astype("float32")
model = gcvit.from_pretrained("nano")
model.compile("adam", "sparse_categorical_crossentropy")
labels = np.arange(8)
losses = [float(model.train_on_batch(images, labels)) for step in range(2)]
held = [
    sum(x.value.addressable_shards[0].data.nbytes for x in variables)
    for variables in (model.weights, model.optimizer.variables)
]
answers = model.predict(images, verbose=0).tolist()
print("found", json.dumps([losses, held, answers]))
"""


def mesh(*shape):
    """A mesh of devices that nobody needs to have."""
    count = shape[0] * shape[1]
    names = [f"cpu:{number}" for number in range(count)]
    return keras.distribution.DeviceMesh(shape, ("batch", "model"), names)


def axes_of(model, layouts):
    """The axes along which each weight is cut."""
    found = {weight.path: layouts[weight.path] for weight in model.weights}
    return {path: x.axes if x else () for path, x in found.items()}


@pytest.mark.parametrize("variant", ["nano", "xxtiny", "small"])
def test_every_large_weight_is_cut(variant):
    model = GCViT.from_variant(variant)
    model.build((None, *([64, 64] if variant == "nano" else [224, 224]), 3))
    axes = axes_of(model, layout_map(mesh(1, 4)))
    whole = 0
    for weight in model.weights:
        cut = axes[weight.path]
        if "model" in cut:
            assert len(cut) == len(weight.shape), weight.path
            assert weight.shape[cut.index("model")] % 4 == 0, weight.path
        else:
            whole += weight.value.size if hasattr(weight.value, "size") else 0
            assert len(weight.shape) < 2 or any(
                name in weight.path
                for name in ("squeeze", "depthwise", "bias_table")
            ), weight.path
    sizes = sum(keras.ops.size(w) for w in model.weights)
    assert whole < 0.05 * int(sizes)


def test_a_mesh_without_the_axis_is_refused():
    wrong = keras.distribution.DeviceMesh((2,), ("batch",), ["cpu:0", "cpu:1"])
    with pytest.raises(ValueError, match="Invalid axis names"):
        layout_map(wrong)
