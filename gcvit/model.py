# Generated from book/model.ipynb, digest a1b26bf8. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module model
# %% [markdown]
r"""
# Model

At the end of this chapter you have `GCViT`, the whole model, in each of the
official sizes. You know which image sizes it takes, and you have seen that its
answers are the official ones.

About 25 minutes to read. Easy: the parts are there, and this chapter puts them in
line.
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "All the parts of the model. This chapter adds the last ones, the norm, the mean and the head at the right end of the second row, and connects that row.", "name": "figure-model-map"}, "image": {"alt": "Map of GCViT in four rows; the box with norm, mean and head at the end of the second row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("model")
"""

# %% [markdown]
r"""
## The idea

All parts are there. What is left is to put them in line. The
[stem](patch_embed.ipynb) turns an image into a map of tokens. Four
[levels](level.ipynb) refine it, each on half the resolution and twice the
channels of the one before. The head normalises the last map, averages it over
all positions, and gives each class a score.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "The maps of XXTiny from the side, not to scale: their height shrinks while their channels, the width, grow.", "name": "figure-model-shapes"}, "image": {"alt": "Row of maps that shrink in size and grow in depth: image 224 by 224, stem 56 by 56 with 64 channels, then 28 by 28 with 128, 14 by 14 with 256, twice 7 by 7 with 512 channels, and 1000 classes."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(19, 4.2, figure_width=9)
sizes = [(224, 3), (56, 64), (28, 128), (14, 256), (7, 512), (7, 512)]
names = ["image", "stem", "level 0", "level 1", "level 2", "level 3"]
x = 0.2
for name, (size, channels) in zip(names, sizes):
    height, width = 0.8 + size / 110, 0.5 + channels / 400
    color = plots.HERE if name.startswith("level") else plots.PAPER
    plots.tensor(axes, x, 2.3 - height / 2, width, height, "", color)
    label = f"{name}\n{size}×{size}\n×{channels}"
    axes.text(x + width / 2, -0.5, label, ha="center")
    plots.arrow(axes, (x + width, 2.3), (x + width + 1.3, 2.3))
    x += width + 1.3
plots.tensor(axes, x, 1.6, 1.6, 1.4, "1000\nclasses")
plots.plt.show()
"""

# %% [markdown]
r"""
The figure shows what each part returns. A level's map is already halved there,
except in the last level, which does not halve it.

What comes after the levels is new:

$$p = \mathrm{softmax}\!\left(W\,\overline{\mathrm{LN}(x)} + b\right),$$

where $x$ is what the last level returns, $\mathrm{LN}$ is
[layer normalisation](glossary.md#term-layer-normalisation), and the bar is the mean
over positions. What goes into the softmax is called the logits, one for each class.

### By hand

Take a last map of four positions with two channels, and two classes. Layer
normalisation subtracts the mean of a position's channels, and divides by their
standard deviation. With two channels, only the sign of their difference is left:
(4, 2) becomes (1, −1). Let the head double each channel: $W$ has 2 on its diagonal
and 0 elsewhere, and $b = 0$.
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np
from keras import layers, ops


def answer_by_hand(x):
    normal = layers.LayerNormalization(epsilon=1e-5)(x)
    mean = ops.mean(normal, axis=0)
    logits = 2 * mean
    steps = {"mean": mean, "logits": logits, "answer": ops.softmax(logits)}
    for name, values in steps.items():
        print(f"{name:8}", ops.convert_to_numpy(values).round(3))


x = np.array([[4, 2], [0, 6], [5, 1], [7, 3]], "float32")
answer_by_hand(x)
"""

# %% [markdown]
r"""
Three positions vote for the first channel and one for the second, so the mean
is $(3 - 1)/4 = 0.5$ for the first channel, and its negative for the second.
The logits are 1 and −1, and the softmax makes
$e / (e + e^{-1}) = 0.88$ of the first.

**Predict, then see.** Multiply the whole map by 100. Which of the three lines
change?
"""

# %% tags=["active-ipynb"]
r"""
answer_by_hand(100 * x)
"""

# %% [markdown]
r"""
None. Each position is normalised on its own, so only how its channels compare with
one another gets through, not how large they are. Each position has one vote.

## The code

The constructor makes the parts, and `build` creates every variable, so that a
checkpoint always finds its place. Only `build`, or a call on images, fixes the
size of the images.
"""

# %%
import keras
import numpy as np
from keras import layers

from gcvit import arguments, exporting, quantization
from gcvit.checkpoints import load_whole
from gcvit.level import Level
from gcvit.patch_embed import PatchEmbed
from gcvit.sizes import (
    check_images,
    check_same_images,
    level_windows,
    smallest_image_shape,
)
from gcvit.variants import variant_arguments


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class GCViT(keras.Model):
    """The Global Context Vision Transformer, an image classifier.

    Shapes: `(B, H, W, channels)` in, `(B, num_classes)` out; building fixes
    all but `B`, see `check_image_size`. Images are normalised.

    Args:
        window_size: one window for each level, ints or (height, width) pairs.
        embed_dim: channels of level 0, at least 4; each level doubles them.
        depths: number of blocks in each level, positive ints.
        num_heads: heads in each level, ints that divide its channels.
        drop_rate: dropout rate of the stem, attentions and MLPs, in [0, 1).
        mlp_ratio: hidden width of the MLPs as a multiple of the channels.
        qkv_bias: whether queries, keys and values have a bias, a bool.
        qk_scale: factor of the queries, a float above 0; `None` takes one over
            the root of the channels in each head.
        attention_dropout: dropout rate of the attention weights, in [0, 1).
        path_drop: rate of stochastic depth in the last block, in [0, 1).
        layer_scale: what each branch's scale starts at; `None` for no scales.
        num_classes: number of classes, an int of at least 1.
        head_activation: of the head, a name or a function; `None` for logits.
        class_names: one for each class, in a tuple; saved with the model.
        value_range: of its images, as for `gcvit.preprocess`; saved as well.

    Raises:
        ValueError: for what cannot work, with the argument's name and value.

    Source: Hatamizadeh et al., arXiv 2206.09959; `GCViT` in NVlabs/GCVit.
    """

    def __init__(
        self,
        window_size,
        embed_dim,
        depths,
        num_heads,
        drop_rate=0.0,
        mlp_ratio=3.0,
        qkv_bias=True,
        qk_scale=None,
        attention_dropout=0.0,
        path_drop=0.1,
        layer_scale=None,
        num_classes=1000,
        head_activation="softmax",
        class_names=None,
        value_range=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.window_size = level_windows("window_size", window_size)
        self.embed_dim = arguments.whole_number("embed_dim", embed_dim, 4)
        self.depths = arguments.whole_numbers("depths", depths)
        self.num_heads = arguments.whole_numbers("num_heads", num_heads)
        self.drop_rate = arguments.rate("drop_rate", drop_rate)
        self.mlp_ratio = arguments.factor("mlp_ratio", mlp_ratio)
        self.qkv_bias = arguments.boolean("qkv_bias", qkv_bias)
        self.qk_scale = arguments.factor_or_none("qk_scale", qk_scale)
        self.attention_dropout = arguments.rate(
            "attention_dropout", attention_dropout
        )
        self.path_drop = arguments.rate("path_drop", path_drop)
        self.layer_scale = arguments.number_or_none("layer_scale", layer_scale)
        self.num_classes = arguments.whole_number("num_classes", num_classes)
        self.head_activation = arguments.activation(
            "head_activation", head_activation
        )
        self.class_names = arguments.names_or_none("class_names", class_names)
        self.value_range = arguments.range_or_none("value_range", value_range)
        self.make_layers()

    def make_layers(self):
        arguments.check_agreement(self)
        self.quantized = quantization.take_policies(self)  # of a saved model
        self.image_shape = None  # until the model is built

        def named(name):
            return {"name": name, "dtype": self.dtype_policy}

        rates = np.linspace(0, self.path_drop, sum(self.depths))
        rates = np.split(rates, np.cumsum(self.depths)[:-1])
        self.patch_embed = PatchEmbed(self.embed_dim, **named("patch_embed"))
        self.pos_drop = layers.Dropout(self.drop_rate, **named("pos_drop"))
        self.levels = [
            Level(
                depth,
                self.num_heads[i],
                self.window_size[i],
                downsample=i < len(self.depths) - 1,
                mlp_ratio=self.mlp_ratio,
                qkv_bias=self.qkv_bias,
                qk_scale=self.qk_scale,
                dropout=self.drop_rate,
                attention_dropout=self.attention_dropout,
                path_drop=rates[i],
                layer_scale=self.layer_scale,
                **named(f"level_{i}"),
            )
            for i, depth in enumerate(self.depths)
        ]
        self.norm = layers.LayerNormalization(epsilon=1e-5, **named("norm"))
        pool = layers.GlobalAveragePooling2D
        self.pool = pool("channels_last", **named("pool"))
        head = self.num_classes, self.head_activation
        # In float32 where the rest is in bfloat16: probabilities need it.
        self.head = layers.Dense(*head, name="head", dtype=self.variable_dtype)

    @classmethod
    def from_variant(cls, variant, **kwargs):
        """Make a model of a size in `VARIANTS`, such as `"xxtiny"`, not built.

        `kwargs` are arguments that differ; an unknown name is a `ValueError`.
        """
        return cls(**(variant_arguments(variant) | kwargs))

    def build(self, input_shape):
        if self.built:
            return check_same_images(input_shape, self.image_shape)
        self.image_shape = check_images(input_shape, self.window_size)
        for part in (self.patch_embed, *self.levels):
            part.build(input_shape)
            input_shape = part.compute_output_shape(input_shape)
        self.norm.build(input_shape)
        self.head.build((None, input_shape[-1]))
        for layer in self.layers:
            for weight in layer.weights:
                weight.trainable = layer.trainable  # set before, perhaps
        quantization.quantize_again(self, self.quantized)

    def call(self, inputs, training=None):
        check_same_images(inputs.shape, self.image_shape)
        x = self.pos_drop(self.patch_embed(inputs), training=training)
        for level in self.levels:  # (B, H / 4, W / 4, C) comes in
            x = level(x, training=training)
        return self.head(self.pool(self.norm(x)))  # (B, num_classes)

    def feature_maps(self, images, training=None):
        """Compute the refined map of each level, before it is halved.

        Once built, for images of any size; windows stay. Returns a dict:
        "stem", "level_0": `(B, ⌈H/4⌉, ⌈W/4⌉, C)`, "level_1": half, 2C, ….
        """
        self.built or self.build(images.shape)
        x = self.pos_drop(self.patch_embed(images), training=training)
        maps = {"stem": x}
        for i, level in enumerate(self.levels):
            x = maps[f"level_{i}"] = level.refine_any_size(x, training)
            x = level.down(x) if level.downsample else x
        return maps

    def compute_output_shape(self, input_shape):
        check_same_images(input_shape, self.image_shape)
        return (input_shape[0], self.num_classes)

    def build_graph(self, input_shape=None):
        """Make a functional model for (H, W, channels); `None`: as built."""
        own = self.image_shape or smallest_image_shape(self.window_size)
        inputs = keras.Input(input_shape or own)
        self.build(inputs.shape)
        if "ends" not in vars(self):  # kept where Keras does not track them
            vars(self)["ends"] = inputs, self.call(inputs)
        return keras.Model(*self.ends, name=self.name)

    def summary(self, input_shape=None, **kwargs):
        """Print the layers, building at most a twin; see `build_graph`."""
        with arguments.seeds_kept():
            model = self if self.built else self.from_config(self.get_config())
            model.build_graph(input_shape).summary(**kwargs)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Load a weights file whole, or what fits with `skip_mismatch`."""
        with load_whole(self, filepath, skip_mismatch) as path:
            super().load_weights(path, skip_mismatch=skip_mismatch, **kwargs)

    export = exporting.export  # as the model answers, or not at all

    def get_config(self):
        return super().get_config() | quantization.given(self, GCViT)


# %% [markdown]
r"""
The size of the images says how often each level halves its map, and so how many
layers each query generator has.

The official class is `GCViT` in [NVlabs/GCVit](https://github.com/NVlabs/GCVit).
The arguments have the names of the
[Keras example](https://keras.io/examples/vision/image_classification_using_global_context_vision_transformer/),
so the code that uses its `GCViT` works here unchanged. Its checkpoints load,
and give the official answers, not the example's.

A call takes images of the size that the model was built for. `feature_maps` takes
any size: windows and query generators stay as they were built. A map that windows do
not divide gets zeros below and to the right. A query that is larger than a window,
or smaller, is resized to it. NVIDIA's detectors do both, in
`detection/models/gc_vit.py`; they put the zeros after the first norm, not before it.
At the size that the model was built for, nothing of this happens; at another one
these are no longer the official classifier's maps.
For large images it is the bearable way. Windows that
[grow with the image](pretrained.ipynb) hold ever more tokens, and attention within a
window costs the square of their number.

The rate of [stochastic depth](block.ipynb) grows evenly from block to block,
from 0 in the first to `path_drop` in the last. That, too, is from
[Huang et al.](https://arxiv.org/abs/1603.09382): early blocks are kept more,
since all later ones build on them.

> **Why `head` and not `classifier`.** Attribute names are addresses. A
> checkpoint stores the head's weights under `head`; with another name here,
> released weights would not load. Keras visits the attributes in alphabetical
> order, and after `head` it meets `layers`, its own list of the model's layers. What
> lies in a list is stored under the name of its class, and numbered from the second
> on: `layers/level`, `layers/level_1`. So the stem is `layers/patch_embed`, and the
> norm `layers/layer_normalization`. A page of its own has
> [the name of every tensor](tensor_names.md).

## The proof

First the shapes, of XXTiny on a photograph. `feature_maps` gives the map that each
level refines: the pyramid that detectors and segmenters want, at a quarter, an
eighth, a 16th and a 32nd of the image's height and width, with the stem's map
before it.
"""

# %% tags=["active-ipynb"]
r"""
from skimage.data import chelsea

photo = ops.image.resize(chelsea()[None] / 255.0, (224, 224))
model = GCViT.from_variant("xxtiny")
for name, x in model.feature_maps(photo).items():
    print(f"{name:8}", tuple(x.shape))
print(f"{'answer':8}", tuple(model(photo).shape))
"""

# %% [markdown]
r"""
Then the whole table.

**Predict, then see.** Level 0 has the largest map, 64 times as many tokens as level
3. Level 3 has eight times as many channels as level 0. Which of the two has more
parameters, and how many times as many?
"""

# %% tags=["active-ipynb"]
r"""
model.summary()
assert model.count_params() == 11_995_428
"""

# %% [markdown]
r"""
11,995,428 parameters, the official number, and level 3 has 30 times as many of them
as level 0. A parameter is used at every position, so the size of a map does not
count. The channels count twice: a dense layer from $C$ to $C$ channels has $C^2$
weights, and eight times the channels make 64 times the weights. For the blocks
alone, that is close: the architecture page has
[every part's parameters](architecture.md#shape-ledger). But level 0 also makes its
query in three steps and ends in a `ReduceSize`; level 3 makes it in one step, and
has no `ReduceSize`.
"""

# %% mystnb={"figure": {"caption": "Where the parameters of XXTiny are: almost all in the last two levels, whose maps are small and deep.", "name": "figure-model-parameters"}, "image": {"alt": "Bar chart of parameters: the stem and levels 0 and 1 have less than a million each, levels 2 and 3 more than five million each, the norm almost none, the head half a million."}} tags=["active-ipynb"]
r"""
parts = [model.patch_embed, *model.levels, model.norm, model.head]
counts = [part.count_params() / 1e6 for part in parts]
_, axes = plots.plt.subplots(figsize=(6, 2.6), layout="constrained")
axes.barh([part.name for part in parts], counts, color=plots.BLUE)
axes.set_xlabel("million parameters")
axes.invert_yaxis()
plots.plt.show()
"""

# %% [markdown]
r"""
Then the numbers. The small official model has its own configuration. Its logits
come from the official code in float64, for two images in one batch.
"""

# %% tags=["active-ipynb"]
r"""
small = check.MODEL
print(small)
difference = check.parity(GCViT(**small), "model")
print(f"max |Δ| / std = {difference:.1e}, for two images")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
That is rounding to float32, here with TensorFlow. The
[front page](intro.md#what-you-need) shows the answers of JAX and PyTorch beside it.

## Image sizes

Each level has [its rule](level.ipynb): its map is $2^K$ windows high and wide.
[`check_image_size`](api.md#gcvit.check_image_size) carries it to the image, and
[`windows_for`](api.md#gcvit.windows_for) chooses windows for an image of yours.
In numbers, for 224 pixels: the stem leaves $224 / 4 = 56$ rows, and
$56 = 7 \cdot 2 \cdot 2 \cdot 2$, so level 0 has 8 windows of 7 one above the other,
and $K = 3$.

**Predict, then see.** The windows of most variants are 7, 7, 14 and 7. Which of the
sizes 221, 224, 256, 336 and 448 fit them?
"""

# %% tags=["active-ipynb"]
r"""
from gcvit import check_image_size, windows_for

for size in (221, 224, 256, 336, 448):
    try:
        print(size, "fits, K =", check_image_size(size, (7, 7, 14, 7)))
    except ValueError:
        print(size, "does not fit")
"""

# %% [markdown]
r"""
221 fits, since a convolution of stride 2 rounds up: 221 pixels give 111, then 56,
as 224 do. 448 is twice 224, so each $K$ is larger by one. 336 pixels give 84 rows,
12 windows of 7, and 12 is not a power of two.

What to do about 256? The error says it, and so does `windows_for`:
"""

# %% tags=["active-ipynb"]
r"""
print(windows_for((256, 320)))
try:
    check_image_size(256, (7, 7, 14, 7))
except ValueError as error:
    print(error)
"""

# %% [markdown]
r"""
Here are two of these sizes, drawn. For 224×224 pixels, a window doubled $K$ times is
the whole map. For 256×256 pixels a strip is left over.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "The maps of two image sizes, with the windows of XXTiny. Highlighted: the windows fit.", "name": "figure-model-image-sizes"}, "image": {"alt": "Two rows of four maps with the lines of their windows. For 224 by 224 pixels all four maps are filled with whole windows, K is 3, 2, 0 and 0. For 256 by 256 pixels each map leaves a strip of tokens on its right and lower side, and none fits."}} tags=["active-ipynb", "hide-input"]
r"""
from gcvit.sizes import halvings, level_maps

shown = (7, 7, 14, 7)
_, both = plots.plt.subplots(2, 4, figsize=(8, 4.8), layout="constrained")
for line, size in zip(both, (224, 256)):
    line[0].set_ylabel(f"{size}×{size} pixels")
    for axes, (height, width), side in zip(line, level_maps(size), shown):
        count = halvings((height, width), side)
        result = "does not fit" if count is None else f"K = {count}"
        axes.set_title(f"{height}×{width} in {side}×{side}\n{result}")
        axes.set_facecolor(plots.PAPER if count is None else plots.HERE)
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        axes.set(xticks=range(0, width, side), yticks=range(0, height, side))
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        axes.grid(color=plots.INK)
        axes.spines[:].set_visible(True)
plots.plt.show()
"""

# %% [markdown]
r"""
Now type the size of your own images, and windows as you would pass them to `GCViT`.
Then type 240×320, and ask for windows for this image. Which levels halve their maps
less often than those of `xxtiny`, and why?

<details><summary>Answer</summary>

At 240×320 pixels level 0 halves its map twice, not three times, and level 1
once, not twice. Their maps are 60 and 30 rows high, and halving ends at 15,
which is odd.

</details>
"""

# %% mystnb={"code_prompt_hide": "Hide the figure's code", "code_prompt_show": "Show the figure's code"} tags=["active-ipynb", "hide-input"]
r"""
from gcvit import VARIANTS

names = {}
for name, settings in VARIANTS.items():
    names.setdefault(settings["window_size"], name)
data = {"windows": {name: windows for windows, name in names.items()}}
plots.touch("image_sizes", data)
"""

# %% [markdown]
r"""
## The variants

What sets the official sizes apart is a handful of numbers. The four smallest
have no `layer_scale`. `large_21k` has the numbers of `large`: it is the same model,
trained on ImageNet-21K first. NVIDIA reports its accuracy, but published no weights
of it; those with larger images, `large_21k_384` and `large_21k_512`, have some.

One variant is the book's own: `nano`. A laptop can train it, and the chapter
[Pretrained](pretrained.ipynb) shows what it recognises.
Its images have 64 pixels,
although it learned from CIFAR-10, whose pictures have 32: they are enlarged, so that
level 0 has 4×4 windows and level 1 has 2×2. With 32 pixels, only level 0 would have
more than one window, and the global queries of the others would connect nothing.

[`gcvit.VARIANTS`](api.md#gcvit.VARIANTS) has a row for each, and the
[architecture page](architecture.md#variants) has a table of them.
"""

# %% tags=["active-ipynb"]
r"""
for name in ("nano", "xxtiny", "large"):
    print(name, *VARIANTS[name].items(), sep="\n  ")
"""

# %% [markdown]
r"""
## What can go wrong

Every mistake of the chapters before ends up here, in the logits. How much does a
small one matter? Let the normalisations of all blocks use Keras's own epsilon.
"""

# %% tags=["active-ipynb"]
r"""
model = GCViT(**small)
check.parity(model, "model")
(images,), expected = check.official("model")
for level in model.levels:
    for block in level.blocks:
        block.norm1.epsilon = block.norm2.epsilon = 1e-3
difference = check.difference(model(images), expected)
print(f"max |Δ| / std = {difference:.1e}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
A difference in the third decimal looks like rounding. It is three hundred times the
bound.

Loading into the wrong model is an error that says what differs, and nothing is
lost: [`gcvit.checkpoints`](api.md#checkpoints) sees to it that the model keeps its
weights. Plain Keras would change some of them first.
"""

# %% tags=["active-ipynb"]
r"""
from pathlib import Path
from tempfile import TemporaryDirectory

other = GCViT(**(small | {"depths": (1, 2, 1, 2), "num_classes": 5}))
other.build((None, 224, 224, 3))
before = other.get_weights()
with TemporaryDirectory() as folder:
    path = Path(folder) / "small.weights.h5"
    model.save_weights(path)
    try:
        other.load_weights(path)
    except ValueError as error:
        print(str(error).replace(folder, "…"))
assert all(map(np.array_equal, before, other.get_weights()))
"""

# %% [markdown]
r"""
Loading too early is an error as well. Plain Keras passes over it without a word,
and loads nothing.
"""

# %% tags=["active-ipynb"]
r"""
try:
    GCViT(**small).load_weights("small.weights.h5")
except ValueError as error:
    print(error)
"""

# %% [markdown]
r"""
## Summary

- `GCViT` is a stem, four levels and a head; the variants differ in a few numbers.
- An image size works if every level's map is $2^K$ windows high and wide. `check_image_size` tells you, and `windows_for` finds windows that fit.
- The small model's answers equal the official ones to five decimals of their spread.

## Exercises

1. (3 minutes, easy) Which windows does a model for 512×512 pixels need, if its levels halve as often as the official ones?
2. (5 minutes, medium) Level 3 has 30 times the parameters of level 0. Does a dense layer between equal widths also cost more multiplications there? (It costs tokens · channels².)
3. (5 minutes, medium) Why does the model refuse an image of another size, although every convolution would take it?
4. (3 minutes, easy) You rename `head` to `classifier`. What breaks, and what still works?
5. (10 minutes, easy) An experiment. `check.MISTAKES` lists known mistakes, and `with check.mistaken(model, name):` lets a model make one. Which of them change the logits of the small official model most, and which least? Write down the first and the last three before you run it.
6. (20 minutes, medium) Write the small official model yourself, in twenty lines: a `keras.Model` with the settings in `small`. Check it with `check.layer(yours, "model")`.

<details><summary>Answer to 1</summary>

16, 16, 32 and 16: the maps are 128, 64, 32 and 16 rows high, halved three times, twice, and never.

</details>

<details><summary>Answer to 2</summary>

No. Level 0 has 64 times as many tokens as level 3, and an eighth of its channels: 64 · 1 against 1 · 64.

</details>

<details><summary>Answer to 3</summary>

The number of halvings is fixed when the model is built, and with it the layers of the query generators. The same windows also fit 448×448 pixels, but there each level halves once more. At most other sizes the windows would have to change, and with them the bias tables, which are weights.

</details>

<details><summary>Answer to 4</summary>

Checkpoints store the head's weights under `head`, so released weights do not load. Everything else works: the model computes the same, and can be trained.

</details>

The solutions to 5 and 6 are code. They are folded below, and were run.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 5", "code_prompt_show": "Show the solution to 5"} tags=["active-ipynb", "hide-cell"]
r"""
model = GCViT(**small)
check.parity(model, "model")
found = {}
for name in check.MISTAKES:
    with check.mistaken(model, name):
        found[name] = check.difference(model(images), expected)
for name in sorted(found, key=found.get, reverse=True):
    print(f"{name:18}{found[name]:.1e}")
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 6", "code_prompt_show": "Show the solution to 6"} tags=["active-ipynb", "hide-cell"]
r"""
class MyGCViT(keras.Model):
    def __init__(self):
        super().__init__()
        self.patch_embed = PatchEmbed(small["embed_dim"])
        numbers = (small["depths"], small["num_heads"], small["window_size"])
        self.levels = [
            Level(*three, downsample=i < 3, mlp_ratio=3.0)
            for i, three in enumerate(zip(*numbers))
        ]
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        self.head = layers.Dense(small["num_classes"])

    def call(self, inputs):
        x = self.patch_embed(inputs)
        for level in self.levels:
            x = level(x)
        return self.head(ops.mean(self.norm(x), axis=(1, 2)))


check.layer(MyGCViT(), "model")
"""

# %% [markdown]
r"""
Next: [Evidence](evidence.ipynb) takes the global query away, and measures what is
lost.

To look up: [`GCViT`](api.md#gcvit.GCViT),
[`VARIANTS`](api.md#gcvit.VARIANTS),
[`check_image_size`](api.md#gcvit.check_image_size),
[`windows_for`](api.md#gcvit.windows_for) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
