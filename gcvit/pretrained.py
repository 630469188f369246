# Generated from book/pretrained.ipynb, digest 491c3357. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module pretrained
# %% [markdown]
r"""
# Pretrained

A model with pretrained weights recognises a photograph in three lines. After
this chapter you can load every public GCViT checkpoint, whatever framework wrote
it, and you know that nothing of it was lost on the way.

About 30 minutes. Medium: two ideas, and much that keeps them safe.
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

# %% [markdown]
r"""
## The result

A photograph, from scikit-image, and what `nano` says of it:
"""

# %% tags=["active-ipynb"]
r"""
from skimage.data import chelsea

from gcvit import classify, from_pretrained

photo = chelsea()
(answers,) = classify(from_pretrained("nano"), photo)
for name, probability in answers:
    print(f"{name:6} {probability:.2f}")
assert answers[0][0] == "cat"
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "The photograph: Chelsea the cat.", "name": "figure-pretrained-photo"}, "image": {"alt": "A ginger cat's face, looking into the camera."}} tags=["active-ipynb", "hide-input"]
r"""
_, axes = plots.plt.subplots(figsize=(4, 2.7), layout="constrained")
axes.imshow(photo)
axes.axis("off")
plots.show_photos()
"""

# %% [markdown]
r"""
`nano` is this book's own model. It knows the ten classes of
[CIFAR-10](references.md#cifar-10), "cat" among them, and its file comes with the
package. In [Live](live.ipynb) it runs in the page: you can drop in a photograph. NVIDIA's models know a thousand classes, five of them cats. The next
cell asks the smallest one, XXTiny. It downloads 49 MB, once.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
try:
    (answers,) = classify(from_pretrained("xxtiny"), photo)
    print(*(f"{name} {probability:.2f}" for name, probability in answers))
except (OSError, ValueError):  # no network, or one that answers for it
    print("No stand-in for XXTiny's answers: its file was out of reach.")
"""

# %% [markdown]
r"""
All of this chapter is around a finished model:
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's parts sit: around a finished model. You fill it with weights, prepare images, and read its answers.", "name": "figure-pretrained-map"}, "image": {"alt": "Map of GCViT in four rows; the boxes preprocess, load checkpoint and predictions in the first row are highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("pretrained")
"""

# %% [markdown]
r"""
## The idea

A [checkpoint](glossary.md#term-checkpoint) is a list of arrays with names. If
your model computes what the official one computes, it can use the official
weights as they are. Two things can get in the way.

**The names differ.** Three families of files exist, and each has its own names,
some with the axes in another order. You translate all three to what *you* call a
tensor: the path of attributes that leads to it in your model. Loading is
renaming.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "One tensor, three names. You translate each to the path of attributes in your model.", "name": "figure-pretrained-names"}, "image": {"alt": "Three files, keras.io's, NVIDIA's and timm's, each with its own name for the same tensor; arrows lead from all three to one attribute name, and from there to GCViT."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(20, 6, figure_width=9)
files_and_names = [
    ("keras.io, .keras", "layers/level/blocks/block_1/\nattn/qkv/vars/0"),
    ("NVIDIA, .pth.tar", "levels.0.blocks.1.\nattn.qkv.weight"),
    ("timm, .pth", "stages.0.blocks.1.\nattn.qkv.weight"),
]
for row, (file, name) in enumerate(files_and_names):
    y = 4.3 - 2.1 * row
    plots.tensor(axes, 0, y, 3.4, 1.4, file)
    axes.text(3.8, y + 0.7, name, va="center")
    plots.arrow(axes, (9.1, y + 0.7), (10.4, 2.9 + 0.35 * (1 - row)))
name = "levels.0.blocks.1.\nattn.qkv.kernel"
plots.tensor(axes, 10.5, 2.1, 4.9, 1.6, name, plots.HERE)
plots.arrow(axes, (15.4, 2.9), (16.6, 2.9))
plots.box(axes, 16.6, 2.1, 2.4, 1.6, "GCViT")
plots.plt.show()
"""

# %% [markdown]
r"""
**The image size differs.** For larger images the windows grow, and with them the
tables of [relative position biases](window_attention.ipynb): one row for each
offset within a window. You read such a table as a small picture, and resize it.
"""

# %% mystnb={"figure": {"caption": "A bias table resized to twice the window keeps its form: the middle stays the middle, the edge the edge.", "name": "figure-pretrained-table"}, "image": {"alt": "Two square heat maps of the same round hill: one of 7 by 7 cells, one of 15 by 15 cells."}} tags=["active-ipynb"]
r"""
import numpy as np

from gcvit.pretrained import resize_bias_table

y, x = np.mgrid[-3:4, -3:4]
hill = np.exp(-(x**2 + y**2) / 6).reshape(-1, 1)  # a window of 4, one head
_, both = plots.plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
for axes, window in zip(both, (4, 8)):
    table = np.asarray(resize_bias_table(hill, 4, window))
    axes.imshow(table.reshape(2 * window - 1, -1))
    axes.set_title(f"window {window}, {len(table)} rows")
    axes.axis("off")
plots.plt.show()
"""

# %% [markdown]
r"""
## From one model's names to another's
"""

# %%
import re
import warnings

import keras
import numpy as np
from keras import ops

from gcvit import arguments, checkpoints, downloads, pictures
from gcvit.model import GCViT
from gcvit.sizes import (
    around_crop,
    scale_windows,
    size_pair,
    smallest_image_shape,
)
from gcvit.variants import checkpoint_address, class_names

# %% [markdown]
r"""
First your own names. These are all the attributes that can lead to a weight.
"""

# %%
WEIGHTS = ["kernel", "bias", "gamma", "beta", "gamma1", "gamma2"]
WEIGHTS += ["relative_position_bias_table"]
PARTS = ["patch_embed", "levels", "norm", "head"]  # of GCViT
PARTS += ["blocks", "q_global_gen", "to_q_global", "down"]  # of a Level
PARTS += ["norm1", "attn", "norm2", "mlp"]  # of a Block
PARTS += ["qkv", "proj", "fc1", "fc2"]  # of WindowAttention and MLP
PARTS += ["conv_down", "conv", "fc", "reduction"]  # convolutions


def named_weights(part):
    """Name each weight by the attributes that lead to it.

    Args:
        part: a built model or layer, or a list of layers.

    Returns:
        A dict from names, such as `"levels.0.blocks.1.attn.qkv.kernel"`, to
        variables.
    """
    if isinstance(part, (list, tuple)):
        children = {str(i): child for i, child in enumerate(part)}
    else:
        children = {name: getattr(part, name, None) for name in PARTS}
    names = {
        name: getattr(part, name)
        for name in WEIGHTS
        if getattr(part, name, None) is not None
    }
    for name, child in children.items():
        if child is not None:
            inside = named_weights(child)
            names |= {f"{name}.{rest}": inside[rest] for rest in inside}
    return names


# %% tags=["active-ipynb"]
r"""
model = GCViT.from_variant("nano")
model.build((None, 64, 64, 3))
names = named_weights(model)
print(*list(names)[:4], "…", *list(names)[-2:], sep="\n")
assert len(names) == len(model.weights)
"""

# %% [markdown]
r"""
Then theirs. Each family needs a few replacements, made in this order. Keras
names the elements of a list after their class, and counts from the second on.
PyTorch calls a kernel and a norm's scale both `weight`, and counts activations
in a list, so that the squeeze and excitation comes third, not second. timm
puts the downsampling at the start of a level, and counts its convolutions
from 1.
"""

# %%
KERAS_NAMES = [
    ("/", "."),
    (r"^layers\.", ""),
    (r"^layer_normalization\b", "norm"),
    (r"\b(level|block|feature_extraction)\b", r"\1_0"),
    (r"^level_", "levels."),
    (r"\b(block|feature_extraction)_", ""),
    (r"\bconv\.depthwise_conv2d\b", "conv.0"),
    (r"\bconv\.squeeze_and_excitation\b", "conv.1"),
    (r"\bconv\.conv2d\b", "conv.2"),
    (r"\bfc\.dense\b", "fc.0"),
    (r"\bfc\.dense_1\b", "fc.1"),
    (r"(norm\d?)\.vars\.0$", r"\1.gamma"),
    (r"(norm\d?)\.vars\.1$", r"\1.beta"),
    (r"\battn\.vars\.0$", "attn.relative_position_bias_table"),
    (r"(blocks\.\d+)\.vars\.0$", r"\1.gamma1"),
    (r"(blocks\.\d+)\.vars\.1$", r"\1.gamma2"),
    (r"\bvars\.0$", "kernel"),
    (r"\bvars\.1$", "bias"),
]
PYTORCH_ENDS = [
    (r"(norm\d?)\.weight$", r"\1.gamma"),
    (r"(norm\d?)\.bias$", r"\1.beta"),
    (r"\bweight$", "kernel"),
]
NVIDIA_NAMES = [
    (r"\bdownsample\b", "down"),
    (r"\bconv\.2\.fc\.0\b", "conv.1.fc.0"),
    (r"\bconv\.2\.fc\.2\b", "conv.1.fc.1"),
    (r"\bconv\.3\b", "conv.2"),
    *PYTORCH_ENDS,
]

# %% [markdown]
r"""
Two of timm's replacements also take one off a number.
"""


# %%
def one_less(before, after):
    """Make a replacement that also takes one off a number.

    Args:
        before: what stands before the number.
        after: what stands after it.

    Returns:
        A function for `re.sub`; the pattern's group 1 is the number.
    """
    return lambda match: f"{before}{int(match[1]) - 1}{after}"


TIMM_NAMES = [
    (r"^stem\.conv1\b", "patch_embed.proj"),
    (r"^stem\.down\b", "patch_embed.conv_down"),
    (r"^head\.fc\b", "head"),
    (r"^stages\.(\d+)\.downsample\b", one_less("levels.", ".down")),
    (r"^stages\.\d+\.norm\b", "norm"),
    (r"^stages\b", "levels"),
    (
        r"\bglobal_block\.blocks\.conv(\d+)\b",
        one_less("q_global_gen.to_q_global.", ".conv"),
    ),
    (r"\bconv_block\b", "conv"),
    (r"\bconv_dw\b", "0"),
    (r"\bse\.fc1\b", "1.fc.0"),
    (r"\bse\.fc2\b", "1.fc.1"),
    (r"\bconv_pw\b", "2"),
    (r"\battn\.rel_pos\b", "attn"),
    (r"\bls(\d)\.gamma\b", r"gamma\1"),
    *PYTORCH_ENDS,
]


# %%
def translate(name, replacements):
    """Turn a checkpoint's name for a weight into the model's.

    Args:
        name: a name in a checkpoint.
        replacements: `KERAS_NAMES`, `NVIDIA_NAMES` or `TIMM_NAMES`.

    Returns:
        The name as in `named_weights`, if there is such a weight.
    """
    for pattern, replacement in replacements:
        name = re.sub(pattern, replacement, name)
    return name


# %% [markdown]
r"""
Each of the four names below leads to a weight of yours. Which parts of a name
are translated, and which stay?
"""

# %% tags=["active-ipynb"]
r"""
name = "levels.0.blocks.1.attn.qkv.kernel"
keras_name = "layers/level/blocks/block_1/attn/qkv/vars/0"
assert translate(keras_name, KERAS_NAMES) == name
for name in [
    "levels.0.downsample.conv.2.fc.2.weight",
    "levels.2.blocks.5.norm1.weight",
]:
    print(name, translate(name, NVIDIA_NAMES), sep="\n  → ")
for name in [
    "stages.1.downsample.conv_block.se.fc2.weight",
    "stages.0.global_block.blocks.conv3.conv_dw.weight",
]:
    print(name, translate(name, TIMM_NAMES), sep="\n  → ")
"""

# %% [markdown]
r"""
### Axes

PyTorch stores a dense kernel as (outputs, inputs), Keras as (inputs, outputs).
For convolutions, PyTorch has the two channel axes first, Keras last.
"""


# %%
def keras_axes(name, array):
    """Put the axes of a PyTorch array in Keras's order.

    Args:
        name: the weight's name, as in `named_weights`.
        array: an array.

    Returns:
        An array that shares the other's memory.
    """
    if not name.endswith("kernel"):
        return array
    if ".fc." in name and array.ndim == 4:
        array = array[:, :, 0, 0]  # timm's dense layers are 1×1 convolutions
    if name.endswith("conv.0.kernel") and array.ndim == 4:
        return array.transpose(2, 3, 0, 1)  # depthwise
    return array.transpose({2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim))


# %% [markdown]
r"""
Renamed, the arrays of a file are yours. A file's name says little: `.pth`,
`.pth.tar` and `.bin` are the same format. So
[`gcvit.checkpoints`](api.md#checkpoints) goes by the first bytes, and refuses
what would run code.
"""


# %%
def rename_keras(arrays):
    """Give the arrays of a Keras file the model's names; a new dict."""
    return {translate(name, KERAS_NAMES): arrays[name] for name in arrays}


# %%
def rename_pytorch(arrays, path):
    """Give the arrays of a PyTorch model the names and axes of the Keras one.

    Args:
        arrays: a dict from NVIDIA's or timm's names to arrays.
        path: the file that they are from, for an error.

    Returns:
        A dict from names, as in `named_weights`, to arrays.

    Raises:
        ValueError: if two arrays would get one name.
    """
    # NVIDIA's files hold the index of the bias table, which is computed.
    index = "relative_position_index"
    arrays = {n: arrays[n] for n in arrays if not n.endswith(index)}
    arrays = checkpoints.without_prefix(arrays)
    is_timm = any(name.startswith("stem.") for name in arrays)
    replacements = TIMM_NAMES if is_timm else NVIDIA_NAMES
    renamed = {}
    for name, array in arrays.items():
        name = translate(name, replacements)
        if name in renamed:
            raise ValueError(f"two tensors in {path} are both {name}.")
        renamed[name] = keras_axes(name, array)
    return renamed


# %% [markdown]
r"""
Now compare, and only then assign. A loader that skips what it does not find
would leave a bias at zero, where Keras starts it, and say nothing. The one
difference that is allowed is a head for a different number of classes, since
fine-tuning starts from that.
"""


# %%
def load_checkpoint(model, path, averaged=False):
    """Load the weights of a checkpoint: all of them, or none.

    The file's content counts, not its name: Keras 3's `.keras` and
    `.weights.h5`; PyTorch's `.pth` and `.pth.tar`, with the weights on top or
    under `state_dict`, `model`, `state_dict_ema` or `model_ema`;
    `.safetensors`. The names in it are those of this model, NVIDIA's or
    timm's; what a wrapper put before all of them, as `module.`, is taken off.
    If the file is for another number of classes, all but the head is loaded,
    with a warning.

    Args:
        model: a `GCViT`, of any dtype policy; if it is not built, it is built
            for the smallest image size that its windows fit.
        path: the file.
        averaged: whether to load the weights that were averaged over the
            training, under `state_dict_ema` or `model_ema`, a bool. `False`
            loads the live ones, with a warning if there are both, and the
            averaged ones if there are no others.

    Returns:
        How many tensors were loaded, an int.

    Raises:
        ImportError: for a PyTorch or safetensors file without the package
            that reads it.
        ValueError: if the file is none of these, damaged, or from another
            configuration, if it holds no averaged weights and they are
            wanted, or if the model's layers were changed. All variables
            stay as they are; a model that was not built is built.
        OSError: if the file cannot be opened.
    """
    is_keras, arrays = checkpoints.read(path, averaged)
    arrays = rename_keras(arrays) if is_keras else rename_pytorch(arrays, path)
    checkpoints.check_windows(model.window_size, path)
    if not model.built:
        model.build((None, *smallest_image_shape(model.window_size)))
    weights = named_weights(model)
    found = {name: array.shape for name, array in arrays.items()}
    wanted = {name: tuple(weights[name].shape) for name in weights}
    other_classes = checkpoints.has_other_classes(found, wanted)
    if other_classes:
        for name in ("head.kernel", "head.bias"):
            del found[name], wanted[name]
    others = checkpoints.unnamed(model, weights.values())
    checkpoints.check_same(found, wanted | others, path)
    with checkpoints.all_or_nothing(model):
        for name in wanted:
            weights[name].assign(arrays[name].astype(weights[name].dtype))
    if other_classes:
        warnings.warn(
            f"{path} has another number of classes than the model's "
            f"{model.num_classes}: the head was left as it was.",
            stacklevel=2,
        )
    return len(wanted)


# %% [markdown]
r"""
A file may hold more than you need, or less; you hear about both. Here, the
weights of a model with three blocks where yours has two:
"""

# %% tags=["active-ipynb"]
r"""
from pathlib import Path
from tempfile import TemporaryDirectory

tiny = {"window_size": (2, 2), "embed_dim": 4, "num_heads": (1, 1)}
model = GCViT(**tiny, depths=(2, 2), num_classes=3)
with TemporaryDirectory() as folder:
    path = Path(folder) / "three.weights.h5"
    other = GCViT(**tiny, depths=(2, 3), num_classes=3)
    other.build((None, 16, 16, 3))
    other.save_weights(path)
    try:
        load_checkpoint(model, path)
    except ValueError as error:
        print(str(error).replace(folder, "…"))
"""

# %% [markdown]
r"""
## Other image sizes

The weights were trained for one image size. For another one, the windows grow
with the image: 7 of 224 pixels become 12 of 384. So each level halves as often
as before, and the query generators keep their layers. The last level's map is a
32nd of the image, so the image's sides must be multiples of 32. `windows_for`
from [Model](model.ipynb) would find windows for 300 pixels, too, but with
different numbers of halvings, which the weights do not fit. Neither do they fit
windows that stay as they are. Where large windows need too much memory,
`feature_maps` keeps the trained ones, and resizes the query instead, as in
[A class for each pixel](dense.ipynb).

Nothing changes shape but the bias tables.
"""


# %%
def resize_bias_table(table, window_size, new_window_size):
    """Resize a relative position bias table, bicubically.

    Args:
        table: `((2h - 1)(2w - 1), heads)`, for windows of h times w.
        window_size: h and w, an int or a pair.
        new_window_size: those of the windows that the result is for.

    Returns:
        A table for the new windows, a tensor.

    Raises:
        ValueError: for a window size that cannot be one.
    """
    h, w = size_pair(window_size)
    new_h, new_w = size_pair(new_window_size)
    if (h, w) == (new_h, new_w):
        return table
    heads = table.shape[-1]
    image = ops.reshape(table, (1, 2 * h - 1, 2 * w - 1, heads))
    image = ops.image.resize(
        image,
        (2 * new_h - 1, 2 * new_w - 1),
        interpolation="bicubic",
        antialias=True,
        data_format="channels_last",
    )
    return ops.reshape(image, (-1, heads))


# %% [markdown]
r"""
Images need not be in colour, and some, such as satellite images, have more than
three channels.
Only the first convolution looks at channels, and it adds up what
it sees in each. One grey channel gets the sum of the kernels $k_c$ for red,
green and blue. $n$ channels get these in turn, times $3 / n$, so that the sum
keeps its size:

$$k'_i = \frac{3}{n}\, k_{i \bmod 3}, \qquad i = 0, \dots, n - 1.$$

Three equal channels then give the same answers as one channel, and the colours
given twice give the same answers as the colours given once. For other channels
this is only a starting point: the more they resemble colours, the better it is.
"""


# %%
def kernel_for_channels(kernel, channels):
    """Make the first convolution's kernel one for other channels.

    One channel gets the sum over all; more get the kernels in turn, scaled so
    that the sum of responses keeps its size.

    Args:
        kernel: `(h, w, old, C)`; old is 3 for red, green and blue.
        channels: number of channels of the new images, an int of at least 1.

    Returns:
        A kernel `(h, w, channels, C)`, a tensor.

    Source: `adapt_input_conv` in huggingface/pytorch-image-models (timm).
    """
    old = kernel.shape[2]
    if channels == old:
        return kernel
    if channels == 1:
        return ops.sum(kernel, axis=2, keepdims=True)
    turns = np.arange(channels) % old  # 0, 1, 2, 0, 1, …
    return ops.take(kernel, turns, axis=2) * (old / channels)


# %% [markdown]
r"""
A resized model is a start: nobody trained it at the new size, or measured it
there. Fine-tune it.
"""


# %%
def at_image_shape(model, image_size, channels):
    """Copy a model for another image size, or another number of channels.

    Args:
        model: a built `GCViT`.
        image_size: height and width of the new images, an int or a pair.
        channels: number of their channels, an int of at least 1.

    Returns:
        A `GCViT` with scaled windows, resized bias tables, and a first kernel
        for these channels.

    Raises:
        ValueError: for a size that does not work.
    """
    trained = model.image_shape[:2]
    windows = scale_windows(model.window_size, trained, image_size)
    copy = GCViT.from_config(model.get_config() | {"window_size": windows})
    copy.build((None, *size_pair(image_size), channels))
    copied = named_weights(copy)
    for name, weight in named_weights(model).items():
        if name == "patch_embed.proj.kernel":
            weight = kernel_for_channels(weight, channels)
        if name.endswith("table"):
            level = int(name.split(".")[1])
            old, new = model.window_size[level], windows[level]
            weight = resize_bias_table(weight, old, new)
        copied[name].assign(weight)
    return copy


# %% tags=["active-ipynb"]
r"""
print(scale_windows((7, 7, 14, 7), 224, (256, 320)))
"""

# %% [markdown]
r"""
## Which checkpoints exist

Four sources have checkpoints. NVIDIA, the authors of the paper,
published [theirs](https://huggingface.co/nvidia/GCViT) for PyTorch.
[timm](https://github.com/huggingface/pytorch-image-models) and the
[keras.io example](https://keras.io/examples/vision/image_classification_using_global_context_vision_transformer/)
converted some of them. `nano` is this book's own.

NVIDIA's licence,
[CC BY-NC-SA 4.0](https://creativecommons.org/licenses/by-nc-sa/4.0/), forbids
commercial use. It holds for every conversion of those weights, and for what you
fine-tune from them. `nano` is free of this restriction: it is under Apache-2.0,
like the code.
"""

# %% tags=["active-ipynb"]
r"""
from gcvit.variants import ROWS

print("variant         px   million  top-1  sources")
for variant, row in ROWS.items():
    side, *_ = smallest_image_shape(row.arguments["window_size"])
    print(
        f"{variant:14} {side:3}{row.parameters / 1e6:10.1f}",
        f"{row.top_1 or '–':>6}  {', '.join(row.addresses)}",
    )
"""

# %% [markdown]
r"""
A file has four bytes for each of these millions of parameters; `nano`'s has
two. The top-1 accuracies, in percent of the validation images of
[ImageNet](references.md#imagenet), are those that NVIDIA reports. Conversions
need not hold the same numbers: timm lists 79.756 % for its file of XXTiny. How
good `nano` is, you see below.

Keras's `get_file` fetches them, and
[`gcvit.downloads`](api.md#downloads) checks each download before moving it into
the cache, so a partial file is never taken for a complete one.

The `21k` variants were trained on ImageNet-21K first. `large_21k` has no source:
its configuration is in NVIDIA's code, its weights were never published.
"""


# %%
def from_pretrained(
    variant,
    *,
    source=None,
    num_classes=None,
    head_activation="softmax",
    image_size=None,
    channels=None,
    weights_path=None,
):
    """Build a model with pretrained weights.

    Files are kept in `gcvit` in Keras's folder, `~/.keras` or what KERAS_HOME
    names. The environment variable GCVIT_WEIGHTS can name a folder to take
    them from instead, without a network, or the address of a mirror.
    NVIDIA's weights, and all conversions of them, are CC BY-NC-SA 4.0:
    non-commercial. `"nano"` is this project's own, and comes with it.

    Args:
        variant: a key of `VARIANTS`; `"large_21k"`, which nobody published,
            needs a `weights_path`.
        source: whose file: `"book"`, `"keras.io"`, `"nvidia"` or `"timm"`;
            `None` takes the book's for `"nano"`, keras.io's for `"xxtiny"`,
            and NVIDIA's for the others.
        num_classes: number of classes, an int; if the file has another number,
            the head's weights are random. `None` takes the variant's.
        head_activation: activation of the head, as for `GCViT`: `None` gives
            logits, `"sigmoid"` several labels for each image.
        image_size: height and width of the images, an int or a pair. Other
            sizes than the trained one get scaled windows and resized bias
            tables, as NVIDIA's models for 384 and 512 pixels. `None` takes
            the trained one; its `feature_maps` take any size, and keep the
            windows, which needs far less memory for large images.
        channels: number of channels of the images, an int of at least 1.
            `None` takes red, green and blue. For one channel, the first
            kernel is summed over them; for more, it is repeated in turn, times
            3 / channels, as timm's `adapt_input_conv` does. Normalise all of
            them, as `preprocess` does red, green and blue.
        weights_path: a file of this variant, for its own image size and RGB,
            to load instead, as in `load_checkpoint`.

    Returns:
        A built `GCViT`.

    Raises:
        ImportError: for a PyTorch or safetensors file without the package
            that reads it.
        OSError: if the file is neither here nor to be fetched.
        ValueError: for an unknown variant or source, a source besides a
            `weights_path`, an image size or a number of channels that does
            not work, or a file that is damaged or does not fit.
    """
    options = {"head_activation": head_activation}
    if num_classes is not None:
        options["num_classes"] = num_classes
    model = GCViT.from_variant(variant, **options)
    if weights_path is not None and source is not None:
        raise ValueError(
            f"source={source!r} and weights_path={weights_path!r} are two "
            "files; give one of them."
        )
    if weights_path is not None:
        weights_path = arguments.file_path("weights_path", weights_path)
    *trained, rgb = smallest_image_shape(model.window_size)
    image_size = trained if image_size is None else image_size
    scale_windows(model.window_size, trained, image_size)  # no download yet
    channels = rgb if channels is None else channels
    channels = arguments.whole_number("channels", channels)
    with warnings.catch_warnings():
        if num_classes is not None:  # whoever asks for it need not be told
            warnings.filterwarnings("ignore", ".*number of classes")
        if weights_path is not None:
            load_checkpoint(model, weights_path)
        else:
            path = downloads.find(checkpoint_address(variant, source))
            with downloads.verified(path):
                load_checkpoint(model, path)
            if num_classes is None:
                model.class_names = tuple(class_names(variant))
    if (*size_pair(image_size), channels) == model.image_shape:
        return model
    return at_image_shape(model, image_size, channels)


# %% [markdown]
r"""
## From a photo to an answer

This is what is left of the photograph for XXTiny and for `nano`:
"""

# %% mystnb={"figure": {"caption": "What XXTiny sees of a photograph, and what `nano` sees.", "name": "figure-pretrained-sizes"}, "image": {"alt": "The middle of the photograph of a ginger cat's face, twice: at 224 by 224 pixels every hair is there; at 64 by 64 pixels the face is still clear, but coarse."}} tags=["active-ipynb"]
r"""
from gcvit import preprocess

_, both = plots.plt.subplots(1, 2, figsize=(6, 3.2), layout="constrained")
for axes, size in zip(both, (224, 64)):
    image = ops.convert_to_numpy(preprocess(photo, size))[0]
    print(f"{size:3} px: from {image.min():.1f} to {image.max():.1f}")
    low, high = image.min((0, 1)), image.max((0, 1))
    axes.imshow((image - low) / (high - low))
    axes.set_title(f"{size}×{size}")
    axes.axis("off")
plots.show_photos()
"""

# %% [markdown]
r"""
The weights expect images as PyTorch's models do, which Keras calls "torch
mode": values from 0 to 1; then, channel by channel, minus the mean of
ImageNet's training images, over their standard deviation.

Resizing matters too. A model sees what is left of the photo. The published
example squeezes a wide photo into a square. Here the middle is cut out, as
large as it can be, so proportions stay as they are. NVIDIA's evaluation cuts off
more: it keeps 0.875 of the shorter side, and so does `crop=0.875`. The numbers
that NVIDIA reports are for that; all that this book measures itself uses the
whole middle, `crop=1.0`. The resizing is bicubic, with antialiasing: each new
pixel is an average over all that it replaces.

A photo can be an array, a tensor, or a file.
[`gcvit.pictures`](api.md#pictures) reads files as fine-tuning does: turned as
the camera says, in whatever format.
"""


# %%
def preprocess(images, image_size=224, value_range=None, crop=1.0):
    """Make images of photos: cut out the middle, resize, normalise.

    Args:
        images: a photo, or a list of them, of any sizes: the path or the bytes
            of a file, an image of Pillow, or an array `(H, W, 3)`, red, green
            and blue from 0 to 255, integers or floats. Files and images are
            turned as the camera says. Grey, `(H, W)` or one channel, becomes
            red, green and blue, and what is transparent, in a fourth channel,
            white. An array or a tensor can hold several, `(B, H, W, 3)`. In a
            map of `tf.data` a tensor of TensorFlow works on every backend.
        image_size: height and width of the result, an int or a pair.
        value_range: black and white of what is not uint8, a pair, such as
            `(0, 1)` for floats. `None` takes 0 and 255, and of integers beyond
            those what their highest value suggests.
        crop: which share of the middle to keep, in (0, 1]; the official
            evaluation keeps 0.875, `crop_pct` in NVlabs/GCVit.

    Returns:
        A float32 tensor `(B, height, width, 3)`; for one photo, B is 1.

    Raises:
        ValueError: for another shape, an image size that cannot be one, values
            that are NaN, a NumPy array of floats that end at 1, a
            `value_range` or `crop` that cannot be one, or a picture beyond
            Pillow's limit of pixels.
        OSError: for a file that is not a whole picture.
        ImportError: for a file, if Pillow is not installed.
    """
    image_size = size_pair(image_size, "image_size")
    value_range = arguments.range_or_none("value_range", value_range)
    crop = arguments.share("crop", crop)
    if pictures.is_in_pipeline(images):
        from gcvit import pipelines  # imports TensorFlow

        return pipelines.prepare(images, image_size, crop)
    photos = pictures.photos("images", images, value_range)
    return ops.concatenate([fit(photo, image_size, crop) for photo in photos])


# %%
def fit(photos, image_size, crop=1.0):
    """Do the same for tensors `(B, H, W, 3)`; see `preprocess`."""
    height, width = image_size
    larger, (top, left) = around_crop(image_size, crop)
    images = ops.image.resize(
        photos,
        larger,
        interpolation="bicubic",
        antialias=True,
        crop_to_aspect_ratio=True,
        data_format="channels_last",
    )
    images = images[:, top : top + height, left : left + width]
    images = ops.clip(images, 0, 255)  # bicubic overshoots
    return keras.applications.imagenet_utils.preprocess_input(
        images, data_format="channels_last", mode="torch"
    )


# %% [markdown]
r"""
The answer is a list of numbers. Their order is that of the classes of ImageNet,
sorted by their numbers in the dictionary WordNet; for `nano`, that of
CIFAR-10. Keras's own decoder downloads the names. Here they come with the
package, and [`class_names`](api.md#gcvit.class_names) lists them: for ImageNet,
the first word that WordNet 3.0 gives for each class.
"""


# %%
def decode_predictions(predictions, names, top=5):
    """Name the most probable classes.

    Args:
        predictions: probabilities `(B, classes)`.
        names: one name for each class.
        top: how many to name, an int of at least 1.

    Returns:
        A list with one list for each image: (name, probability), the most
        probable first.

    Raises:
        ValueError: if there is not one name for each class, for another
            `top`, or for predictions that are NaN.
    """
    top = arguments.whole_number("top", top)
    predictions = arguments.predictions("predictions", predictions, names)
    best = np.argsort(-predictions, axis=-1)[:, :top]
    return [
        [(names[i], float(row[i])) for i in order]
        for row, order in zip(predictions, best)
    ]


# %% [markdown]
r"""
A model that knows the names of its classes needs no more than a photo. They are
saved with it, so whoever gets your file can ask it in one line.
"""


# %%
def classify(model, images, top=5):
    """Name the most probable classes of photos.

    Args:
        model: a `GCViT` with `class_names`, or the path of a `.keras` file of
            one, such as `fine_tune` and `save` leave.
        images: as for `preprocess`.
        top: as for `decode_predictions`.

    Returns:
        As `decode_predictions`.

    Raises:
        ValueError: for a model that does not know the names of its classes, a
            file that holds no `GCViT`, and as `preprocess`.
    """
    if not isinstance(model, GCViT):
        model = checkpoints.load_model(model, GCViT)
    if model.class_names is None:
        raise ValueError(
            "the model does not know the names of its classes. Set "
            "model.class_names, a tuple, or fine-tune it on what "
            "gcvit.load_pictures gives; then save it."
        )
    height, width, _ = model.image_shape
    images = preprocess(images, (height, width), model.value_range)
    predictions = model.predict(images, verbose=0)
    if model.head_activation is keras.activations.linear:
        predictions = ops.softmax(predictions)
    return decode_predictions(predictions, model.class_names, top)


# %% [markdown]
r"""
## The proof

First the numbers. The small official model, loaded from a file, gives the
official logits.
"""

# %% tags=["active-ipynb"]
r"""
from importlib.resources import files

model = GCViT(**check.MODEL)
path = str(files("gcvit") / "data" / "official_small.keras")
print(load_checkpoint(model, path), "tensors of", len(model.weights))
(images,), expected = check.official("model")
difference = check.difference(model(images), expected)
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
The tests do the same with NVIDIA's and timm's names, in all formats, on all
three backends.

### What `nano` can do

[`tools/train_nano.py`](https://github.com/gcvit-book/gcvit-book/blob/main/tools/train_nano.py)
trained `nano` from scratch on 45,000 of the small photographs of
[CIFAR-10](references.md#cifar-10), and kept 5,000 for validation. Each
photograph is enlarged from 32 pixels to 64, so that the first level's map has
several windows. The script's copy of the photographs was compressed once more,
as JPEG, so scores on the originals can differ a little.

In training half of the images are mirrored, and all are shifted. From epoch 17
on they also change in brightness, contrast and colour, down to grey. From epoch
25 on each loses a small square. The learning rate rises for two epochs, and then
falls along a cosine to zero. The package keeps the record of that run.
"""

# %% mystnb={"figure": {"caption": "The training of `nano`. Both curves step down where the task gets harder, and end above where they were.", "name": "figure-pretrained-training"}, "image": {"alt": "Two curves of accuracy over epochs, training and validation. Both climb fast at first, then slowly; they step down at epochs 17 and 25, and recover."}} tags=["active-ipynb"]
r"""
import json

record = json.loads((files("gcvit") / "data" / "nano.json").read_text())
epochs = [row["epoch"] for row in record["history"]]
_, axes = plots.plt.subplots(figsize=(6, 3), layout="constrained")
curves = {"accuracy": plots.BLUE, "val_accuracy": plots.RED}
for key, color in curves.items():
    values = [row[key] for row in record["history"]]
    label = "training" if key == "accuracy" else "validation"
    axes.plot(epochs, values, color=color, label=label)
axes.set(xlabel="epoch", ylabel="accuracy")
axes.legend()
plots.plt.show()
for split in ("validation", "test"):
    print(f"accuracy on the {split} images: {record[split + '_accuracy']}")
"""

# %% [markdown]
r"""
Run the script, and you get a similar model, not the same numbers: a sum in
another order rounds differently, and 64 epochs amplify that.

The epoch with the best validation accuracy was kept. The test images played no
part in that choice. The cat did influence an earlier choice: a previous model
took her for a frog, except in grey. That model trusted colours too much, so the
training images now vary in colour.
"""

# %% [markdown]
r"""
## What can go wrong

A checkpoint that loads whole can still meet the wrong mathematics. The
published Keras example makes two mistakes that no shape betrays: it reads the
bias table as if it were flat, so that all heads get one bias, from the wrong
[places](window_attention.ipynb); and it pads the max-pooling of the global query
with [zeros](feature_extraction.ipynb). Switch them on, one at a time. Does the
cat stay a cat?
"""

# %% tags=["active-ipynb"]
r"""
cat_model = from_pretrained("nano")
image = preprocess(photo, 64)
exact = ops.convert_to_numpy(cat_model(image))
cat = class_names("nano").index("cat")
print(f"{'exact':13} cat {exact[0, cat]:.3f}")
for mistake in ("zero_pooling", "flat_table"):
    with check.mistaken(cat_model, mistake):
        answer = ops.convert_to_numpy(cat_model(image))
    difference = check.difference(answer, exact)
    print(f"{mistake:13} cat {answer[0, cat]:.3f}  max |Δ| / std =", end=" ")
    print(f"{difference:.2f}")
    assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
There is no error and no warning. [Evidence](evidence.ipynb) has what each known
mistake costs on 10,000 pictures. The page of the
[published example](https://keras.io/examples/vision/image_classification_using_global_context_vision_transformer/)
shows that XXTiny gives "Egyptian cat" a probability of 0.72; that number was
computed with both mistakes.

Downloads fail too. Half a file is not taken for a whole one:
"""

# %% tags=["active-ipynb"]
r"""
whole = (files("gcvit") / "data" / "official_small.keras").read_bytes()
with TemporaryDirectory() as folder:
    for name, content in {
        "half.keras": whole[: len(whole) // 2],
        "page.pth": b"<!DOCTYPE html><title>Not found</title>",
    }.items():
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            load_checkpoint(GCViT.from_variant("nano"), path)
        except ValueError as error:
            print(str(error).replace(folder, "…"))
"""

# %% [markdown]
r"""
## Summary

- Loading is renaming: every tensor of the file, every weight of the model, one to one, or nothing.
- `from_pretrained` fetches, checks and loads; another image size scales the windows and resizes the bias tables.
- Weights give exact answers only in exact layers, on photos preprocessed as in training.

## Exercises

1. (5 minutes, easy) A file lacks one bias, and a loader skips what it does not find. Which value does the bias have then, and which check would have told you?
2. (5 minutes, medium) Which windows does XXTiny get for 320×320 pixels, and why is 300×300 an error?
3. (5 minutes, medium) Why does another image size change the bias tables, but no kernel?
4. (10 minutes, easy) An experiment: turn the photograph upside down, `photo[::-1]`, or take its negative, `255 - photo`. Which of the two does `nano` mind more?
5. (5 minutes, easy) Ask `nano` at 96×128 pixels, without pretraining anything again.

<details><summary>Answer to 1</summary>

Zero, its first value. Shapes and parameter counts are right, and the model answers. Only a comparison of names tells, or one of answers with the official ones. That is why a missing tensor is an error.

</details>

<details><summary>Answer to 2</summary>

10, 10, 20 and 10: 7 and 14 times 320/224. For 300 pixels they would be 9.375 and 18.75; the height must be a multiple of 32.

</details>

<details><summary>Answer to 3</summary>

Kernels work on each token or on small neighbourhoods, whatever the size of the map. A bias table has one row for each offset between two tokens of a window, and windows grow with the image.

</details>

For 4, change one line of the first cell. The solution to 5 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
wide = from_pretrained("nano", image_size=(96, 128))
assert wide.window_size == ((6, 8), (6, 8), (6, 8), (3, 4))
image = preprocess(photo, (96, 128))
(answers,) = decode_predictions(wide(image), class_names("nano"), top=3)
for name, probability in answers:
    print(f"{name:12} {probability:.2f}")
"""

# %% [markdown]
r"""
You have a model that knows something. Next, [teach it something new](flowers.ipynb).

To look up: [`from_pretrained`](api.md#gcvit.from_pretrained),
[`load_checkpoint`](api.md#gcvit.load_checkpoint),
[`preprocess`](api.md#gcvit.preprocess),
[`decode_predictions`](api.md#gcvit.decode_predictions),
[`classify`](api.md#gcvit.classify),
[`class_names`](api.md#gcvit.class_names) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
