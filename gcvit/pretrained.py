# Generated from book/pretrained.ipynb, digest b3568053. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module pretrained
# %% [markdown]
r"""
# Pretrained

At the end of this chapter your model recognises a photograph. You can load
every public GCViT checkpoint, whatever framework wrote it, and you know that
nothing of it was lost on the way.
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

# %% mystnb={"figure": {"caption": "You are here: what you do with a finished model. You fill it with weights, prepare images, and read its answers.", "name": "figure-pretrained-map"}, "image": {"alt": "Map of GCViT in four rows; the boxes preprocess, load checkpoint and predictions in the first row are highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("pretrained")
"""

# %% [markdown]
r"""
## The idea

A [checkpoint](glossary.md#term-checkpoint) is a list of arrays with names. If
your model computes what the official one computes, its weights are the official
weights under other names, some with their axes in another order. Loading is
renaming.

Three families of files exist, and each has its own names. The figure shows
one tensor: the queries, keys and values of a block. You translate all three to
what *you* call it: the path of attributes that leads to it in your model. Then
you compare. Every weight of the model has to be filled, and nothing may be
left over. If one name or one shape differs, you load nothing at all.
"""

# %% mystnb={"figure": {"caption": "One tensor, three names. You translate each to the path of attributes in your model.", "name": "figure-pretrained-names"}, "image": {"alt": "Three files, keras.io's, NVIDIA's and timm's, each with its own name for the same tensor; arrows lead from all three to one attribute name, and from there to GCViT."}} tags=["active-ipynb", "hide-input"]
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
## The code
"""

# %%
import re
import warnings

import keras
import numpy as np
from keras import ops

from gcvit import arguments, checkpoints, downloads, pictures
from gcvit.model import GCViT
from gcvit.sizes import scale_windows, size_pair, smallest_image_shape
from gcvit.variants import checkpoint_address, class_names


# %% [markdown]
r"""
### Names

First your own. These are all attributes behind which a weight can be.
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
def one_less(before, after):
    """Make a replacement that also takes one off a number.

    Args:
        before: what stands before the number.
        after: what stands after it.

    Returns:
        A function for `re.sub`; the pattern's group 1 is the number.
    """
    return lambda match: f"{before}{int(match[1]) - 1}{after}"


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
### A file, under your names

A file's name says little: `.pth`, `.pth.tar` and `.bin` are the same format.
[`gcvit.checkpoints`](api.md#checkpoints) goes by the first bytes, and refuses
what would run code. It gives you the arrays, and you rename them.
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
### Loading

Now compare, and only then assign. A loader that skips what it does not find
would leave a bias at zero, where Keras starts it, and say nothing. A head for
another number of classes is the one difference that is let through: it is what
fine-tuning starts from.
"""


# %%
def unnamed(model, weights):
    """List weights that no `GCViT` has, as those of LoRA, by Keras's path.

    Args:
        model: a built model.
        weights: its `named_weights`.

    Returns:
        A dict from paths to shapes.
    """
    known = {id(weight) for weight in weights.values()}
    others = [weight for weight in model.weights if id(weight) not in known]
    return {weight.path: tuple(weight.shape) for weight in others}


# %%
def has_other_classes(found, wanted):
    """Whether a file is for another number of classes than a model.

    Args:
        found: names, as in `named_weights`, and shapes in the file, a dict.
        wanted: those of the model.

    Returns:
        A bool; `False` if the heads differ in more than that.
    """
    kernel = found.get("head.kernel", ())
    wanted_kernel = wanted.get("head.kernel", ())
    return (
        kernel[:1] == wanted_kernel[:1]
        and kernel[1:] == found.get("head.bias")
        and kernel != wanted_kernel
    )


# %%
def load_checkpoint(model, path, averaged=False):
    """Load the weights of a checkpoint: all of them, or none.

    What the file is, its content says, not its name: Keras 3's `.keras` and
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
    other_classes = has_other_classes(found, wanted)
    if other_classes:
        for name in ("head.kernel", "head.bias"):
            del found[name], wanted[name]
    checkpoints.check_same(found, wanted | unnamed(model, weights), path)
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
### Other image sizes

The weights were trained for one image size. For another one, the windows grow
with the image: 7 of 224 pixels become 12 of 384. So each level halves as often
as before, and the query generators keep their layers. The last level's map is a
32nd of the image, so the image's sides must be multiples of 32. `windows_for`
from [Model](model.ipynb) would find windows for 300 pixels, too, but with other
numbers of halvings, to which the weights do not belong.

Nothing changes shape but the bias tables, which have one row for each offset
within a window. Read such a table as a small image, with one channel for each
head, and resize it.
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
Images need not be in colour, and some have more than three channels, as those
of satellites. Only the first convolution looks at channels, and it adds up what
it sees in each. One grey channel gets the sum of the kernels $k_c$ for red,
green and blue. $n$ channels get these in turn, times $3 / n$, so that the sum
keeps its size:

$$k'_i = \frac{3}{n}\, k_{i \bmod 3}, \qquad i = 0, \dots, n - 1.$$

Three equal channels then give the answers that one gives, and the colours twice
over give those of the colours once. Of other channels it is a start, as good as
they are like colours.
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


# %% [markdown]
r"""
A resized model is a start: nobody trained it at the new size, or measured it
there. Fine-tune it.

A table that falls with the distance keeps its form:
"""

# %% mystnb={"figure": {"caption": "A bias table resized to twice the window keeps its form: the middle stays the middle, the edge the edge.", "name": "figure-pretrained-table"}, "image": {"alt": "Two square heat maps of the same round hill: one of 7 by 7 cells, one of 15 by 15 cells."}} tags=["active-ipynb"]
r"""
y, x = np.mgrid[-3:4, -3:4]
hill = np.exp(-(x**2 + y**2) / 6).reshape(-1, 1)  # a window of 4, one head
_, both = plots.plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
for axes, window in zip(both, (4, 8)):
    table = ops.convert_to_numpy(resize_bias_table(hill, 4, window))
    axes.imshow(table.reshape(2 * window - 1, -1))
    axes.set_title(f"window {window}, {len(table)} rows")
    axes.axis("off")
plots.plt.show()
print(scale_windows((7, 7, 14, 7), 224, (256, 320)))
"""

# %% [markdown]
r"""
### Which checkpoints exist

Four sources have checkpoints. NVIDIA, the authors of the paper,
published [theirs](https://huggingface.co/nvidia/GCViT) for PyTorch.
[timm](https://github.com/huggingface/pytorch-image-models) and the
[keras.io example](https://keras.io/examples/vision/image_classification_using_global_context_vision_transformer/)
converted some of them. `nano` is this book's own.

NVIDIA's licence,
[CC BY-NC-SA 4.0](https://creativecommons.org/licenses/by-nc-sa/4.0/), forbids
commercial use. It holds for every conversion of those weights, and for what you
fine-tune from them. `nano` is free of it: Apache-2.0, as the code.
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
[`gcvit.downloads`](api.md#downloads) checks what came before it moves it into
the cache: no half file is ever taken for a whole one.

### All in one
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
            tables. `None` takes the trained one.
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
### From a photo to an answer

The weights expect images as PyTorch's models do, which Keras calls "torch
mode": values from 0 to 1; then, channel by channel, minus the mean of
ImageNet's training images, over their standard deviation.

Resizing matters too. A model sees what is left of the photo. The published
example squeezes a wide photo into a square. Here the middle is cut out, as the
settings in NVIDIA's code do, though those cut off more, an eighth of the
shorter side. Proportions stay as they are; what matters should not be at the
border. The resizing is bicubic, with antialiasing: each new pixel is an average
over all that it replaces.

A photo can be an array, a tensor, or a file.
[`gcvit.pictures`](api.md#pictures) reads files as fine-tuning does: turned as
the camera says, in whatever format.
"""


# %%
def preprocess(images, image_size=224, value_range=None):
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
        value_range: black and white of what is no uint8, a pair, such as
            `(0, 1)` for floats. `None` takes 0 and 255, and of integers beyond
            those what their highest value suggests.

    Returns:
        A float32 tensor `(B, height, width, 3)`; for one photo, B is 1.

    Raises:
        ValueError: for another shape, an image size that cannot be one, values
            that are NaN, a NumPy array of floats that end at 1, or a range
            that is none.
        OSError: for a file that is no whole picture.
        ImportError: for a file, if Pillow is not installed.
    """
    image_size = size_pair(image_size, "image_size")
    value_range = arguments.range_or_none("value_range", value_range)
    if pictures.is_in_pipeline(images):
        from gcvit import pipelines  # imports TensorFlow

        return pipelines.prepare(images, image_size)
    photos = pictures.photos("images", images, value_range)
    return ops.concatenate([fit(photo, image_size) for photo in photos])


# %%
def fit(photos, image_size):
    """Do the same for tensors `(B, H, W, 3)`; see `preprocess`."""
    images = ops.image.resize(
        photos,
        image_size,
        interpolation="bicubic",
        antialias=True,
        crop_to_aspect_ratio=True,
        data_format="channels_last",
    )
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

model = GCViT(
    window_size=(7, 7, 14, 7),
    embed_dim=8,
    depths=(1, 2, 2, 2),
    num_heads=(1, 2, 4, 8),
    num_classes=10,
    head_activation=None,
)
path = str(files("gcvit") / "data" / "official_small.keras")
print(load_checkpoint(model, path), "tensors of", len(model.weights))
(image,), expected = check.official("model")
difference = check.difference(model(image), expected)
print(f"max |Δ| / std = {difference:.5f}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
The tests do the same with NVIDIA's and timm's names, in all formats, on all
three backends.

Now a photograph: Chelsea the cat, from scikit-image. This is what is left of
her for XXTiny and for `nano`.
"""

# %% mystnb={"figure": {"caption": "What XXTiny sees of a photograph, and what `nano` sees.", "name": "figure-pretrained-sizes"}, "image": {"alt": "The middle of the photograph of a ginger cat's face, twice: at 224 by 224 pixels every hair is there; at 64 by 64 pixels the face is still clear, but coarse."}} tags=["active-ipynb"]
r"""
from skimage.data import chelsea

photo = chelsea()
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
`nano` is this book's own model, trained from scratch on 45,000 of the small
photographs of [CIFAR-10](references.md#cifar-10), with 5,000 kept for
validation, by
[`tools/train_nano.py`](https://github.com/gcvit-book/gcvit-book/blob/main/tools/train_nano.py).
Its copy of them was compressed once more, as JPEG; scores on the original can
differ a little.

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
The curves step down where the task gets harder, and end above where they were.
Run the script, and you get a similar model, not the same numbers: a sum in
another order rounds differently, and 64 epochs amplify that.

The epoch with the best validation accuracy was kept. The test images played no
part in that choice, and neither did Chelsea. She had a part before: an earlier
model took her for a frog, but not in grey. It trusted colours too much, so the
training images now vary in colour.

CIFAR-10 has ten classes; "cat" is one of them. So `nano` can answer, and its
file came with the package. XXTiny knows a thousand classes, five of them cats,
if its file can be had.
"""

# %% mystnb={"figure": {"caption": "The five most probable answers to the photograph of the cat, by the model that the line above the figure names.", "name": "figure-pretrained-answers"}, "image": {"alt": "Bar chart of the five most probable classes for the photograph of the cat; a cat is the longest bar."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
from gcvit import class_names

variant = "xxtiny"
try:
    model = from_pretrained(variant)
    print("These are XXTiny's answers, with keras.io's file.")
except (OSError, ValueError):  # no network, or one that answers for it
    variant = "nano"
    model = from_pretrained(variant)
    print("XXTiny's file is out of reach. nano is a stand-in for it.")

image = preprocess(photo, model.image_shape[:2])
(answers,) = decode_predictions(model(image), class_names(variant))
_, axes = plots.plt.subplots(figsize=(6, 2.2), layout="constrained")
names, probabilities = zip(*answers)
axes.barh(names, probabilities, color=plots.BLUE)
axes.set(xlabel="probability", xlim=(0, 1), title=variant)
axes.invert_yaxis()
plots.plt.show()
for name, probability in answers:
    print(f"{name:14} {probability:.3f}")
assert names[0] == "cat" or names[0] in class_names("xxtiny")[281:286]
"""

# %% [markdown]
r"""
## What can go wrong

A checkpoint that loads whole can still meet the wrong mathematics. The
published Keras example makes two mistakes that no shape betrays: it reads the
bias table as if it were flat, so that all heads get one bias, from the wrong
[places](window_attention.ipynb); and it pads the max-pooling of the global query
with [zeros](feature_extraction.ipynb). Switch them on, one at a time, and see
what the same weights answer.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
from unittest.mock import patch

exact_pad = ops.pad
zero_pad = patch.object(ops, "pad", lambda x, width, **_: exact_pad(x, width))


def flatten_tables(model):
    for name, table in named_weights(model).items():
        if name.endswith("table"):
            entries = ops.reshape(table, (-1, 1))[: table.shape[0]]
            table.assign(ops.repeat(entries, table.shape[1], axis=1))


answers = {"exact": model(image)}
with zero_pad:
    answers["padded with zeros"] = model(image)
flatten_tables(model)
answers["flat tables"] = model(image)
with zero_pad:
    answers["both"] = model(image)

exact = ops.convert_to_numpy(answers["exact"])
for mistake, answer in answers.items():
    best = decode_predictions(answer, class_names(variant), top=1)
    [[(name, probability)]] = best
    difference = check.difference(answer, exact)
    print(f"{mistake:18} {name:14} {probability:.3f}  Δ {difference:.3f}")
    if mistake != "exact":
        assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
Δ is the largest change of a probability, in standard deviations of the exact
ones. There is no error and no warning. In the [comparison](intro.md) on four
photographs, with both mistakes one of them gets another class. The page of the
[published example](https://keras.io/examples/vision/image_classification_using_global_context_vision_transformer/)
shows 0.72 for "Egyptian cat", by XXTiny; that number has both mistakes in it.
That `nano`'s is close to it is chance.

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
- Weights are exact only in exact layers, and a photo only in the preprocessing that they were trained with.

## Exercises

1. A file lacks one bias, and a loader skips what it does not find. Which value does the bias have then, and which check would have told you?
2. Which windows does XXTiny get for 320×320 pixels, and why is 300×300 an error?
3. Why does another image size change the bias tables, but no kernel?
4. Ask `nano` at 96×128 pixels, without pretraining anything again.

<details><summary>Answers to 1, 2 and 3</summary>

1. Zero, its first value. Shapes and parameter counts are right, and the model answers. Only a comparison of names tells, or one of answers with the official ones. That is why a missing tensor is an error.
2. 10, 10, 20 and 10: 7 and 14 times 320/224. For 300 pixels they would be 9.375 and 18.75; the height must be a multiple of 32.
3. Kernels work on each token or on small neighbourhoods, whatever the size of the map. A bias table has one row for each offset between two tokens of a window, and windows grow with the image.

</details>

The solution to 4 is folded below.
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
