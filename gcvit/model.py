# %% [markdown]
r"""
# Model

At the end of this chapter you have `GCViT`, the whole model, in each of the
official sizes. You know which image sizes it takes, and you have seen that its
answers are the official ones.
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

# %% mystnb={"figure": {"caption": "You are here: the whole, with the norm, the mean and the head that turn a map into classes.", "name": "figure-model-map"}, "image": {"alt": "Map of GCViT in four rows; the box with norm, mean and head at the end of the second row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("model")
"""

# %% [markdown]
r"""
## The idea

All parts are there; what is left is to put them in line. The
[stem](patch_embed.ipynb) turns an image into a map of tokens. Four
[levels](level.ipynb) refine it, each on half the resolution and twice the
channels of the one before. The head normalises the last map, averages it over
all positions, and gives each class a score.
"""

# %% mystnb={"figure": {"caption": "The maps of XXTiny from the side, not to scale: their height shrinks while their channels, the width, grow.", "name": "figure-model-shapes"}, "image": {"alt": "Row of maps that shrink in size and grow in depth: image 224 by 224, stem 56 by 56 with 64 channels, then 28 by 28 with 128, 14 by 14 with 256, twice 7 by 7 with 512 channels, and 1000 classes."}} tags=["active-ipynb", "hide-input"]
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
The figure shows what each part returns; a level's map is halved already, except
in the last. What level $i$, counted from 0, receives from an image of
$H \times W$ is

$$x_{i} \in \mathbb{R}^{\,H/2^{i+2} \times W/2^{i+2} \times 2^i C},$$

and the answer is

$$p = \mathrm{softmax}\!\left(W\,\overline{\mathrm{LN}(x)} + b\right),$$

where $x$ is what the last level returns, and the bar is the mean over
positions. What goes into the softmax is called the logits.

The official class is `GCViT` in [NVlabs/GCVit](https://github.com/NVlabs/GCVit).
The arguments have the names of the
[Keras example](https://keras.io/examples/vision/image_classification_using_global_context_vision_transformer/),
so the code that uses its `GCViT` works here unchanged. Its checkpoints load,
and give the official answers, not the example's.

## The code
"""

# %%
import json
import numbers
import operator
import tempfile
import zipfile
import zlib
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers

from gcvit.level import Level, fitting_windows, halvings
from gcvit.patch_embed import PatchEmbed
from gcvit.reduce_size import halve
from gcvit.window_attention import size_pair


# %% [markdown]
r"""
### Image sizes

Each level has [its rule](level.ipynb): its map is $2^K$ windows high and wide.
A few small functions carry it to the image.
"""


# %%
def level_maps(image_size, levels=4):
    """List the size of each level's map.

    Args:
        image_size: height and width of the image, an int or a pair.
        levels: number of levels, an int.

    Returns:
        A list of (height, width) pairs.

    Raises:
        ValueError: for an image size that is none.
    """
    height, width = size_pair(image_size, "image_size")
    height, width = halve(halve(height)), halve(halve(width))
    maps = [(height, width)]
    for _ in range(levels - 1):
        height, width = halve(height), halve(width)
        maps.append((height, width))
    return maps


# %%
def one_a_level(name, entries):
    """Give an argument with one entry a level as a tuple.

    Args:
        name: the argument's name, for the error.
        entries: the argument.

    Returns:
        A tuple of the entries.

    Raises:
        ValueError: if it is no sequence, or empty.
    """
    is_sequence = np.iterable(entries) and not isinstance(entries, str)
    if not is_sequence or not len(entries):
        raise ValueError(f"{name}={entries!r} needs one entry a level.")
    return tuple(entries)


# %%
def windows_for(image_size, levels=4):
    """Choose windows that work for an image size.

    As in the official models, the first level's map is halved three times
    down to a window, the second's twice, the others' never; or as often as
    their sizes are even, if that is less. The windows are then larger, and the
    attention needs more memory.

    Args:
        image_size: height and width of the image, an int or a pair.
        levels: number of levels, an int.

    Returns:
        A tuple with one window a level: an int where it is square, a pair
        where it is not.

    Raises:
        ValueError: for an image size that is none.
    """
    windows = []
    for level, map_size in enumerate(level_maps(image_size, levels)):
        halved = fitting_windows(map_size)[::-1]  # not at all, once, twice, …
        count = {0: 3, 1: 2}.get(level, 0)
        height, width = halved[min(count, len(halved) - 1)]
        windows.append(height if height == width else (height, width))
    return tuple(windows)


# %%
def nearest_image_sizes(image_size, window_size):
    """Find the two nearest image sizes that work with given windows.

    Only multiples of 4 are listed. A size of up to 3 pixels less has the same
    maps, since the stem rounds up, and works too.

    Args:
        image_size: height and width of the image, an int or a pair.
        window_size: one window a level, ints or pairs.

    Returns:
        A list of at most two (height, width) pairs, the nearest first; empty
        if these windows work with no image.
    """
    height, width = size_pair(image_size, "image_size")
    h, w = size_pair(window_size[0])
    sizes = []
    for count in range(16):
        size = (4 * h << count, 4 * w << count)
        maps = level_maps(size, len(window_size))
        if None not in map(halvings, maps, window_size):
            sizes.append(size)
    sizes.sort(key=lambda size: abs(size[0] - height) + abs(size[1] - width))
    return sizes[:2]


# %%
def check_image_size(image_size, window_size):
    """Check that an image size works with given windows.

    Args:
        image_size: height and width of the image, an int or a pair.
        window_size: one window a level, ints or pairs.

    Returns:
        How often each level halves its map for the global query, a tuple of
        ints.

    Raises:
        ValueError: if it does not work; the message names the level that
            fails, the nearest image sizes that work with these windows, and
            windows that work with this image size.
    """
    window_size = one_a_level("window_size", window_size)
    maps = level_maps(image_size, len(window_size))
    counts = tuple(map(halvings, maps, window_size))
    if None not in counts:
        return counts
    level = counts.index(None)
    sizes = nearest_image_sizes(image_size, window_size)
    nearest = ", ".join(f"{height}×{width}" for height, width in sizes)
    raise ValueError(
        f"image_size={image_size} does not work with "
        f"window_size={window_size}: level {level} has a map of "
        f"{maps[level][0]}×{maps[level][1]}, which must be 2**K windows of "
        f"{window_size[level]} high and wide, with one whole K. Nearest image "
        f"sizes that work with these windows: {nearest or 'none'}. Windows "
        f"that work with this image size: "
        f"window_size={windows_for(image_size, len(window_size))}."
    )


# %% [markdown]
r"""
Ask before you build:
"""

# %% tags=["active-ipynb"]
r"""
print(check_image_size(224, (7, 7, 14, 7)))
print(windows_for((256, 320)))
try:
    check_image_size(256, (7, 7, 14, 7))
except ValueError as error:
    print(error)
"""

# %% [markdown]
r"""
### The variants

What sets the official sizes apart is a handful of numbers. The four smallest
have no `layer_scale`. One variant is the book's own: `nano`, which a laptop can
train, and which the [next chapter](pretrained.ipynb) asks what it sees.
"""


# %%
XXTINY = {
    "window_size": (7, 7, 14, 7),
    "embed_dim": 64,
    "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 8, 16),
    "mlp_ratio": 3.0,
    "path_drop": 0.2,
}
XTINY = XXTINY | {"depths": (3, 4, 6, 5)}
TINY = XXTINY | {"depths": (3, 4, 19, 5)}
SMALL = TINY | {
    "embed_dim": 96,
    "num_heads": (3, 6, 12, 24),
    "mlp_ratio": 2.0,
    "path_drop": 0.3,
    "layer_scale": 1e-5,
}
BASE = SMALL | {
    "embed_dim": 128,
    "num_heads": (4, 8, 16, 32),
    "path_drop": 0.5,
}
LARGE = BASE | {"embed_dim": 192, "num_heads": (6, 12, 24, 48)}

# The book's own, for images of 64 px and CIFAR-10's ten classes.
NANO = {
    "window_size": (4, 4, 4, 2),
    "embed_dim": 32,
    "depths": (2, 2, 2, 2),
    "num_heads": (1, 2, 4, 8),
    "mlp_ratio": 3.0,
    "path_drop": 0.0,
    "num_classes": 10,
}

# Keyword arguments of GCViT. Source: models/gc_vit.py in NVlabs/GCVit, but
# for "nano".
VARIANTS = {
    "nano": NANO,
    "xxtiny": XXTINY,
    "xtiny": XTINY,
    "tiny": TINY,
    "tiny2": TINY | {"depths": (3, 4, 29, 5), "path_drop": 0.25},
    "small": SMALL,
    "small2": SMALL
    | {"depths": (3, 4, 23, 5), "mlp_ratio": 3.0, "path_drop": 0.35},
    "base": BASE,
    "large": LARGE,
    "large_21k": LARGE,
    "large_21k_384": LARGE
    | {"window_size": (12, 12, 24, 12), "path_drop": 0.1},
    "large_21k_512": LARGE
    | {"window_size": (16, 16, 32, 16), "path_drop": 0.1},
}


# %% [markdown]
r"""
Does your image fit? Here are two sizes with the windows of most variants. For
224×224 pixels, a window doubled $K$ times is the whole map. For 256×256 pixels
a strip is left over.
"""

# %% mystnb={"figure": {"caption": "The maps of two image sizes, with the windows of XXTiny. Highlighted: the windows fit.", "name": "figure-model-image-sizes"}, "image": {"alt": "Two rows of four maps with the lines of their windows. For 224 by 224 pixels all four maps are filled with whole windows, K is 3, 2, 0 and 0. For 256 by 256 pixels each map leaves a strip of tokens on its right and lower side, and none fits."}} tags=["active-ipynb", "hide-input"]
r"""
windows = (7, 7, 14, 7)
_, both = plots.plt.subplots(2, 4, figsize=(8, 4.8), layout="constrained")
for line, size in zip(both, (224, 256)):
    line[0].set_ylabel(f"{size}×{size} pixels")
    for axes, (height, width), side in zip(line, level_maps(size), windows):
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
Type the size of your own images, and windows as you would pass them to `GCViT`.
Try 336×336 with the windows of `xxtiny`: they fill the maps of levels 0 and 1,
and still do not fit. Why? Then type 240×320 and ask for windows for this image.
Which levels halve their maps less often than the official ones, and why?

<details><summary>Answer</summary>

At 336×336 pixels the maps of levels 0 and 1 are 12 and 6 windows high, and
those are no powers of two. Levels 2 and 3 are not filled at all.

At 240×320 pixels level 0 halves its map twice, not three times, and level 1
once, not twice. Their maps are 60 and 30 rows high, and halving ends at 15,
which is odd.

</details>
"""

# %% tags=["active-ipynb", "hide-input"]
r"""
names = {}
for name, settings in VARIANTS.items():
    names.setdefault(settings["window_size"], name)
data = {"windows": {name: windows for windows, name in names.items()}}
plots.touch("image_sizes", data)
"""

# %% [markdown]
r"""
### Loading weights

Keras looks up each of the model's weights in the file, and ignores what else is
there. And a model that has no variables yet loads nothing, without a word.
`GCViT` refuses both. To say what differs it needs to see what a file holds.
"""


# %%
def stored_weights(path, read):
    """Read the weights in a Keras checkpoint.

    Args:
        path: a `.keras` or `.weights.h5` file.
        read: what to take of each, a function of an `h5py.Dataset`.

    Returns:
        A dict: name inside the file to what was read. What an optimizer or a
        random number generator left there does not count.

    Raises:
        ValueError: if the file would have others read.
    """
    weights = {}

    def visit(name, item):
        parts = name.split("/")
        counts = not {"optimizer", "seed_generator"} & set(parts)
        if isinstance(item, h5py.Dataset) and counts:
            if item.external or item.is_virtual:
                raise ValueError(f"{path} points into another file: {name}.")
            weights[name] = read(item)

    if not zipfile.is_zipfile(path):
        with h5py.File(path) as file:
            file.visititems(visit)
        return weights
    # Unpacked, because HDF5 jumps about, which a compressed file cannot.
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            member = archive.extract("model.weights.h5", folder)
        with h5py.File(member) as file:
            file.visititems(visit)
    return weights


# %%
def stored_shapes(path):
    """List the weights in a Keras checkpoint.

    Args:
        path: a `.keras` or `.weights.h5` file.

    Returns:
        A dict: name inside the file to shape.
    """
    return stored_weights(path, lambda dataset: dataset.shape)


# %%
def stored_windows(path):
    """Read the windows of the model that a checkpoint was saved from.

    Args:
        path: a file; only a `.keras` file knows its windows.

    Returns:
        A list of (height, width) pairs; `None` where the file does not say.

    Raises:
        ValueError: if the file is damaged.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if "config.json" not in archive.namelist():
                return None
            stored = json.loads(archive.read("config.json"))
    except (ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is truncated or corrupted: {error}"
        ) from error
    windows = stored.get("config", {}).get("window_size")
    return windows and [size_pair(window) for window in windows]


# %%
def check_windows(window_size, path):
    """Check that a checkpoint was saved from a model with the same windows.

    Args:
        window_size: one window a level, ints or pairs.
        path: a file; if it does not know its windows, they pass.

    Raises:
        ValueError: if the windows differ, or the file is damaged.
    """
    windows = stored_windows(path)
    if windows not in (None, list(map(size_pair, window_size))):
        raise ValueError(
            f"{path} was saved with windows of {windows}, this model has "
            f"window_size={window_size}."
        )


# %%
def only_in(one, other):
    """List the first weights that one checkpoint has and another has not.

    Args:
        one: names and shapes, a dict.
        other: another such dict.

    Returns:
        A text; "nothing" for none.
    """
    extra = sorted(one.items() - other.items())
    names = ", ".join(f"{name} {shape}" for name, shape in extra[:5])
    more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
    return (names or "nothing") + more


# %% [markdown]
r"""
### Arguments

What cannot work fails in the constructor, with the argument's name.
"""


# %%
def whole_number(name, value, least=1):
    """Give an argument as an int, NumPy's ints too.

    Args:
        name: the argument's name, for the error.
        value: the argument.
        least: the smallest number that works, an int.

    Returns:
        An int.

    Raises:
        ValueError: for anything else.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}={value!r} is no int of at least {least}.")
    return number


# %%
def rate_below_one(name, value):
    """Give a rate as a float.

    Args:
        name: the argument's name, for the error.
        value: the argument, in [0, 1).

    Returns:
        A float.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(f"{name}={value!r} is no rate in [0, 1).")
    return float(value)


# %%
def check_levels(embed_dim, depths, num_heads, window_size):
    """Check that arguments of `GCViT` agree with each other.

    Args:
        embed_dim: channels of the first level, an int.
        depths: blocks of each level, a tuple of ints.
        num_heads: attention heads of each level, a tuple of ints.
        window_size: window of each level, a tuple.

    Raises:
        ValueError: if their lengths differ, or if heads do not divide a
            level's channels.
    """
    if not len(depths) == len(num_heads) == len(window_size):
        raise ValueError(
            f"depths={depths}, num_heads={num_heads} and "
            f"window_size={window_size} differ in length; each needs one "
            "entry a level."
        )
    for level, heads in enumerate(num_heads):
        dim = embed_dim * 2**level
        if dim % heads:
            raise ValueError(
                f"embed_dim={embed_dim} gives level {level} {dim} channels, "
                f"which num_heads={num_heads} does not divide there."
            )


# %% [markdown]
r"""
### The model

`build()` creates every variable, so that a checkpoint always finds its place.
The size of the images is fixed then: it says how often each level halves its
map, and so how many layers each query generator has. `build_graph` and
`summary` go through a functional model, which knows the shape at every step.

The rate of [stochastic depth](block.ipynb) grows evenly from block to block,
from 0 in the first to `path_drop` in the last. That, too, is from
[Huang et al.](https://arxiv.org/abs/1603.09382): early blocks are kept more,
since all later ones build on them.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class GCViT(keras.Model):
    """The Global Context Vision Transformer, an image classifier.

    Shapes: `(B, H, W, channels)` in, `(B, num_classes)` out. Height, width and
    channels are fixed when the model is built; see `check_image_size` for the
    sizes that work. The images are channels last, whatever Keras's global
    setting, and normalised as the weights want it.

    Args:
        window_size: one window a level, an int or a (height, width) pair each.
        embed_dim: channels of the first level, an int of at least 4; each
            level has twice as many as the one before.
        depths: number of blocks in each level, positive ints.
        num_heads: number of attention heads in each level, ints that divide
            its channels.
        drop_rate: dropout rate after the stem, the attentions and in the MLPs,
            in [0, 1).
        mlp_ratio: hidden width of the MLPs as a multiple of the channels.
        qkv_bias: whether queries, keys and values have a bias, a bool.
        qk_scale: factor of the queries, a float; `None` takes one over the
            root of the channels a head.
        attention_dropout: dropout rate of the attention weights, in [0, 1).
        path_drop: rate of stochastic depth in the last block, in [0, 1); it
            grows evenly from 0 in the first.
        layer_scale: what the scale of each branch starts at, a float; `None`
            leaves the scales out.
        num_classes: number of classes, an int of at least 1.
        head_activation: activation of the head, by name or as a function;
            `None` gives logits.

    Raises:
        ValueError: for sizes, numbers and rates that cannot work, with the
            argument's name and value.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        # === Config ===
        self.window_size = tuple(
            size_pair(window)
            if np.iterable(window)
            else whole_number("window_size", window)
            for window in one_a_level("window_size", window_size)
        )
        self.embed_dim = whole_number("embed_dim", embed_dim, least=4)
        self.depths = depths = tuple(
            whole_number("depths", depth)
            for depth in one_a_level("depths", depths)
        )
        self.num_heads = tuple(
            whole_number("num_heads", heads)
            for heads in one_a_level("num_heads", num_heads)
        )
        check_levels(
            self.embed_dim, depths, self.num_heads, self.window_size
        )
        if not isinstance(mlp_ratio, numbers.Real) or mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio={mlp_ratio!r} is not above 0.")
        self.drop_rate = rate_below_one("drop_rate", drop_rate)
        self.mlp_ratio = mlp_ratio
        self.qkv_bias = qkv_bias
        self.qk_scale = qk_scale
        self.attention_dropout = rate_below_one(
            "attention_dropout", attention_dropout
        )
        self.path_drop = rate_below_one("path_drop", path_drop)
        self.layer_scale = layer_scale
        self.num_classes = whole_number("num_classes", num_classes)
        self.head_activation = keras.activations.get(head_activation)
        # The size that the last window would cover whole; build() may differ.
        height, width = size_pair(self.window_size[-1])
        stride = 2 ** (len(depths) + 1)
        self.image_shape = (height * stride, width * stride, 3)
        # === Layers ===
        dtype = self.dtype_policy
        self.patch_embed = PatchEmbed(
            self.embed_dim, dtype=dtype, name="patch_embed"
        )
        self.pos_drop = layers.Dropout(drop_rate, dtype=dtype, name="pos_drop")
        path_drops = np.linspace(0, path_drop, sum(depths)).tolist()
        self.levels = []
        for i, depth in enumerate(depths):
            level = Level(
                depth,
                self.num_heads[i],
                self.window_size[i],
                downsample=i < len(depths) - 1,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                dropout=drop_rate,
                attention_dropout=attention_dropout,
                path_drop=path_drops[sum(depths[:i]) : sum(depths[: i + 1])],
                layer_scale=layer_scale,
                dtype=dtype,
                name=f"level_{i}",
            )
            self.levels.append(level)
        self.norm = layers.LayerNormalization(
            epsilon=1e-5, dtype=dtype, name="norm"
        )
        self.pool = layers.GlobalAveragePooling2D(
            data_format="channels_last", dtype=dtype, name="pool"
        )
        # In float32 where the rest is in bfloat16: probabilities need it.
        self.head = layers.Dense(
            self.num_classes,
            activation=self.head_activation,
            dtype=self.variable_dtype,
            name="head",
        )

    @classmethod
    def from_variant(cls, variant, **kwargs):
        """Make a model of an official size, with random weights.

        Args:
            variant: a key of `VARIANTS`, such as `"xxtiny"`.
            **kwargs: arguments of `GCViT` that differ from the variant's.

        Returns:
            A `GCViT`, not yet built.

        Raises:
            ValueError: for an unknown variant.
        """
        if variant not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise ValueError(f"variant={variant!r} is none of: {known}.")
        return cls(**(VARIANTS[variant] | kwargs))

    def build(self, input_shape):
        if self.built:
            return self._check_input(input_shape)
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                f"input_shape={input_shape} is not (batch, height, width, "
                "channels) with fixed height, width and channels."
            )
        if input_shape[1] <= 4 < input_shape[3]:
            raise ValueError(
                f"input_shape={input_shape} looks like channels first; images "
                "are (batch, height, width, channels)."
            )
        check_image_size(tuple(input_shape[1:3]), self.window_size)
        self.image_shape = tuple(input_shape[1:])
        self.patch_embed.build(input_shape)
        shape = self.patch_embed.compute_output_shape(input_shape)
        for level in self.levels:
            level.build(shape)
            shape = level.compute_output_shape(shape)
        self.norm.build(shape)
        self.head.build((None, shape[-1]))
        # Variables made just now do not know of parts frozen before.
        for layer in self.layers:
            for weight in layer.weights:
                weight.trainable = layer.trainable

    def _check_input(self, input_shape):
        """Raise `ValueError` for images of another size than was built."""
        if tuple(input_shape[1:]) != self.image_shape:
            raise ValueError(
                f"this model was built for images of {self.image_shape} "
                f"(height, width, channels), not {tuple(input_shape[1:])}; "
                "build another one for them."
            )

    def feature_maps(self, images, training=None):
        """Compute the map after the stem and after each level.

        Args:
            images: as in a call, `(B, H, W, channels)`.
            training: whether to drop out, a bool; `None` takes the mode of
                the call around, or else does not.

        Returns:
            A dict in the order of computation: `"stem"` and `"level_0"`,
            `"level_1"`, …, to maps `(B, H, W, C)`. Each level's map is what
            the next level receives, halved already.

        Raises:
            ValueError: for images of another size than was built.
        """
        if self.built:
            self._check_input(images.shape)
        else:
            self.build(images.shape)
        x = self.patch_embed(images)
        x = self.pos_drop(x, training=training)
        maps = {"stem": x}
        for i, level in enumerate(self.levels):
            x = maps[f"level_{i}"] = level(x, training=training)
        return maps

    def call(self, inputs, training=None):
        maps = self.feature_maps(inputs, training)
        *_, x = maps.values()  # the last level's
        return self.head(self.pool(self.norm(x)))  # (B, num_classes)

    def compute_output_shape(self, input_shape):
        if self.built:
            self._check_input(input_shape)
        return (input_shape[0], self.num_classes)

    def build_graph(self, input_shape=None):
        """Make a functional model of the same layers and weights.

        Args:
            input_shape: height, width and channels; `None` takes those the
                model was built for, or else those its windows were made for.

        Returns:
            A functional `keras.Model`.
        """
        inputs = keras.Input(input_shape or self.image_shape)
        outputs = self.call(inputs)
        return keras.Model(inputs, outputs, name=self.name)

    def summary(self, input_shape=None, **kwargs):
        """Print the layers, with their shapes and parameters.

        Args:
            input_shape: as in `build_graph`.
            **kwargs: arguments of `keras.Model.summary`.
        """
        self.build_graph(input_shape).summary(**kwargs)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Load weights from a Keras checkpoint, all of them.

        Args:
            filepath: a `.keras` or `.weights.h5` file.
            skip_mismatch: whether to load what fits and pass over the rest.
            **kwargs: arguments of `keras.Model.load_weights`.

        Raises:
            ValueError: if the model is not built; without `skip_mismatch`,
                also if the file is of another kind or from another
                configuration. The model's weights stay as they are. Only a
                `.keras` file knows its windows: of a `.weights.h5` file, names
                and shapes are compared.
        """
        if not self.built:
            raise ValueError(
                f"cannot load {filepath} yet: the model has no variables. "
                f"Call model.build({(None, *self.image_shape)}) first."
            )
        if not skip_mismatch:
            self._check_checkpoint(filepath)
        super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)

    def _check_checkpoint(self, path):
        """Raise `ValueError` unless a file holds just this model's weights."""
        if not str(path).endswith((".keras", ".weights.h5")):
            raise ValueError(f"{path} is no .keras and no .weights.h5 file.")
        check_windows(self.window_size, path)
        stored = stored_shapes(path)
        own = [tuple(weight.shape) for weight in self.weights]
        if sorted(stored.values()) == sorted(own):
            return
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder) / "here.weights.h5"
            self.save_weights(here)
            expected = stored_shapes(here)
        if stored != expected:
            raise ValueError(
                f"{path} holds the weights of another configuration. "
                f"Only in the file: {only_in(stored, expected)}. "
                f"Only in the model: {only_in(expected, stored)}. "
                "With skip_mismatch=True, what fits is loaded."
            )

    def get_config(self):
        config = {
            "window_size": self.window_size,
            "embed_dim": self.embed_dim,
            "depths": self.depths,
            "num_heads": self.num_heads,
            "drop_rate": self.drop_rate,
            "mlp_ratio": self.mlp_ratio,
            "qkv_bias": self.qkv_bias,
            "qk_scale": self.qk_scale,
            "attention_dropout": self.attention_dropout,
            "path_drop": self.path_drop,
            "layer_scale": self.layer_scale,
            "num_classes": self.num_classes,
            "head_activation": keras.activations.serialize(
                self.head_activation
            ),
        }
        return {**super().get_config(), **config}


# %% [markdown]
r"""
> **Why `head` and not `classifier`.** Attribute names are addresses. A
> checkpoint stores the head's weights under `head`; another name here, and
> released weights would not load. Keras visits the attributes in alphabetical
> order, and next meets `layers`, its own list of the model's layers. What lies
> in a list goes by its class, and is counted from the second on:
> `layers/level`, `layers/level_1`. So the stem is `layers/patch_embed`, and the
> norm `layers/layer_normalization`. The [architecture page](architecture.md)
> lists them all.

## The proof

XXTiny on a photograph. First the shape after each level.
"""

# %% tags=["active-ipynb"]
r"""
from keras import ops
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
"""

# %% tags=["active-ipynb"]
r"""
model.summary()
assert model.count_params() == 11_995_428
"""

# %% [markdown]
r"""
11,995,428 parameters, the official number. Where are they?
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
And the numbers. The small official model has its own configuration; its logits
come from the official code in float64.
"""

# %% tags=["active-ipynb"]
r"""
small = {
    "window_size": (7, 7, 14, 7),
    "embed_dim": 8,
    "depths": (1, 2, 2, 2),
    "num_heads": (1, 2, 4, 8),
    "num_classes": 10,
    "head_activation": None,
}
difference = check.parity(GCViT(**small), "model")
print(f"max |Δ| / std = {difference:.5f}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
## What can go wrong

Every mistake of the chapters before ends here, in the logits. How much does a
small one matter? Let the normalisations of all blocks use Keras's own epsilon.
"""

# %% tags=["active-ipynb"]
r"""
model = GCViT(**small)
check.parity(model, "model")
(image,), expected = check.official("model")
for level in model.levels:
    for block in level.blocks:
        block.norm1.epsilon = block.norm2.epsilon = 1e-3
difference = check.difference(model(image), expected)
print(f"max |Δ| / std = {difference:.4f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
A difference in the third decimal looks like rounding. It is two hundred times
the bound.

Loading into the wrong model is an error that says what differs, and nothing is
lost: the model keeps its weights.
"""

# %% tags=["active-ipynb"]
r"""
other = GCViT(**(small | {"depths": (1, 2, 1, 2), "num_classes": 5}))
other.build((None, 224, 224, 3))
before = other.get_weights()
with tempfile.TemporaryDirectory() as folder:
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
And so is loading too early, which plain Keras passes over without a word.
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
- An image size works if every level's map is $2^K$ windows high and wide; `check_image_size` tells, `windows_for` helps.
- The small model's answers equal the official ones to five decimals of their spread.

## Exercises

1. Which windows does a model for 512×512 pixels need, if its levels halve as often as the official ones?
2. Level 3 has 30 times the parameters of level 0. Does a dense layer between equal widths also cost more multiplications there? (It costs tokens · channels².)
3. Why does the model refuse an image of another size, although every convolution would take it?
4. You rename `head` to `classifier`. What breaks, and what still works?
5. Write the small official model yourself, in twenty lines: a `keras.Model` with the settings in `small`. Check it with `check.layer(yours, "model")`.

<details><summary>Answers to 1, 2, 3 and 4</summary>

1. 16, 16, 32 and 16: the maps are 128, 64, 32 and 16, halved three times, twice, and never.
2. No. Level 0 has 64 times as many tokens as level 3, and an eighth of its channels: 64 · 1 against 1 · 64.
3. The number of halvings is fixed when the model is built, and with it the layers of the query generators. At 448×448 the same windows fit, with one halving more in each level; at other sizes the windows change too, and with them the bias tables.
4. Checkpoints store the head's weights under `head`, so released weights do not load. Everything else works: the model computes the same, and can be trained.

</details>

The solution to 5 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
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
You have built GCViT. [Next](pretrained.ipynb), give it weights that know
something.

To look up: [`GCViT`](api.md#gcvit.GCViT),
[`VARIANTS`](api.md#gcvit.VARIANTS),
[`check_image_size`](api.md#gcvit.check_image_size),
[`windows_for`](api.md#gcvit.windows_for) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
