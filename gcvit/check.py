"""Compare a layer with the official implementation, on stored activations.

`layer` is for a layer that you wrote yourself: it names the first mistake.
The chapters prove their own layers with `parity`.

`data/official_small.keras` is a small GCViT with random weights, written under
the published Keras example's names; `data/official_small.h5` is what each
component of that model receives and returns when NVIDIA's own code runs it in
float64 on two images: one alone would not show a layer that mixes images. Of
each image's attention windows, the first two are there.
"""

import contextlib
import tempfile
import textwrap
import traceback
import zipfile
from importlib.resources import files
from pathlib import Path
from unittest import mock

import h5py
import keras
import numpy as np
from keras import layers, ops

from gcvit import fast_ops
from gcvit.block import Block
from gcvit.checkpoints import shapes_when_saved, stored_shapes
from gcvit.feature_extraction import FeatureExtraction, GlobalQueryGenerator
from gcvit.level import Level
from gcvit.model import GCViT
from gcvit.patch_embed import PatchEmbed
from gcvit.reduce_size import ReduceSize
from gcvit.squeeze_excitation import SqueezeAndExcitation
from gcvit.window_attention import WindowAttention

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

# The chapters' layers, with the arguments of the small official model.
# The small official model.
MODEL = {
    "window_size": (7, 7, 14, 7),
    "embed_dim": 8,
    "depths": (1, 2, 2, 2),
    "num_heads": (1, 2, 4, 8),
    "num_classes": 10,
    "head_activation": None,
}
LAYERS = {
    "squeeze_excitation": lambda: SqueezeAndExcitation(),
    "reduce_size": lambda: ReduceSize(),
    "patch_embed": lambda: PatchEmbed(8),
    "feature_extraction": lambda: FeatureExtraction(),
    "global_query": lambda: GlobalQueryGenerator((False, False)),
    "window_attention_local": lambda: WindowAttention(7, 2, False),
    "window_attention_global": lambda: WindowAttention(7, 2, True),
    "block_local": lambda: Block(7, 2, False, mlp_ratio=3.0),
    "block_global": lambda: Block(7, 2, True, mlp_ratio=3.0),
    "level": lambda: Level(2, 2, 7, mlp_ratio=3.0),
    "model": lambda: GCViT(**MODEL),
}


def official(component):
    """The arrays that an official component receives and returns.

    Args:
        component: a key of `COMPONENTS`.

    Returns:
        The inputs, a list of float32 arrays, channels last, and the output, an
        array. Batch 2, as there are two images; for the window attentions
        batch 4, two windows of the first image and two of the second.

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
    with tempfile.TemporaryDirectory() as folder:
        keras.saving.load_weights(layer, official_weights(component, folder))


def official_weights(component, folder):
    """Write the official component's weights into a file of their own.

    Args:
        component: a key of `COMPONENTS`.
        folder: where to write it, a path.

    Returns:
        The file's path.
    """
    path = COMPONENTS[component][2]
    checkpoint = files("gcvit") / "data" / "official_small.keras"
    with zipfile.ZipFile(checkpoint) as archive:
        whole = archive.extract("model.weights.h5", folder)
    part = Path(folder) / "part.weights.h5"
    with h5py.File(whole) as source, h5py.File(part, "w") as target:
        for name in source[path]:
            source.copy(f"{path}/{name}", target, name)
    return part


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


# === A layer of your own ===

NAMES = (
    "A weight is named by the attributes that lead to it. In a list, a layer "
    "goes by its class: dense, dense_1. vars/0 is the first weight of a "
    "layer, often the kernel, vars/1 the second, often the bias."
)


def layer(yours, component):
    """Check a layer that you wrote, and print its first mistake.

    In this order: does it run; has its output the right shape; are its weights
    the checkpoint's, by number, name and shape; are its numbers the official
    ones, for two images in one batch. A mistake of the layer is printed, not
    raised.

    Args:
        yours: a layer of any class, built or not, which takes the component's
            inputs, see `official`. Once the names and shapes of its weights
            are right, the official ones replace them.
        component: a key of `COMPONENTS`.

    Raises:
        ValueError: for a component that is not stored.
    """
    inputs, expected = official(component)
    report = (
        not_running(yours, inputs)
        or wrong_output(yours(*inputs), expected)
        or wrong_weights(yours, component)
        or wrong_numbers(yours, component)
        or f"Equal to the official {component}: max |Δ| / std = "
        f"{parity(yours, component):.1e}."
    )
    for line in report.splitlines():
        print(textwrap.fill(line, 79))


def not_running(yours, inputs):
    """Say why a layer does not take its inputs; `None` if it does."""
    if not isinstance(yours, layers.Layer):
        return (
            f"{yours!r} is not a layer. Make one of your class, such as "
            "MyLayer(), with its arguments."
        )
    was_built = yours.built
    # Keras would wrap the error into a longer one.
    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yours(*inputs)
    except Exception as error:  # noqa: BLE001 -- whatever your code raises
        shapes = " and ".join(str(array.shape) for array in inputs)
        report = [
            f"Your layer does not run on inputs of {shapes}:",
            f"{type(error).__name__}: {error}",
        ]
        frames = traceback.walk_tb(error.__traceback__)
        names = [frame.f_globals.get("__name__") for frame, _ in frames]
        steps = traceback.extract_tb(error.__traceback__)
        own = [
            step
            for step, name in zip(steps, names)
            if name == type(yours).__module__
        ]
        if own:
            report += [f"It comes from the line: {own[-1].line}"]
        if was_built:
            report += ["It was built before; is that for another shape?"]
        if runs(yours, first_image(inputs)):
            report += ["It runs on one image. Is a batch of 1 written down?"]
        return "\n".join(report)
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()


def runs(yours, inputs):
    """Whether a layer takes its inputs."""
    try:
        yours(*inputs)
    except Exception:  # noqa: BLE001 -- whatever your code raises
        return False
    return True


def right_alone(yours, inputs, expected):
    """Whether a layer that is wrong for two images is right for the first."""
    alone, (right,) = first_image(inputs), first_image([expected])
    if not runs(yours, alone):
        return False
    outputs = yours(*alone)
    return not wrong_output(outputs, right) and (
        difference(outputs, right) < TOLERANCE
    )


def first_image(arrays):
    """Take the first image of two, or its windows, out of each array."""
    return [array[: len(array) // 2] for array in arrays]


def wrong_output(outputs, expected):
    """Say what a layer should have returned; `None` for the right shape."""
    if not ops.is_tensor(outputs):
        return (
            f"Your layer returns a {type(outputs).__name__}; it must return "
            f"one tensor, of shape {expected.shape}."
        )
    if tuple(outputs.shape) != expected.shape:
        return (
            f"The output has shape {tuple(outputs.shape)}, the official one "
            f"{expected.shape}."
        )


def wrong_weights(yours, component):
    """Say which weights differ from a checkpoint's; `None` if none does."""
    with tempfile.TemporaryDirectory() as folder:
        found = shapes_when_saved(yours)
        wanted = stored_shapes(official_weights(component, folder))
    if found == wanted:
        return None
    missing = [f"{n} {wanted[n]}" for n in sorted(wanted.keys() - found)]
    extra = [f"{n} {found[n]}" for n in sorted(found.keys() - wanted)]
    others = [
        f"{n} {found[n]}, not {wanted[n]}"
        for n in sorted(wanted.keys() & found)
        if found[n] != wanted[n]
    ]
    report = [
        f"Weights: {len(found)} in your layer, {len(wanted)} official ones."
    ]
    for kind, names in (
        ("missing", missing),
        ("too many", extra),
        ("wrong shape", others),
    ):
        report += [f"  {kind}: {name}" for name in names[:5]]
        if len(names) > 5:
            report += [f"  {kind}: {len(names) - 5} more"]
    if missing or extra:
        report += [NAMES]
    return "\n".join(report)


def wrong_numbers(yours, component):
    """Say how far the numbers are off, and why; `None` if they are right."""
    inputs, expected = official(component)
    far = parity(yours, component)
    if far < TOLERANCE:
        return None
    outputs = ops.convert_to_numpy(yours(*inputs))
    again = ops.convert_to_numpy(yours(*inputs))
    report = (
        "Shapes and names are right, the numbers are not: max |Δ| / std = "
        f"{far:.2g}, the bound is {TOLERANCE:.0e}.\n"
    )
    if np.isnan(far):
        return report + "Some numbers are NaN, such as 0 / 0 or inf - inf."
    if not np.array_equal(outputs, again):
        return report + "Two calls differ: something is random, or changes."
    if yours.compute_dtype != "float32":
        return report + (
            f"Your layer computes in {yours.compute_dtype}; the bound is for "
            "float32."
        )
    mistake = known_mistake(component, outputs)
    if mistake:
        return report + f"The official layer gives your numbers if {mistake}"
    if right_alone(yours, inputs, expected):
        return report + (
            "One image alone is right, two in a batch are not: look for a "
            "step that mixes images, such as a mean over the batch or a "
            "reshape."
        )
    if far < 0.01:
        return report + (
            "So little comes from a detail: an epsilon, an approximation, a "
            "precision below float32."
        )
    return report + (
        "So much comes from a step that is missing, or that computes "
        "something else: look at axes, orders and paddings."
    )


# === Known mistakes ===

# What the right layer would have to do, and what is right.
MISTAKES = {
    "keras_epsilon": "epsilon is 1e-3, which is Keras's own. Write "
    "LayerNormalization(epsilon=1e-5).",
    "small_epsilon": "epsilon is 1e-6. Write "
    "LayerNormalization(epsilon=1e-5).",
    "tanh_gelu": "GELU is the approximation by tanh, as in ops.gelu(x). Write "
    'ops.gelu(x, approximate=False), or activation="gelu".',
    "relu": "ReLU stands in for GELU.",
    "same_convolution": 'padding="same" pads the convolution of stride 2. Pad '
    "one pixel on each side instead.",
    "zero_pooling": "the max-pooling pads with zeros. Pad with minus "
    "infinity.",
    "same_pooling": 'padding="same" pads the max-pooling. Pad one pixel on '
    "each side instead, with minus infinity.",
    "unscaled": "the queries are not scaled. Divide them by the root of the "
    "channels in each head.",
    "transposed_index": "the position index is transposed. Take query minus "
    "key.",
    "flat_table": "the bias table is read without axis=0.",
    "no_bias": "the position bias is missing.",
    "tile": "the global query is tiled across the batch: one image alone is "
    "right, in a batch windows get another image's query. Write ops.repeat "
    "with axis=0, not ops.tile.",
    "strips": "the windows are cut, or put together, without a transpose.",
}


def known_mistake(component, outputs):
    """Find the mistake with which the chapter's layer gives the same numbers.

    Args:
        component: a key of `COMPONENTS`.
        outputs: what your layer gives for the official inputs, an array.

    Returns:
        The text of `MISTAKES`; `None` if no known mistake gives these numbers.
    """
    inputs, _ = official(component)
    chapters = LAYERS[component]()
    parity(chapters, component)  # the official weights
    # What you wrote yourself may be the outermost layer only.
    for recursive in (False, True):
        parts = chapters._flatten_layers(recursive=recursive)
        for name, changes in changes_of(parts).items():
            with switched_on(changes):
                far = difference(chapters(*inputs), outputs)
            if far < TOLERANCE:
                return MISTAKES[name]
    return None


@contextlib.contextmanager
def mistaken(model, name):
    """Switch a known mistake on, in every layer that can make it.

        with check.mistaken(model, "tile"):
            wrong = model(images)

    Args:
        model: a model or a layer of this package, built.
        name: a key of `MISTAKES`.

    Raises:
        ValueError: for another name, or if no layer can make the mistake.
    """
    if not model.built:
        raise ValueError(
            f"{model.name} is not built, so its layers are not there. Call it "
            "on images first."
        )
    changes = changes_of(model._flatten_layers())
    if name not in changes:
        raise ValueError(
            f"name={name!r} is not a mistake that {model.name} can make; "
            f"these are: {', '.join(changes)}."
        )
    # What predict and evaluate have compiled is without the mistake.
    compiled = {"predict_function": None, "test_function": None}
    with (
        mock.patch.multiple(model, create=True, **compiled),
        switched_on(changes[name]),
    ):
        yield


def changes_of(parts):
    """Collect the mistakes of layers.

    Args:
        parts: layers, as in `mistakes`.

    Returns:
        A dict from names to lists of pairs: a layer, and its attributes that
        make the mistake.
    """
    changes = {}
    for part in parts:
        for name, attributes in mistakes(part).items():
            changes.setdefault(name, []).append((part, attributes))
    return changes


@contextlib.contextmanager
def switched_on(changes):
    """Give layers other attributes, and in the end their own again."""
    with contextlib.ExitStack() as stack:
        for part, attributes in changes:
            stack.enter_context(mock.patch.multiple(part, **attributes))
        yield


def mistakes(part):
    """List a layer's known mistakes, each with the attributes that make it.

    Args:
        part: a layer of this package, or one of Keras's inside it; built.

    Returns:
        A dict from a key of `MISTAKES` to a dict from attributes to values.
    """
    if isinstance(part, layers.LayerNormalization):
        return {
            "keras_epsilon": {"epsilon": 1e-3},
            "small_epsilon": {"epsilon": 1e-6},
        }
    if isinstance(part, Block):
        return {
            "strips": {
                "call": lambda *inputs, **options: in_strips(part, *inputs)
            }
        }
    if getattr(part, "activation", None) in fast_ops.EXACT_GELUS:
        return {
            "tanh_gelu": {"activation": ops.gelu},
            "relu": {"activation": ops.relu},
        }
    if isinstance(part, layers.Conv2D) and part.strides == (2, 2):
        convolve = part.call
        return {"same_convolution": {"call": lambda x: convolve(x[:, 1:, 1:])}}
    if isinstance(part, FeatureExtraction) and not part.keepdims:
        refine, border = part.call, ((0, 0), (1, 1), (1, 1), (0, 0))
        return {
            "zero_pooling": {
                "keepdims": True,
                "call": lambda x: ops.max_pool(
                    ops.pad(refine(x), border), 3, 2
                ),
            },
            "same_pooling": {
                "keepdims": True,
                "call": lambda x: ops.max_pool(
                    refine(x), 3, 2, padding="same"
                ),
            },
        }
    if isinstance(part, WindowAttention):
        attend, table = part.call, part.relative_position_bias_table
        changes = {
            "unscaled": {"scale": 1.0},
            "transposed_index": {"index": part.index.T},
            "flat_table": {
                "relative_position_bias": lambda: ops.take(table, part.index)
            },
            "no_bias": {"relative_position_bias": lambda: 0.0},
            "tile": {
                "call": lambda x, q_global, **options: attend(
                    x,
                    tiled(q_global, ops.shape(x)[0]),
                    **options | {"windows": 1},
                )
            },
        }
        if not part.global_query:
            del changes["tile"]
        return changes
    return {}


def tiled(q_global, windows):
    """Give each window a query: the images' in turn, not its own image's."""
    times = windows // ops.shape(q_global)[0]
    return ops.tile(q_global, (times, 1, 1, 1))


def in_strips(block, x, q_global=None):
    """Call a block whose windows are strips: reshaped, but not transposed."""
    shape, (h, w) = x.shape, block.window_size
    windows = ops.reshape(block.norm1(x), (-1, h * w, shape[-1]))
    x = x + ops.reshape(block.attn(windows, q_global), (-1, *shape[1:]))
    return x + block.mlp(block.norm2(x))
