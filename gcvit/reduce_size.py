# Generated from book/reduce_size.ipynb, digest 9c6e459d. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module reduce_size
# %% [markdown]
r"""
# Reduce size

At the end of this chapter you have `ReduceSize`, the layer that halves a
feature map and doubles its channels, and `fused_mbconv`, the convolutional
branch inside it.

About 20 minutes to read. Easy, but for one trap: the padding.

The attention of later chapters works on maps, and needs both. `ReduceSize` makes
the smaller map that the next level attends to: a quarter of the tokens, so a
window of 7×7 tokens then covers four times as much of the image. The branch is
also what makes the [global query](glossary.md#term-global-query), with which
attention asks every window.
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's parts sit in the model: `ReduceSize` at the end of each level but the last, and the fused MBConv inside it.", "name": "figure-reduce-size-map"}, "image": {"alt": "Map of GCViT in four rows; the boxes ReduceSize and fused MBConv are highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("reduce_size")
"""

# %% [markdown]
r"""
## The idea

Between two levels the map has to shrink. The
[Swin Transformer](https://arxiv.org/abs/2103.14030) cuts it into squares of 2×2
tokens and mixes each square with a dense layer. GCViT uses convolutions
instead. Their patches of 3×3 tokens overlap, and neighbours share what they see.
So the model need not learn that neighbours belong together, as it would have to
with attention alone.

The layer first refines the map with a residual branch: what the branch
computes is added to what came in. So the branch only has to learn a correction,
and a branch that gives zeros leaves the map as it is. This branch is called
**fused MBConv**, after the mobile bottleneck convolution of
[MobileNetV2](https://arxiv.org/abs/1801.04381), and has three steps:

- a 3×3 convolution for each channel alone ([depthwise](glossary.md#term-depthwise-convolution)), which looks at neighbours;
- [squeeze and excitation](squeeze_excitation.ipynb), which looks at the whole map;
- a 1×1 convolution ([pointwise](glossary.md#term-pointwise-convolution)), which mixes channels.

Then one 3×3 convolution with stride 2 halves height and width, and doubles the
channels. A layer normalisation opens the layer and another closes it. Each gives
the channels of a position mean 0 and variance 1, then scales and shifts them by
learned numbers. So the next level receives numbers of one scale, whatever the
convolutions made.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "`ReduceSize`. The highlighted branch is the fused MBConv: it corrects the map, to which it is added, before a convolution halves it.", "name": "figure-reduce-size-steps"}, "image": {"alt": "Diagram of ReduceSize: norm1, then the fused MBConv branch added to its input, then a 3 by 3 convolution with stride 2, then norm2."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(15, 3)
parts = ["norm1", "depthwise\n3×3, GELU", "squeeze and\nexcitation"]
parts += ["conv\n1×1", "+", "conv 3×3\nstride 2", "norm2"]
widths = [1.5, 1.9, 2.1, 1.3, 0.7, 1.7, 1.5]
x = 0.2
for i, (part, width) in enumerate(zip(parts, widths)):
    color = plots.HERE if 0 < i < 4 else plots.PAPER
    plots.box(axes, x, 0.4, width, 1.2, part, color)
    if i < len(parts) - 1:
        plots.arrow(axes, (x + width, 1), (x + width + 0.65, 1))
    x += width + 0.65
axes.plot([2.0, 2.0, 10.25], [1.0, 2.3, 2.3], color=plots.INK)
plots.arrow(axes, (10.25, 2.3), (10.25, 1.6))
axes.text(6, 2.45, "the map itself", ha="center")
plots.plt.show()
"""

# %% [markdown]
r"""
With $\mathrm{LN}$ for layer normalisation and $*$ for convolution:

$$\begin{aligned}
z &= \mathrm{LN}_1(x) \\
y &= \mathrm{LN}_2\!\left(W_{3\times3} *_{\,\text{stride }2}
\left(z + \mathrm{MBConv}(z)\right)\right)
\end{aligned}$$

The shortcut starts after the first normalisation, not before it.

The paper describes this in its section "Downsampler", where the fused MBConv
is written as four steps; the official class is `ReduceSize` in
[NVlabs/GCVit](https://github.com/NVlabs/GCVit). The block goes back to
[EfficientNetV2](https://arxiv.org/abs/2104.00298), with a depthwise
convolution in place of the expanding one.

> The paper's text names a max-pooling as the last step. The official code has
> the strided convolution, and the released weights were trained with it.

### By hand

Take one row of eight positions, numbered from 0, and put a zero, the pad, at
either end. The convolution reads three neighbours at a time, and then moves on
by two.

**Predict, then see.** How many outputs does the row give, and which positions
does each of them read? To see it, the next cell convolves eight rows, with a
single one at position 0, 1, 2 and so on. An output that is not zero has read
the one.
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np
from keras import ops


def positions_read(size, pad, padding="valid"):
    rows = np.pad(np.eye(size, dtype="float32"), ((0, 0), (pad, pad)))
    kernel = np.ones((3, 1, 1), "float32")
    outputs = ops.conv(rows[..., None], kernel, strides=2, padding=padding)
    outputs = ops.convert_to_numpy(outputs)[..., 0]  # (row, output)
    return [np.flatnonzero(output).tolist() for output in outputs.T]


for size in (8, 7):
    print(f"{size} positions:", *positions_read(size, pad=1))
"""

# %% [markdown]
r"""
Eight positions become four, and seven become four as well. The first output
reads two positions and the left pad. The next one reads positions 1 to 3, and so
shares position 1 with its neighbour. In a row of eight the right pad is never
read; in a row of seven the last output reads it.

## The code
"""

# %%
import keras
from keras import layers, ops

from gcvit import arguments, fast_ops
from gcvit.sizes import halve
from gcvit.squeeze_excitation import SqueezeAndExcitation


# %% [markdown]
r"""
The branch is a function that returns a list of layers. It is a list because
published checkpoints expect one: they store the layers under
`conv/depthwise_conv2d`, `conv/squeeze_and_excitation` and `conv/conv2d`, and a
`Sequential` would add a step to those names. None of the layers has a bias, as
in the official code.

> **A word on compilers.** `fast_ops.DepthwiseConv2D` is Keras's layer, with the
> same weight under the same name. With JAX on a CPU it computes another way: the
> compiler there, XLA, is slow at a depthwise convolution. Written out, it is nine
> shifted maps, each times its row of the kernel, added up. That takes a
> fraction of the time. Its gradient is as slow, so
> [`gcvit.fast_ops`](api.md#fast-ops) has a formula for it, and does the same for
> the convolution with stride 2 below. With PyTorch the layer hands over a view of
> the map, where Keras would copy it twice. Everywhere else Keras's own way is
> faster, and is used. [Speed](speed.md) has the figures.
"""


# %%
def fused_mbconv(dim, dtype=None):
    """Build the layers of the fused MBConv branch, in the order of their use.

    Shapes: `(B, H, W, dim)` in and out, any height and width.

    Args:
        dim: channels, an int of at least 4; squeezing takes a quarter of them.
        dtype: dtype policy of the layers; `None` takes Keras's current one.

    Returns:
        A list of three built layers: depthwise convolution with GELU, squeeze
        and excitation, pointwise convolution. None has a bias.

    Raises:
        ValueError: if `dim` is below 4.

    Source: paper, "Downsampler"; `ReduceSize.conv` in NVlabs/GCVit.
    """
    # Channels last, whatever Keras's global image data format is.
    options = {"use_bias": False, "data_format": "channels_last"}
    branch = [
        fast_ops.DepthwiseConv2D(
            3, padding="same", activation="gelu", dtype=dtype, **options
        ),
        SqueezeAndExcitation(dtype=dtype),
        layers.Conv2D(dim, 1, dtype=dtype, **options),
    ]
    for layer in branch:
        layer.build((None, None, None, dim))
    return branch


# %% [markdown]
r"""
`add_fused_mbconv` runs the branch and adds what comes in. A pointwise
convolution multiplies the channels by the same matrix at each position, and the
last step is written as that product, with all positions as rows of one matrix. It is faster that way with JAX, with
PyTorch in the forward pass, and with TensorFlow in training: [Speed](speed.md)
has the figures. The layer stays a `Conv2D`, so that its weight keeps its name
and shape.
"""


# %%
def add_fused_mbconv(x, branch):
    """Add the result of a fused MBConv branch to what it is computed from.

    Shapes: `(B, H, W, C)` in and out.

    Args:
        x: a map, a tensor.
        branch: the layers of `fused_mbconv`, for `C` channels.

    Returns:
        The sum, a tensor.

    Source: paper, "Downsampler"; `ReduceSize.forward` in NVlabs/GCVit.
    """
    depthwise, squeeze_and_excitation, pointwise = branch
    y = squeeze_and_excitation(depthwise(x))
    rows = ops.reshape(y, (-1, y.shape[-1]))
    y = ops.reshape(ops.matmul(rows, pointwise.kernel[0, 0]), ops.shape(y))
    return x + y


# %% [markdown]
r"""
A convolution with stride 2 and one position of padding at each end turns 56
positions into 28, and 7 into 4: half, rounded up.
[`halve`](api.md#gcvit.sizes.halve) computes that for every layer that halves.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class ReduceSize(layers.Layer):
    """Halve height and width with a convolution, and double the channels.

    Shapes: `(B, H, W, C)` in, `(B, ⌈H/2⌉, ⌈W/2⌉, 2C)` out; with `keepdims`
    `(B, ⌈H/2⌉, ⌈W/2⌉, C)`. `C` is at least 4.

    Args:
        keepdims: whether the number of channels stays the same, a bool.

    Raises:
        ValueError: for another `keepdims`; when built with fewer than 4
            channels.

    Source: paper, "Downsampler"; `ReduceSize` in NVlabs/GCVit.
    """

    def __init__(self, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.keepdims = arguments.boolean("keepdims", keepdims)

    def build(self, input_shape):
        dim = input_shape[-1]
        output_dim = dim if self.keepdims else 2 * dim
        dtype = self.dtype_policy
        # PyTorch's epsilon; Keras's own is a hundred times larger.
        self.norm1 = layers.LayerNormalization(epsilon=1e-5, dtype=dtype)
        self.conv = fused_mbconv(dim, dtype)
        self.reduction = fast_ops.HalvingConv2D(
            output_dim,
            3,
            strides=2,
            use_bias=False,
            data_format="channels_last",
            dtype=dtype,
        )
        self.norm2 = layers.LayerNormalization(epsilon=1e-5, dtype=dtype)
        self.norm1.build((None, None, None, dim))
        self.reduction.build((None, None, None, dim))
        self.norm2.build((None, None, None, output_dim))

    def call(self, inputs):
        x = add_fused_mbconv(self.norm1(inputs), self.conv)  # (B, H, W, C)
        # Not padding="same", which pads an even size on one side only.
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return self.norm2(self.reduction(x))  # (B, ⌈H/2⌉, ⌈W/2⌉, 2C)

    def compute_output_shape(self, input_shape):
        batch, height, width, dim = input_shape
        output_dim = dim if self.keepdims else 2 * dim
        return (batch, halve(height), halve(width), output_dim)

    def get_config(self):
        return super().get_config() | arguments.given(self, ReduceSize)


# %% [markdown]
r"""
The names `norm1`, `conv`, `reduction` and `norm2` are the official ones, and
part of the checkpoint format: Keras stores a layer's weights under the
attribute that holds the layer. `conv` holds a list, and a layer in a list has no
attribute of its own. So Keras names it after its class: the depthwise
convolution is `conv/depthwise_conv2d`. A second one in the same list would be
`conv/depthwise_conv2d_1`.

## The proof

Shapes first. `keepdims=True` keeps the number of channels; height and width are
halved all the same. The [stem](patch_embed.ipynb) uses it, the levels do not.
"""

# %% tags=["active-ipynb"]
r"""
x = ops.ones((1, 56, 56, 64))
for keepdims in (False, True):
    layer = ReduceSize(keepdims)
    shapes = tuple(x.shape), tuple(layer(x).shape)
    print(f"keepdims={keepdims}:", *shapes, layer.count_params(), "parameters")
"""

# %% [markdown]
r"""
**Predict, then see.** Where do these parameters come from? For 64 channels, does
the branch with its three layers have more of them, or the one convolution with
stride 2?
"""

# %% tags=["active-ipynb"]
r"""
layer = ReduceSize()
layer.build((None, 56, 56, 64))
print("branch   ", sum(part.count_params() for part in layer.conv))
print("reduction", layer.reduction.count_params())
print("norms    ", layer.norm1.count_params() + layer.norm2.count_params())
print("total    ", layer.count_params())
"""

# %% [markdown]
r"""
The convolution with stride 2, by far. It has a number for each of 3×3
positions, 64 channels in and 128 out: $9 \cdot 64 \cdot 128$. The branch has
$9 \cdot 64$ for the depthwise convolution, $2 \cdot 64 \cdot 16$ for squeeze and
excitation, and $64 \cdot 64$ for the pointwise convolution. It is cheap because
no step does everything at once: the depthwise convolution looks at neighbours in
one channel at a time, the pointwise one mixes the channels of one position at a
time.

Then the numbers, against the official layer, for two images.
"""

# %% tags=["active-ipynb"]
r"""
difference = check.parity(ReduceSize(), "reduce_size")
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
## What can go wrong

The classic mistake is the padding. PyTorch's `padding=1` always puts a pad at
each end. Keras's `padding="same"` adds only as many as it takes to make
$\lceil H/2 \rceil$ outputs. With stride 1 the two agree.

**Predict, then see.** With stride 2, how many pads does a row of eight need to
give four outputs, and how many does a row of seven need? Where would you put a
single one? Compare with the positions that you saw above.
"""

# %% tags=["active-ipynb"]
r"""
for size in (8, 7):
    print(f"{size} positions:", *positions_read(size, 0, padding="same"))
"""

# %% [markdown]
r"""
A row of eight needs one pad only, and `"same"` puts it at the end. So every
patch sits one position further to the right, and in a map also one further
down. With `padding=1` the pad at the end of an even row stays unused: another
patch would begin at position 7, and end past the pad. A row of seven needs a
pad at either end, so the two agree.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "The same convolution, padded in two ways. The centres of the patches that it reads, red, move by one position.", "name": "figure-reduce-size-padding"}, "image": {"alt": "Two rows of eight pixels. With one pad on either side, patches of three are centred on pixels 0, 2, 4 and 6, and the right pad is not used; with padding same there is a pad on the right only, and they are centred on pixels 1, 3, 5 and 7."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(12, 4.6)
for y, left, name in ((2.7, 1, "padding=1"), (0.5, 0, 'padding="same"')):
    axes.text(1.9, y + 0.35, name, ha="right", va="center")
    for pixel in range(-left, 9):
        inside = 0 <= pixel < 8
        color = plots.PAPER if inside else "none"
        label = str(pixel) if inside else "pad"
        plots.tensor(axes, 3 + pixel, y, 1, 0.7, label, color)
    for start in range(-left, 8 - left, 2):
        line = [3.1 + start, 5.9 + start]
        offset = 0.9 + 0.3 * (start // 2 % 2)
        axes.plot(line, [y + offset] * 2, color=plots.BLUE, lw=3)
        axes.plot(4.5 + start, y + offset, "o", color=plots.RED)
plots.plt.show()
"""

# %% tags=["active-ipynb"]
r"""
class SamePadding(ReduceSize):
    def build(self, input_shape):
        super().build(input_shape)
        self.reduction.padding = "same"

    def call(self, inputs):
        x = add_fused_mbconv(self.norm1(inputs), self.conv)
        return self.norm2(self.reduction(x))


difference = check.parity(SamePadding(), "reduce_size")
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
The shape is right, the names are right, the weights load. Only the numbers
tell.

The second mistake is quieter: forgetting `epsilon`, the small number that a
layer normalisation adds to the variance, so that it never divides by zero.
Keras's own is 0.001, PyTorch's is 0.00001. `check.layer` knows such mistakes.
It makes them one by one in the chapter's layer, until one of them gives the
same numbers as your layer.
"""

# %% tags=["active-ipynb"]
r"""
class KerasEpsilon(ReduceSize):
    def build(self, input_shape):
        super().build(input_shape)
        self.norm1.epsilon = self.norm2.epsilon = 1e-3


difference = check.parity(KerasEpsilon(), "reduce_size")
assert difference > check.TOLERANCE
check.layer(KerasEpsilon(), "reduce_size")
"""

# %% [markdown]
r"""
## Summary

- `ReduceSize` refines the map with a fused MBConv, then shrinks it with a strided convolution.
- The branch is a list of three layers without biases; its result is added to what came in.
- With stride 2, `padding="same"` is not PyTorch's `padding=1`.

## Exercises

1. (2 minutes, easy) A map is (1, 7, 7, 512). What shape does `ReduceSize()` give?
2. (3 minutes, easy) Why is the branch a list of layers, and not a `Sequential`?
3. (5 minutes, medium) Where does the shortcut start, before or after `norm1`? What would change if it started at the other place?
4. (5 minutes, medium) Someone writes `padding="same"` for the convolution with stride 2, and tests the layer on a map of 7×7. What does the test say, and what breaks in the model?
5. (10 minutes, medium) An experiment. `KerasEpsilon` was close to the official layer. Multiply what both receive by 10, 1, 0.1 and 0.01, and print `check.difference` of their outputs each time. Predict first: when does the epsilon matter most, and does the right layer's output change at all?
6. (20 minutes, medium) Write the layer yourself, and check it with `check.layer(yours, "reduce_size")`. Take a convolution with stride 1 and `padding="same"`, and keep every second position.

<details><summary>Answer to 1</summary>

(1, 4, 4, 1024): half of seven, rounded up, and twice the channels.

</details>

<details><summary>Answer to 2</summary>

A `Sequential` would add a step to the names of the weights, and a published checkpoint's weights would not find their layers.

</details>

<details><summary>Answer to 3</summary>

After. If it started before, the strided convolution would see the map on its original scale. The official weights would load, and give other numbers.

</details>

<details><summary>Answer to 4</summary>

The test finds no mistake: 7 is odd, and both paddings agree. The model's stem halves a map of 112, its levels those of 56, 28 and 14. There every patch would sit one position off, and the numbers would be wrong, with the right shapes.

</details>

The solutions to 5 and 6 are code. They are folded below, and were run.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 5", "code_prompt_show": "Show the solution to 5"} tags=["active-ipynb", "hide-cell"]
r"""
(x,), expected = check.official("reduce_size")
right, wrong = ReduceSize(), KerasEpsilon()
for layer in (right, wrong):
    check.parity(layer, "reduce_size")  # the official weights
for factor in (10, 1, 0.1, 0.01):
    outputs = ops.convert_to_numpy(right(factor * x))
    epsilon = check.difference(wrong(factor * x), outputs)
    change = check.difference(outputs, expected)
    print(f"times {factor:<4}  epsilon: {epsilon:.3f}  change: {change:.3f}")
# The fainter the map, the nearer its variance is to the epsilon. The right
# layer hardly notices the factor: norm1 takes it away, until the variance is
# near the small epsilon, too.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 6", "code_prompt_show": "Show the solution to 6"} tags=["active-ipynb", "hide-cell"]
r"""
class EverySecond(layers.Layer):
    def build(self, input_shape):
        dim = input_shape[-1]
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.conv = fused_mbconv(dim)
        self.reduction = layers.Conv2D(
            2 * dim, 3, padding="same", use_bias=False
        )
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)

    def call(self, inputs):
        x = branch = self.norm1(inputs)
        for layer in self.conv:
            branch = layer(branch)
        x = self.reduction(x + branch)
        return self.norm2(x[:, ::2, ::2])  # four times the work


check.layer(EverySecond(), "reduce_size")
"""

# %% [markdown]
r"""
Next: [Patch embedding](patch_embed.ipynb) uses `ReduceSize` to turn pixels
into tokens.

To look up: [`ReduceSize`](api.md#gcvit.ReduceSize),
[`fused_mbconv`](api.md#gcvit.fused_mbconv) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
