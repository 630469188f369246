"""Compare a layer with the official implementation, on stored activations.

`data/official_small.keras` is a small GCViT with random weights, written under
the published Keras example's names; `data/official_small.h5` is what each
component of that model receives and returns when NVIDIA's own code runs it in
float64 on one image (of the attention's windows, the first two).
"""

import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path

import h5py
import keras
import numpy as np

# The largest |Δ| over the official standard deviation that counts as equal.
# Float32 rounding stays under 1e-6; the smallest known mistake, a LayerNorm
# epsilon of 1e-6, makes 2e-5.
TOLERANCE = 5e-6

# Component: its stored inputs, its stored output, its path in the checkpoint.
COMPONENTS = {
    "squeeze_excitation": (
        ["squeeze_excitation_in"],
        "squeeze_excitation_out",
        "layers/level/down/conv/squeeze_and_excitation",
    ),
    "reduce_size": (
        ["reduce_size_in"],
        "reduce_size_out",
        "layers/level/down",
    ),
    "patch_embed": (["image"], "patch_embed_out", "layers/patch_embed"),
    "feature_extraction": (
        ["reduce_size_out"],
        "feature_extraction_out",
        "layers/level_1/q_global_gen/to_q_global/feature_extraction",
    ),
    "global_query": (
        ["reduce_size_out"],
        "global_query_out",
        "layers/level_1/q_global_gen",
    ),
    "window_attention_local": (
        ["window_attention_local_in"],
        "window_attention_local_out",
        "layers/level_1/blocks/block/attn",
    ),
    "window_attention_global": (
        ["window_attention_global_in", "global_query_out"],
        "window_attention_global_out",
        "layers/level_1/blocks/block_1/attn",
    ),
    "block_local": (
        ["reduce_size_out"],
        "block_local_out",
        "layers/level_1/blocks/block",
    ),
    "block_global": (
        ["block_local_out", "global_query_out"],
        "block_global_out",
        "layers/level_1/blocks/block_1",
    ),
    "level": (["reduce_size_out"], "level_1_out", "layers/level_1"),
    "model": (["image"], "logits", "/"),
}


def official(component):
    """The arrays that an official component receives and returns.

    Args:
        component: a key of `COMPONENTS`.

    Returns:
        The inputs, a list of float32 arrays, channels last, and the output, an
        array. Batch 1; for the window attentions, two windows of 49 tokens.

    Raises:
        ValueError: for a component that is not stored.
    """
    if component not in COMPONENTS:
        raise ValueError(
            f"component={component!r} is not stored; "
            f"these are: {', '.join(COMPONENTS)}."
        )
    inputs, output, _ = COMPONENTS[component]
    with h5py.File(files("gcvit") / "data" / "official_small.h5") as stored:
        arrays = [stored[name][()] for name in inputs]
        expected = stored[output][()]
    if inputs == ["image"]:
        arrays = [(arrays[0].astype("float32") - 128) / 64]
    return arrays, expected


def load_official_weights(layer, component):
    """Fill a built layer with the official component's weights.

    Args:
        layer: a layer with the attribute names of the checkpoint.
        component: a key of `COMPONENTS`.

    Raises:
        ValueError: by Keras, if names or shapes differ.
    """
    path = COMPONENTS[component][2]
    checkpoint = files("gcvit") / "data" / "official_small.keras"
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(checkpoint) as archive:
            whole = archive.extract("model.weights.h5", folder)
        part = Path(folder) / "part.weights.h5"
        with h5py.File(whole) as source, h5py.File(part, "w") as target:
            for name in source[path]:
                source.copy(f"{path}/{name}", target, name)
        keras.saving.load_weights(layer, part)


def difference(outputs, expected):
    """The largest |Δ| between two arrays, over the expected one's deviation.

    Args:
        outputs: a tensor or an array.
        expected: an array of the same shape.

    Returns:
        A float; below `TOLERANCE`, the two count as equal.

    Raises:
        ValueError: if the shapes differ.
    """
    outputs = keras.ops.convert_to_numpy(outputs)
    if outputs.shape != expected.shape:
        raise ValueError(
            f"the output has shape {outputs.shape}, "
            f"the official one has {expected.shape}."
        )
    return float(np.abs(outputs - expected).max() / expected.std())


def parity(layer, component):
    """How far a layer, under official weights, is from the official output.

    Args:
        layer: a layer; it is built, and its weights are replaced.
        component: a key of `COMPONENTS`.

    Returns:
        `difference` between the layer's output and the official one.
    """
    inputs, expected = official(component)
    layer(*inputs)  # creates the variables
    load_official_weights(layer, component)
    return difference(layer(*inputs), expected)
