# Generated from book/patch_embed.ipynb, digest dc450dc3. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module patch_embed
# %% [markdown]
r"""
# Patch embedding

At the end of this chapter you have `PatchEmbed`, the model's front door. An
image goes in; a map of tokens comes out, a quarter as high and a quarter as
wide.
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

# %% mystnb={"figure": {"caption": "You are here: `PatchEmbed`, the first thing that an image meets.", "name": "figure-patch-embed-map"}, "image": {"alt": "Map of GCViT in four rows; the box PatchEmbed in the second row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("patch_embed")
"""

# %% [markdown]
r"""
## The idea

A transformer works on [tokens](glossary.md#term-token): vectors that each
stand for a piece of the image. ViT and Swin cut the image into squares that do
not overlap and project each one. An edge that falls between two squares is
seen by neither as a whole.

GCViT's pieces overlap. A 3×3 convolution with stride 2 projects the pixels
into `embed_dim` channels, and a `ReduceSize` that keeps the channels halves
the map once more. Each token is then computed from a neighbourhood larger than
its own 4×4 pixels.
"""

# %% mystnb={"figure": {"caption": "A row of 16 pixels, read twice: patches as in Swin share no pixel, those that a 3\u00d73 convolution with stride 2 reads share one with each neighbour.", "name": "figure-patch-embed-overlap"}, "image": {"alt": "A row of 16 pixels. Above it, four patches of four pixels that touch without overlap, as in Swin. Below it, eight patches of three pixels with stride two, each overlapping the next by one pixel, as in GCViT."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(20, 5)
for pixel in range(16):
    plots.tensor(axes, 3.5 + pixel, 2.2, 1, 0.9, str(pixel))
axes.text(2.4, 4.4, "Swin, patch 4", ha="right", va="center")
axes.text(2.4, 0.9, "3×3, stride 2", ha="right", va="center")
for patch in range(4):
    line = [3.6 + 4 * patch, 7.4 + 4 * patch]
    axes.plot(line, [4.4, 4.4], color=plots.BLUE, lw=4)
for window in range(8):
    line = [2.6 + 2 * window, 5.4 + 2 * window]
    y = 1.2 - 0.5 * (window % 2)
    axes.plot(line, [y, y], color=plots.RED, lw=4)
plots.plt.show()
"""

# %% [markdown]
r"""
With $x$ an image of $H \times W$ pixels:

$$y = \mathrm{ReduceSize}\!\left(W_{3\times3} *_{\,\text{stride }2} x + b\right)
\in \mathbb{R}^{\lceil H/4\rceil \times \lceil W/4\rceil \times C}$$

The paper calls this part the stem, and the published Keras example and the
official code call it `PatchEmbed`. There is no position embedding: positions
enter later, as a bias in each attention.

## The code
"""

# %%
import keras
from keras import layers, ops

from gcvit import arguments
from gcvit.reduce_size import ReduceSize
from gcvit.sizes import halve


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class PatchEmbed(layers.Layer):
    """Turn an image into a map of tokens, a quarter as high and as wide.

    Shapes: `(B, H, W, channels)` in, `(B, ⌈H/4⌉, ⌈W/4⌉, embed_dim)` out; the
    images are normalised, as for every checkpoint of GCViT.

    Args:
        embed_dim: channels of a token, an int of at least 4.

    Raises:
        ValueError: for another `embed_dim`.

    Source: paper, the stem; `PatchEmbed` in NVlabs/GCVit.
    """

    def __init__(self, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = arguments.whole_number(
            "embed_dim", embed_dim, least=4
        )

    def build(self, input_shape):
        dtype = self.dtype_policy
        self.proj = layers.Conv2D(
            self.embed_dim,
            3,
            strides=2,
            data_format="channels_last",
            dtype=dtype,
        )
        self.conv_down = ReduceSize(keepdims=True, dtype=dtype)
        self.proj.build((None, None, None, input_shape[-1]))
        self.conv_down.build((None, None, None, self.embed_dim))

    def call(self, inputs):
        # Keras casts floats to the layer's dtype, but not an image's bytes.
        x = ops.cast(inputs, self.compute_dtype)
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = self.proj(x)  # (B, ⌈H/2⌉, ⌈W/2⌉, embed_dim)
        return self.conv_down(x)  # (B, ⌈H/4⌉, ⌈W/4⌉, embed_dim)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        height, width = halve(halve(height)), halve(halve(width))
        return (batch, height, width, self.embed_dim)

    def get_config(self):
        return super().get_config() | arguments.given(self, PatchEmbed)


# %% [markdown]
r"""
## The proof

Shapes on a photograph. Chelsea is 300 by 451 pixels; a size that four does not
divide rounds up.
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np
from skimage.data import chelsea

photo = chelsea()[None] / 255
layer = PatchEmbed(embed_dim=64)
print(photo.shape, "->", tuple(layer(photo).shape))
print(layer.count_params(), "parameters")
assert layer.count_params() == 45_632
"""

# %% [markdown]
r"""
45,632 is what the stem of the official XXTiny has. Now the numbers.
"""

# %% tags=["active-ipynb"]
r"""
difference = check.parity(PatchEmbed(embed_dim=8), "patch_embed")
print(f"max |Δ| / std = {difference:.5f}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
How far does one token see? Change one pixel at a time along a row, and look
whether one token notices. Squeeze and excitation averages over the whole map,
so it notices every pixel a little. Take it out of the way, by fixing its weights at
one half, and the convolutions' own reach remains.
"""

# %% mystnb={"figure": {"caption": "How much one token changes with each pixel of its row. Through the convolutions it depends on eleven of them, where a patch of Swin has four.", "name": "figure-patch-embed-reach"}, "image": {"alt": "Bar chart over 64 pixel positions of how strongly the middle token reacts: eleven neighbouring pixels make bars, the others none."}} tags=["active-ipynb"]
r"""
layer = PatchEmbed(embed_dim=8)
layer.build((None, 64, 64, 3))
for dense in layer.conv_down.conv[1].fc:
    dense.set_weights([0 * dense.kernel])  # sigmoid(0) is one half
images = np.zeros((64, 64, 64, 3), "float32")
images[np.arange(64), 30, np.arange(64)] = 1  # image i: pixel (30, i)
tokens = ops.convert_to_numpy(layer(images))[:, 7, 8]
blank = ops.convert_to_numpy(layer(0 * images[:1]))[0, 7, 8]
reach = np.abs(tokens - blank).max(-1)
print("pixels that reach the token:", np.flatnonzero(reach).tolist())
_, axes = plots.plt.subplots(figsize=(7, 2), layout="constrained")
axes.bar(range(64), reach, color=plots.BLUE)
axes.set(xlabel="pixel", ylabel="change of token 8", yticks=[])
plots.plt.show()
"""

# %% [markdown]
r"""
A patch of 4×4 would see four pixels of this row and nothing else.

You can count the reach without a model, from the token backwards. A 3×3
convolution reads one position more at either end. If its stride is 2, positions
next to each other in its output are two apart in its input.

## What can go wrong

A natural shortcut is a projection without overlap: one convolution of size 4
and stride 4. The shape is the same.
"""

# %% tags=["active-ipynb"]
r"""
projection = layers.Conv2D(64, 4, strides=4)
image = photo[:, :224, :224]
print(tuple(projection(image).shape), projection.count_params())
print(tuple(PatchEmbed(64)(image).shape))
"""

# %% [markdown]
r"""
The check that catches it is the parameter count: 3,136 instead of 45,632.

Another slip is to forget the normalisation of the image. The stem ends in a
layer normalisation, so pixels from 0 to 255 still give tokens of the usual
size. The small model of these proofs takes (pixel − 128) / 64. The next cell
undoes that, and feeds the official stem such pixels.
"""

# %% tags=["active-ipynb"]
r"""
layer = PatchEmbed(embed_dim=8)
check.parity(layer, "patch_embed")
(image,), expected = check.official("patch_embed")
bright = layer(64 * image + 128)
print(f"spread: {expected.std():.1f} and {ops.std(bright):.1f}")
difference = check.difference(bright, expected)
print(f"max |Δ| / std = {difference:.1f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
The spread looks right; the numbers are not. So when a pretrained model answers
nonsense, check the preprocessing first. NVIDIA's weights want pixels divided
by 255, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225), channel
by channel (`default_cfgs` in its `models/gc_vit.py`).

## Summary

- Two overlapping convolutions with stride 2 turn an image into tokens.
- The output is a map, not a sequence. Height and width stay until the model's last layers, the head.
- There is no position embedding here.

## Exercises

1. What shape does `PatchEmbed(96)` give for a batch of 2 images of 512×384 pixels in three channels?
2. Through the convolutions a token sees eleven pixels of a row. Why eleven? Three of the stem's convolutions are 3×3.
3. How many tokens would an image of 224×224 pixels give if the stem halved only once, and what would that do to the cost of attention in windows of 7×7, which is the same for each window?
4. You forget to normalise the image. What breaks, and which of these would tell you: the output's shape, the number of parameters, the spread of the tokens, their difference from the official ones?
5. Write the stem yourself, for 8 channels, with the layer `ZeroPadding2D` in place of `ops.pad`. `check.layer(yours, "patch_embed")` says what is not yet right.

<details><summary>Answers to 1, 2, 3 and 4</summary>

1. (2, 128, 96, 96).
2. Go backwards. `reduction` reads three positions in a row. The depthwise convolution reads one more at either end, so five. `proj` has stride 2: five positions in a row start at pixels two apart, and the last one reads three: 4 · 2 + 3 = 11.
3. 112 · 112 = 12,544 instead of 3,136. There would be four times as many windows, so the cost would be four times as large.
4. The tokens' numbers are wrong, and everything after them. Only the last one tells: shape and parameters do not depend on the pixels, and the layer normalisation at the end mends the spread.

</details>

The solution to 5 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
class MyPatchEmbed(layers.Layer):
    def build(self, input_shape):
        self.pad = layers.ZeroPadding2D(1)
        self.proj = layers.Conv2D(8, 3, strides=2)
        self.conv_down = ReduceSize(keepdims=True)

    def call(self, inputs):
        return self.conv_down(self.proj(self.pad(inputs)))


check.layer(MyPatchEmbed(), "patch_embed")
"""

# %% [markdown]
r"""
Next: [Feature extraction](feature_extraction.ipynb) makes the one thing that
only GCViT has, the global query.

To look up: [`PatchEmbed`](api.md#gcvit.PatchEmbed) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
