# Generated from book/feature_extraction.ipynb, digest ee2fdddb. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module feature_extraction
# %% [markdown]
r"""
# Feature extraction and the global query

At the end of this chapter you have `GlobalQueryGenerator`, which shrinks a
whole feature map to the size of one window, and `FeatureExtraction`, the step
it repeats. Its result, the global query, is what GCViT is named for.
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

# %% mystnb={"figure": {"caption": "You are here: `GlobalQueryGenerator`, at the start of each level, and the `FeatureExtraction` that it repeats.", "name": "figure-feature-extraction-map"}, "image": {"alt": "Map of GCViT in four rows; the boxes GlobalQueryGenerator and FeatureExtraction are highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("feature_extraction")
"""

# %% [markdown]
r"""
## The idea

Attention inside a [window](glossary.md#term-window) is cheap and blind: a
token in the top left corner never meets one in the bottom right. GCViT's
answer is to summarise the whole map once, in as many tokens as one window has,
and to let every window be questioned by that summary.

The summary must be 7×7 when the windows are 7×7. A map of 56×56 therefore goes
through three halvings: 56, 28, 14, 7. Each halving is one `FeatureExtraction`:
the fused MBConv of [Reduce size](reduce_size.ipynb), added to its input, then a
max-pooling with stride 2. The channels stay as they are.

Each token of the summary stands for a region of the map, here 8×8 tokens, and
convolution and pooling reach a margin around it. What lies farther away reaches
it through squeeze and excitation, by its mean. So each token depends on the
whole map.
"""

# %% mystnb={"figure": {"caption": "From 56\u00d756 tokens to the global query: each step halves the map, until one window is left. The lines part windows of 7\u00d77 tokens.", "name": "figure-feature-extraction-halvings"}, "image": {"alt": "Four squares of shrinking size, labelled 56 by 56, 28 by 28, 14 by 14 and 7 by 7, joined by arrows labelled FeatureExtraction."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(13, 4.2)
x = 0.2
for size in (56, 28, 14, 7):
    side = 0.9 + size / 25
    color = plots.HERE if size == 7 else plots.PAPER
    bottom, windows = 2.5 - side / 2, (size // 7, size // 7)
    plots.tensor(axes, x, bottom, side, side, "", color, windows, plots.INK)
    axes.text(x + side / 2, bottom - 0.4, f"{size}×{size}", ha="center")
    if size > 7:
        plots.arrow(axes, (x + side, 2.5), (x + side + 1.5, 2.5))
    x += side + 1.5
axes.text(7.2, 0.3, "each arrow is one FeatureExtraction", ha="center")
plots.plt.show()
"""

# %% [markdown]
r"""
For a map of $H \times W$ and a window of $h \times w$ the number of halvings is

$$K = \log_2\frac{H}{h} = \log_2\frac{W}{w}$$

and the generator applies $K$ times

$$x \leftarrow \mathrm{MaxPool}\!\left(x + \mathrm{MBConv}(x)\right).$$

Where the window already covers the map, $K = 0$, one `FeatureExtraction`
without pooling remains.

The paper describes this in its section "Global Query Generator"; the official
classes are `GlobalQueryGen` and `FeatExtract` in
[NVlabs/GCVit](https://github.com/NVlabs/GCVit). There the number of steps is
written out for four levels; here [Level](level.ipynb) computes it, so that
other image sizes work too.

## The code
"""

# %%
import keras
from keras import layers, ops

from gcvit import arguments
from gcvit.reduce_size import add_fused_mbconv, fused_mbconv
from gcvit.sizes import halve


# %% [markdown]
r"""
PyTorch pads a max-pooling with minus infinity, so that the border never wins:
each patch of 3×3 holds at least one value of the map, and that is larger.
Keras's pooling has no such option, so `call` pads first.

`keepdims` here keeps height and width; in `ReduceSize` it kept the channels.
Both names are the Keras example's.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class FeatureExtraction(layers.Layer):
    """Refine a map with a fused MBConv, and halve it by max-pooling.

    Shapes: `(B, H, W, C)` in, `(B, ⌈H/2⌉, ⌈W/2⌉, C)` out; with `keepdims`
    `(B, H, W, C)`. `C` is at least 4.

    Args:
        keepdims: whether height and width stay the same, a bool.

    Raises:
        ValueError: for another `keepdims`; when built with fewer than 4
            channels.

    Source: paper, "Global Query Generator"; `FeatExtract` in NVlabs/GCVit.
    """

    def __init__(self, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.keepdims = arguments.boolean("keepdims", keepdims)

    def build(self, input_shape):
        self.conv = fused_mbconv(input_shape[-1], self.dtype_policy)

    def call(self, inputs):
        x = add_fused_mbconv(inputs, self.conv)  # (B, H, W, C)
        if self.keepdims:
            return x
        # Zeros would win wherever the border is negative.
        border = ((0, 0), (1, 1), (1, 1), (0, 0))
        x = ops.pad(x, border, constant_values=-float("inf"))
        return ops.max_pool(x, 3, strides=2, data_format="channels_last")

    def compute_output_shape(self, input_shape):
        if self.keepdims:
            return input_shape
        batch, height, width, dim = input_shape
        return (batch, halve(height), halve(width), dim)

    def get_config(self):
        return super().get_config() | arguments.given(self, FeatureExtraction)


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class GlobalQueryGenerator(layers.Layer):
    """Summarise a whole map in a global query of the size of one window.

    Shapes: `(B, H, W, C)` in, `(B, h, w, C)` out, with `h` and `w` halved once
    for each false entry of `keepdims`. `C` is at least 4.

    Args:
        keepdims: one bool for each `FeatureExtraction`, a sequence: false
            halves the map, true keeps its size.

    Raises:
        ValueError: if `keepdims` is no sequence or empty; when built with
            fewer than 4 channels.

    Source: paper, "Global Query Generator"; `GlobalQueryGen` in NVlabs/GCVit.
    """

    def __init__(self, keepdims, **kwargs):
        super().__init__(**kwargs)
        per = "FeatureExtraction"
        self.keepdims = arguments.booleans("keepdims", keepdims, per)

    def build(self, input_shape):
        self.to_q_global = [
            FeatureExtraction(keepdims, dtype=self.dtype_policy)
            for keepdims in self.keepdims
        ]
        for layer in self.to_q_global:
            layer.build(input_shape)

    def call(self, inputs):
        x = inputs
        for layer in self.to_q_global:
            x = layer(x)
        return x  # (B, h, w, C)

    def compute_output_shape(self, input_shape):
        batch, height, width, dim = input_shape
        for keepdims in self.keepdims:
            if not keepdims:
                height, width = halve(height), halve(width)
        return (batch, height, width, dim)

    def get_config(self):
        return super().get_config() | arguments.given(
            self, GlobalQueryGenerator
        )


# %% [markdown]
r"""
## The proof

Shapes first, for the first level of XXTiny.
"""

# %% tags=["active-ipynb"]
r"""
x = keras.random.normal((1, 56, 56, 64), seed=0)
generator = GlobalQueryGenerator((False, False, False))
print(tuple(x.shape), "->", tuple(generator(x).shape))
print(generator.count_params(), "parameters")
"""

# %% [markdown]
r"""
Then the numbers: one step, and a whole generator with two halvings.
"""

# %% tags=["active-ipynb"]
r"""
for layer, component in (
    (FeatureExtraction(), "feature_extraction"),
    (GlobalQueryGenerator((False, False)), "global_query"),
):
    difference = check.parity(layer, component)
    print(f"{component:18}  max |Δ| / std = {difference:.5f}")
    assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
What does a summary look like? With its branches set to zero, the generator is
three max-poolings. Here is Chelsea at 56×56, and what is left of her.
"""

# %% mystnb={"figure": {"caption": "What three max-poolings leave of a photograph: colours and where they are, no detail.", "name": "figure-feature-extraction-summary"}, "image": {"alt": "A cat's photograph at 56 by 56 pixels beside its summary of 7 by 7 pixels, in which only broad patches of colour are left."}} tags=["active-ipynb"]
r"""
import numpy as np
from skimage.data import chelsea
from skimage.transform import resize

small = resize(chelsea()[:, 75:375], (56, 56), anti_aliasing=True)
image = np.pad(small, ((0, 0), (0, 0), (0, 1)))[None]  # four channels
generator = GlobalQueryGenerator((False, False, False))
generator.build(image.shape)
generator.set_weights([0 * weight for weight in generator.get_weights()])
summary = ops.convert_to_numpy(generator(image))
_, axes = plots.plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
for axis, shown in zip(axes, (image, summary)):
    axis.imshow(shown[0, ..., :3])
    axis.set_title(f"{shown.shape[1]}×{shown.shape[2]}")
    axis.axis("off")
plots.show_photos()
"""

# %% [markdown]
r"""
## What can go wrong

The published Keras example pads this max-pooling with zeros. Look at a row of
negative values: the left end changes.
"""

# %% mystnb={"figure": {"caption": "Max-pooling a row of negative values. Padding with zeros invents a maximum at the left end, which no value has.", "name": "figure-feature-extraction-padding"}, "image": {"alt": "Line chart of a row of eight negative values and its max-pooling. Padded with minus infinity the result stays negative everywhere; padded with zeros it jumps to zero at the left end."}} tags=["active-ipynb"]
r"""
row = -np.array([3, 4, 2, 5, 4, 6, 3, 2], "float32")[None, None, :, None]


def pooled(value):
    x = np.pad(row, ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=value)
    return ops.max_pool(x, (1, 3), strides=(1, 2))[0, 0, :, 0]


_, axes = plots.plt.subplots(figsize=(6, 2.4), layout="constrained")
axes.plot(row[0, 0, :, 0], "o:", color=plots.INK, label="values")
for value, color in ((-np.inf, plots.BLUE), (0.0, plots.RED)):
    label = f"pooled, padded with {value:.0f}"
    axes.plot(range(0, 8, 2), pooled(value), "s-", color=color, label=label)
axes.set_xlabel("position")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.plt.show()
"""

# %% [markdown]
r"""
In two dimensions the zeros win in the top row and the left column, wherever all
values that a patch of 3×3 holds are negative. On a map of odd size the bottom
and the right follow. The parity check sees it at once.
"""

# %% tags=["active-ipynb"]
r"""
class ZeroPadding(FeatureExtraction):
    def call(self, inputs):
        x = add_fused_mbconv(inputs, self.conv)
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return ops.max_pool(x, 3, strides=2)


difference = check.parity(ZeroPadding(), "feature_extraction")
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
The other way to go wrong is `padding="same"`, which moves every patch by one
position, as in [Reduce size](reduce_size.ipynb). keras_cv_attention_models
1.4.3 does that.

## Summary

- `FeatureExtraction` is a fused MBConv with a residual sum, then a max-pooling.
- The generator repeats it until the map has the size of a window; that is the global query.
- Max-pooling must pad with minus infinity.

## Exercises

1. A map is (1, 64, 80, 32) and the window 8×10. How many steps does the generator have, and what shape has the global query? And for a map of 14×14 with a window of 14×14?
2. Why does padding a max-pooling with minus infinity never put an infinity into the result?
3. For which maps does padding with zeros break nothing?
4. Write `FeatureExtraction` yourself, without an infinity: repeat the border pixels with `ops.pad(…, mode="symmetric")`. What does `check.layer(yours, "feature_extraction")` say?

<details><summary>Answers to 1, 2 and 3</summary>

1. Three: 64 is 8·2³, and 80 is 10·2³. The query is (1, 8, 10, 32). In the second case one, with `keepdims=True`: there is nothing to halve, yet the query still passes one refinement.
2. Each patch of 3×3, even in a corner, still holds at least one value of the map, and that is larger.
3. For those where each patch at the border has a value of at least zero in it. Only where all are negative does the zero win.

</details>

The solution to 4 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
class Symmetric(layers.Layer):
    def build(self, input_shape):
        self.conv = fused_mbconv(input_shape[-1])

    def call(self, inputs):
        branch = inputs
        for layer in self.conv:
            branch = layer(branch)
        border = ((0, 0), (1, 1), (1, 1), (0, 0))
        x = ops.pad(inputs + branch, border, mode="symmetric")
        return ops.max_pool(x, 3, strides=2)


check.layer(Symmetric(), "feature_extraction")
"""

# %% [markdown]
r"""
Next: [Window attention](window_attention.ipynb) puts the global query to work.

To look up: [`GlobalQueryGenerator`](api.md#gcvit.GlobalQueryGenerator),
[`FeatureExtraction`](api.md#gcvit.FeatureExtraction) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
