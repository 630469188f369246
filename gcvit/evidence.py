# Generated from book/evidence.ipynb, digest f01764e4. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module evidence
# %% [markdown]
r"""
# Evidence

At the end of this chapter you have `Evidence`. WRITE: what it does, in two sentences.
"""

# %% mystnb={"code_prompt_hide": "Hide the installation", "code_prompt_show": "Show the installation"} tags=["active-ipynb", "hide-input"]
r"""
# Only Colab needs to install anything: the package these chapters build.
try:
    import gcvit.check
except ImportError:
    %pip install -q git+https://github.com/gcvit-book/gcvit-book

from gcvit import check, plots

plots.use_style()
"""

# %% mystnb={"figure": {"caption": "You are here: `Evidence`.", "name": "figure-evidence-map"}, "image": {"alt": "Map of GCViT in four rows; the box Evidence is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("evidence")
"""

# %% [markdown]
r"""
## The idea

WRITE: in plain words what the layer does, with numbers small enough to follow
by hand. Then the formula, and its source.

## The code
"""

# %%
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
from keras import layers, ops

from gcvit import block, level, reduce_size
from gcvit.block import Block, window_partition
from gcvit.model import GCViT
from gcvit.window_attention import WindowAttention


# %%
class LocalBlock(Block):
    """A block that asks with its own tokens, whatever its place in a level."""

    def __init__(self, *args, global_query, **kwargs):
        super().__init__(*args, global_query=False, **kwargs)


# %%
class ShiftedBlock(LocalBlock):
    """A local block; in odd places its windows are shifted by half a window.

    Source: Swin Transformer, arXiv 2103.14030, section 3.2.
    """

    def __init__(self, *args, global_query, **kwargs):
        super().__init__(*args, global_query=global_query, **kwargs)
        self.is_shifted = global_query

    def build(self, inputs_shape, q_global_shape=None):
        super().build(inputs_shape)
        map_size, window = inputs_shape[1:3], self.window_size
        if not self.is_shifted or tuple(map_size) == window:
            self.shift = (0, 0)  # one window holds the whole map
        else:
            self.shift = (window[0] // 2, window[1] // 2)
            self.attn.mask = border_mask(map_size, window, self.shift)

    def call(self, inputs, q_global=None, training=None):
        rows, columns = self.shift
        x = ops.roll(inputs, (-rows, -columns), axis=(1, 2))
        x = super().call(x, training=training)
        return ops.roll(x, (rows, columns), axis=(1, 2))


# %%
def border_mask(map_size, window_size, shift):
    """Keep tokens apart that only rolling the map brought into one window.

    Args:
        map_size: height and width of the map, a pair.
        window_size: height and width of a window, a pair.
        shift: by how much the map was rolled, a pair.

    Returns:
        What to add to the scores, an array `(M, 1, N, N)`: 0, or -100 for
        tokens from opposite borders.
    """
    rows, columns = np.indices(map_size)
    is_lower = rows >= map_size[0] - shift[0]  # came in from the top
    is_right = columns >= map_size[1] - shift[1]
    parts = (2 * is_lower + is_right)[None, :, :, None]
    parts = ops.convert_to_numpy(window_partition(parts, window_size))
    parts = parts.reshape(len(parts), 1, -1)  # (M, 1, N)
    is_same = parts[..., :, None] == parts[..., None, :]
    return np.where(is_same, 0, -100).astype("float32")


# %%
class MaskedAttention(WindowAttention):
    """Attention in windows, some of whose tokens must not meet."""

    mask = None  # or (M, 1, N, N), for each window of an image

    def call(self, inputs, q_global=None, training=None):
        self.windows = ops.shape(inputs)[0]
        return super().call(inputs, q_global, training=training)

    def relative_position_bias(self):
        bias = super().relative_position_bias()
        if self.mask is None:
            return bias
        images = self.windows // len(self.mask)
        return ops.tile(bias + self.mask, (images, 1, 1, 1))


# %%
def average_query(keepdims, dtype):
    """The map, averaged to the size of a window, instead of a generator."""
    return layers.AveragePooling2D(2 ** keepdims.count(False), dtype=dtype)


# %%
def no_query(keepdims, dtype):
    """Nothing, where no block asks globally."""
    return layers.Identity(dtype=dtype)


# %%
def no_squeeze(dtype):
    """Nothing, instead of squeeze and excitation."""
    return layers.Identity(dtype=dtype)


# %%
VARIANTS = {
    "global query": [],
    "average as query": [(level, "GlobalQueryGenerator", average_query)],
    "shifted windows": [
        (level, "Block", ShiftedBlock),
        (level, "GlobalQueryGenerator", no_query),
        (block, "WindowAttention", MaskedAttention),
    ],
    "local only": [
        (level, "Block", LocalBlock),
        (level, "GlobalQueryGenerator", no_query),
    ],
    "no squeeze": [(reduce_size, "SqueezeAndExcitation", no_squeeze)],
}


def build_variant(changes, image_size, **arguments):
    """Build a `GCViT` some of whose parts are others.

    Args:
        changes: a list of triples, as in `VARIANTS`: a module, the name of a
            class in it, and what to build instead.
        image_size: height and width of the images, an int.
        arguments: those of `GCViT`.

    Returns:
        A `GCViT`, built.
    """
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(patch.object(*change))
        model = GCViT(**arguments)
        model.build((None, image_size, image_size, 3))
    return model


# %% [markdown]
r"""
## The proof

WRITE: how you know that the layer is right. Where the official code has it,
compare with what that returns: `check.parity(layer, "evidence")`, after
`tools/official_arrays.py` has stored it. Otherwise compare with the formula,
written in NumPy, as here.
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np

x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
expected = 2 * x
layer = Evidence(scale=2)
difference = check.difference(layer(x), expected)
print(tuple(layer(x).shape), f"max |Δ| / std = {difference:.5f}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
## What can go wrong

WRITE: what you break, and which check notices.
"""

# %% tags=["active-ipynb"]
r"""
difference = check.difference(Evidence(scale=2.1)(x), expected)
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
## Summary

- WRITE: what the layer does.
- WRITE: why it is in the model.
- WRITE: what goes wrong without it.

## Exercises

1. WRITE: a question.
2. Write the layer yourself, and compare it with the formula.

<details><summary>Answer to 1</summary>

1. WRITE: its answer.

</details>

The solution to 2 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
class MyEvidence(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


print(f"{check.difference(MyEvidence()(x), expected):.5f}")
"""

# %% [markdown]
r"""
You have built GCViT. [Next](pretrained.ipynb), give it weights that know
something.

To look up: the [API reference](api.md); the [papers](references.md); the
[words](glossary.md).
"""
