# Generated from book/patch_embed.ipynb, digest 3139450a. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module patch_embed
# %% [markdown]
r"""
# Patch embedding

At the end of this chapter you have `PatchEmbed`, the model's front door. An
image goes in; a map of tokens comes out, a quarter as high and a quarter as
wide.

About 15 minutes to read. Easy: one convolution in front of the last chapter's
layer.

Attention, in later chapters, compares [tokens](glossary.md#term-token). This
chapter makes them. It also decides how many there are, and so what attention
costs.
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's part sits in the model: `PatchEmbed` is the first thing that an image meets.", "name": "figure-patch-embed-map"}, "image": {"alt": "Map of GCViT in four rows; the box PatchEmbed in the second row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("patch_embed")
"""

# %% [markdown]
r"""
## The idea

A transformer works on tokens: vectors that each stand for a piece of the image.
[ViT](https://arxiv.org/abs/2010.11929) and
[Swin](https://arxiv.org/abs/2103.14030) cut the image into squares that do not
overlap, and turn each square into a vector with one dense layer. An edge that
falls between two squares is seen by neither as a whole.

GCViT's pieces overlap. A 3×3 convolution with stride 2 turns the pixels into
`embed_dim` channels, and a `ReduceSize` that keeps the channels halves the map
once more. Each token is then computed from a neighbourhood larger than its own
4×4 pixels.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "A row of 16 pixels, read twice: patches as in Swin share no pixel, those that a 3\u00d73 convolution with stride 2 reads share one with each neighbour.", "name": "figure-patch-embed-overlap"}, "image": {"alt": "A row of 16 pixels. Above it, four patches of four pixels that touch without overlap, as in Swin. Below it, eight patches of three pixels with stride two, each overlapping the next by one pixel, as in GCViT."}} tags=["active-ipynb", "hide-input"]
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

The first convolution has a bias $b$; no other convolution of the stem has one.

The paper calls this part the stem; the published Keras example and the official
code call it `PatchEmbed`. There is no position embedding, so no token is told
where it lies. Positions enter later, as a bias in each attention.

### By hand

Take token 8 of a row of tokens, counted from 0, and go backwards to the pixels.
A 3×3 convolution reads one position more at either end. With stride 2, output
$i$ has its centre at input $2i$.

**Predict, then see.** A patch of Swin reads four pixels of its row. How many
reach token 8 through the stem's three 3×3 convolutions? `ReduceSize` has two of
them, a depthwise one, and `reduction` with stride 2. Before it comes the first
convolution, `proj`.
"""

# %% tags=["active-ipynb"]
r"""
first = last = 8
for name, stride in (("reduction", 2), ("depthwise", 1), ("proj", 2)):
    first, last = stride * first - 1, stride * last + 1
    count = last - first + 1
    print(f"{name:9} reads {count:2} positions, {first} to {last}")
"""

# %% [markdown]
r"""
Eleven pixels, 27 to 37. Token 9 reads 31 to 41, so the two share seven.

## The code
"""

# %%
import keras
from keras import layers, ops

from gcvit import arguments, fast_ops
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
        self.proj = fast_ops.HalvingConv2D(
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

Shapes first, on a photograph.

**Predict, then see.** Chelsea is 300 pixels high and 451 wide. Each halving
rounds up. How high and how wide is her map of tokens?
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np
from skimage.data import chelsea

photo = chelsea()[None] / 255
layer = PatchEmbed(embed_dim=64)
print(photo.shape, "->", tuple(layer(photo).shape))
parts = layer.proj.count_params(), layer.conv_down.count_params()
print(*parts, "parameters, together", layer.count_params())
assert layer.count_params() == 45_632
"""

# %% [markdown]
r"""
300 becomes 150, then 75; 451 becomes 226, then 113. The stem itself takes an
image of any size. Which sizes the rest of the model takes is a matter of its
windows; [Level](level.ipynb) has the rule. The stem of the official XXTiny has
45,632 parameters, too.

Now the numbers, for two images.
"""

# %% tags=["active-ipynb"]
r"""
difference = check.parity(PatchEmbed(embed_dim=8), "patch_embed")
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
Does token 8 really see what you counted by hand? Change one pixel of its row at
a time, and see whether the token notices. Squeeze and excitation averages over
the whole map, so it notices every pixel a little. Take it out of the way, by
fixing its weights at one half, and the convolutions' own reach remains. The stem
is that of `nano`, this book's own small model; it comes with the package, and
[Pretrained](pretrained.ipynb) tells how it was trained.
"""

# %% mystnb={"figure": {"caption": "How much token 8 changes with each pixel of its row. Through the convolutions it depends on eleven of them; a patch of Swin has four. The stem is that of `nano`, but for squeeze and excitation, which is switched off.", "name": "figure-patch-embed-reach"}, "image": {"alt": "Bar chart over 64 pixel positions of how strongly the middle token reacts: eleven neighbouring pixels have bars, the seven in the middle tall ones and the two at either end short ones; the others have none."}} tags=["active-ipynb"]
r"""
from gcvit import from_pretrained

stem = from_pretrained("nano").patch_embed
for dense in stem.conv_down.conv[1].fc:
    dense.set_weights([0 * dense.kernel])  # sigmoid(0) is one half
images = np.zeros((64, 64, 64, 3), "float32")
images[np.arange(64), 32, np.arange(64)] = 1  # image i: pixel (32, i)
tokens = ops.convert_to_numpy(stem(images))[:, 8, 8]
blank = ops.convert_to_numpy(stem(0 * images[:1]))[0, 8, 8]
reach = np.abs(tokens - blank).max(-1)
print("pixels that reach the token:", np.flatnonzero(reach).tolist())
_, axes = plots.plt.subplots(figsize=(7, 2), layout="constrained")
axes.bar(range(64), reach, color=plots.BLUE)
axes.set(xlabel="pixel", ylabel="change of token 8", yticks=[])
plots.plt.show()
"""

# %% [markdown]
r"""
It sees exactly those eleven. From each of the two pixels at each end, only one
path leads to the token; from those in the middle, several do. This trained stem
makes little of the ends.

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

Another slip is to forget the normalisation of the image. The small model of
these proofs takes (pixel − 128) / 64, which turns bytes into numbers from −2 to
2. It is a simple scaling that only this model uses; its weights are random, so
any scaling would do. The next cell undoes it, so that the stem receives pixels from
0 to 255.

**Predict, then see.** The numbers that go in are up to a hundred times as large.
How much larger is the spread, the standard deviation, of the tokens that come
out?
"""

# %% tags=["active-ipynb"]
r"""
layer = PatchEmbed(embed_dim=8)
check.parity(layer, "patch_embed")
(images,), expected = check.official("patch_embed")
bright = layer(64 * images + 128)
print(f"spread: {expected.std():.1f} and {ops.std(bright):.1f}")
difference = check.difference(bright, expected)
print(f"max |Δ| / std = {difference:.1f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
It is no larger, since the stem ends in a layer normalisation. The spread looks
right; the numbers are not. So when a pretrained model answers nonsense, check
the preprocessing first. Models that were trained on photographs need a
different scaling from the small model's:
pixels divided by 255, minus the mean of ImageNet's
photographs, (0.485, 0.456, 0.406), and divided by their standard deviation,
(0.229, 0.224, 0.225), channel by channel. These numbers are from `default_cfgs`
in NVIDIA's `models/gc_vit.py`. `preprocess` in the chapter
[Pretrained](pretrained.ipynb) does it for you.

## Summary

- Two convolutions with stride 2, whose patches overlap, turn an image into tokens.
- The output is a map, not a sequence: the tokens keep their rows and columns, up to the average near the model's end.
- There is no position embedding here.

## Exercises

1. (2 minutes, easy) What shape does `PatchEmbed(96)` give for a batch of 2 images of 512×384 pixels in three channels?
2. (10 minutes, medium) After the first level, another `ReduceSize` halves the map. How many pixels of a row reach one token of the smaller map, through the convolutions alone?
3. (5 minutes, medium) How many tokens would an image of 224×224 pixels give if the stem halved only once? What would that do to the cost of attention in windows of 7×7, which is the same for each window?
4. (3 minutes, easy) You forget to normalise the image. What breaks, and which of these would tell you: the output's shape, the number of parameters, the spread of the tokens, their difference from the official ones?
5. (10 minutes, easy) An experiment. Show `nano`, the small model that comes with this package, a cat and a rocket, `chelsea()` and `rocket()` of `skimage.data`. Give it the photographs as `preprocess(photo, 64)` makes them, then with pixels from 0 to 1, then from 0 to 255. Which mistake does it forgive? (It knows ten classes, and "rocket" is not among them.)
6. (15 minutes, medium) Write the stem yourself, for 8 channels, with the layer `ZeroPadding2D` in place of `ops.pad`. `check.layer(yours, "patch_embed")` says what is not yet right.

<details><summary>Answer to 1</summary>

(2, 128, 96, 96).

</details>

<details><summary>Answer to 2</summary>

27. Go backwards, as above. `reduction` reads 3 tokens of the first map and the depthwise convolution 5. For 5 tokens the stem's `reduction` reads $2 \cdot 5 + 1 = 11$ positions, its depthwise convolution 13, and `proj` reads $2 \cdot 13 + 1 = 27$ pixels.

</details>

<details><summary>Answer to 3</summary>

$112 \cdot 112 = 12{,}544$, not $56 \cdot 56 = 3{,}136$. There would be four times as many windows, so attention would cost four times as much.

</details>

<details><summary>Answer to 4</summary>

The tokens' numbers are wrong, and everything after them. Only the last one tells: shape and parameters do not depend on the pixels, and the layer normalisation at the end mends the spread.

</details>

The solutions to 5 and 6 are code. They are folded below, and were run.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 5", "code_prompt_show": "Show the solution to 5"} tags=["active-ipynb", "hide-cell"]
r"""
from gcvit import class_names, decode_predictions, preprocess
from skimage.data import rocket

nano = from_pretrained("nano")
pair = ops.concatenate([preprocess(p, 64) for p in (chelsea(), rocket())])
pair = ops.convert_to_numpy(pair)
mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
unit = (pair * deviation + mean).astype("float32")
for name, images in (
    ("normalised", pair),
    ("0 to 1", unit),
    ("0 to 255", 255 * unit),
):
    answers = decode_predictions(nano(images), class_names("nano"), top=1)
    print(f"{name:10}", *(f"{label} {p:.2f}" for [(label, p)] in answers))
# norm1 takes a common factor away, but not what `proj` adds to it: beside
# pixels from 0 to 1 its bias weighs too much, beside bytes too little. The
# mean stays in both. This model forgives the bytes; another need not.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 6", "code_prompt_show": "Show the solution to 6"} tags=["active-ipynb", "hide-cell"]
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
