# Generated from book/evidence.ipynb, digest 77ad19b9. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module evidence
# %% [markdown]
r"""
# Evidence

Does the global query help? In this chapter you take it away, and see what is
lost: on photographs, and in a task that needs both ends of an image. Then you
see what the known mistakes of published code cost.

About 20 minutes. Easy to read; the code takes what you know from
[Level](level.ipynb).
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

Five models learn CIFAR-10, and differ in one part each.

| name | what asks in every second block |
| --- | --- |
| global query | the global query, as in the paper |
| average as query | the map, averaged to the size of a window, without a generator |
| shifted windows | each token, in windows shifted by half their size, as in [Swin](https://arxiv.org/abs/2103.14030) |
| local only | each token, in the same windows as in the block before |
| no squeeze | the global query, but no convolution has a [squeeze and excitation](squeeze_excitation.ipynb) |

Before you look: which of the last four do you expect to lose the most?
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Accuracy of five models after the same training. Each dot is a run with its own seed, each line their mean.", "name": "figure-evidence-accuracy"}, "image": {"alt": "Five rows, one for each variant, with one dot for each seed and a line at their mean, over the accuracy on the test images."}} tags=["active-ipynb", "hide-input"]
r"""
import json
from importlib.resources import files

import numpy as np

record = json.loads((files("gcvit") / "data" / "evidence.json").read_text())
_, axes = plots.plt.subplots(figsize=(6, 2.8), layout="constrained")
for row, (name, runs) in enumerate(record["variants"].items()):
    scores = 100 * np.array(runs["test_accuracy"])
    color = plots.BLUE if row == 0 else plots.INK
    axes.plot(scores, [row] * len(scores), "o", color=color, alpha=0.5)
    axes.plot(scores.mean(), row, "|", color=color, ms=24)
    print(f"{name:17}{runs['parameters']:8,} parameters ", end="")
    print(f"{scores.mean():.1f} % ± {scores.std(ddof=1):.1f}")
axes.set_yticks(range(len(record["variants"])), record["variants"])
axes.set_xlabel("accuracy on the 10,000 test images, %")
axes.invert_yaxis()
plots.plt.show()
"""

# %% [markdown]
r"""
The spread, ±, is the standard deviation over the seeds.

None of the four differs from the model with the global query by more than the
seeds differ among themselves. So on these photographs, at this size, there is
no sign that the global query helps, and none that squeeze and excitation does.

That is a result about small models, small images and short trainings. The last
map here has 2×2 tokens, which one window covers: there each token meets all
others, whatever asks. Between the levels, convolutions pass news on. The paper
measures its parts on ImageNet, at 224 pixels and with 7×7 tokens in each window,
in its ablation study ([arXiv 2206.09959](https://arxiv.org/abs/2206.09959)); nobody
repeated that here.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Validation accuracy after each epoch, the mean over the seeds.", "name": "figure-evidence-curves"}, "image": {"alt": "Five curves of validation accuracy over the epochs; all rise together."}} tags=["active-ipynb", "hide-input"]
r"""
_, axes = plots.plt.subplots(figsize=(6, 3), layout="constrained")
styles = ["-", "--", "-.", ":", (0, (1, 3))]
for (name, runs), style in zip(record["variants"].items(), styles):
    curve = 100 * np.mean(runs["val_accuracy"], axis=0)
    epochs = range(1, len(curve) + 1)
    color = plots.BLUE if name == "global query" else plots.INK
    axes.plot(epochs, curve, linestyle=style, color=color, label=name)
axes.set(xlabel="epoch", ylabel="validation accuracy, %", xticks=epochs)
axes.legend()
plots.plt.show()
"""

# %% [markdown]
r"""
The models are small, so that you can repeat this on a laptop: the first three
levels of [`nano`](pretrained.ipynb) at half its width, with 16 channels, for
CIFAR-10's own 32 pixels. Windows have 2×2 tokens, so the first map of 8×8 has
16 windows. The models train on 45,000 images, mirrored and shifted. For each
seed, all variants get the same images in the same order. The accuracy is that
after the fourth and last epoch; no epoch was picked for its result.
[`tools/train_evidence.py`](https://github.com/gcvit-book/gcvit-book/blob/main/tools/train_evidence.py)
trains them, and the package keeps its record.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "What this chapter compares: whole models, trained alike, each without one part.", "name": "figure-evidence-map"}, "image": {"alt": "Map of GCViT in four rows; the box compare in the first row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("evidence")
"""

# %% [markdown]
r"""
## The code

A variant is a `GCViT` with some of its parts replaced.
Each part is a few lines.
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


# %% [markdown]
r"""
A block asks globally if its level says so. This one never does:
"""


# %%
class LocalBlock(Block):
    """A block that asks with its own tokens, whatever its place in a level."""

    def __init__(self, *args, global_query, **kwargs):
        super().__init__(*args, global_query=False, **kwargs)


# %% [markdown]
r"""
A shifted window is a window of the rolled map. All else in a block works on
each token alone, so you can roll what comes in, and roll back what goes out.
Where one window holds the whole map, Swin does not shift.
"""


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


# %% [markdown]
r"""
Rolling brings tokens together that are at opposite borders of the map. They
must not meet. So their scores get -100 before the softmax, which leaves them a
weight of zero.
"""


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

    def call(self, inputs, q_global=None, **kwargs):
        self.count = ops.shape(inputs)[0]  # of all windows, B·M
        return super().call(inputs, q_global, **kwargs)

    def relative_position_bias(self):
        bias = super().relative_position_bias()
        if self.mask is None:
            return bias
        images = self.count // len(self.mask)
        return ops.tile(bias + self.mask, (images, 1, 1, 1))


# %% [markdown]
r"""
Three parts are stand-ins for what is taken away.
"""


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


# %% [markdown]
r"""
While a variant is being built, the modules of its parts hold replacement
classes under the same names.
"""


# %%
ABLATIONS = {
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
        changes: a list of triples, as in `ABLATIONS`: a module, the name of a
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

Without changes, the variant is the model of this book, and gives the official
answers for two images.
"""

# %% tags=["active-ipynb"]
r"""
unchanged = build_variant([], 224, **check.MODEL)
difference = check.parity(unchanged, "model")
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
And shifted windows are what they say. Three maps differ in one token: the
second has news in the middle, the third in a corner. A shifted block passes the
news to the window around it, and not across the border.
"""

# %% tags=["active-ipynb"]
r"""
x = np.random.default_rng(0).normal(size=(8, 8, 4)).astype("float32")
x = np.stack([x, x, x])
x[1, 3, 3] = x[2, 0, 0] = [1, -1, 1, -1]
with patch.object(block, "WindowAttention", MaskedAttention):
    answers = ShiftedBlock((4, 4), 2, global_query=True)(x)
answers = ops.convert_to_numpy(answers)
change = np.abs(answers - answers[0]).max(axis=-1) > 1e-7
for row in zip(*change[1:].astype(int)):
    print(*row)
assert change[1, 2:6, 2:6].all() and change[1].sum() == 16
assert change[2, :2, :2].all() and change[2].sum() == 4
"""

# %% [markdown]
r"""
## A task that needs both ends

On photographs a model can be right for many reasons. So here is a task that can
be solved only by comparing two places. Each image has two
squares in opposite corners, red or green. Are they of the same colour?
"""

# %% mystnb={"figure": {"caption": "The task: are the two squares of the same colour?", "name": "figure-evidence-squares"}, "image": {"alt": "Six images with a red or green square in the upper left corner and another in the lower right one; above each, same or different."}} tags=["active-ipynb"]
r"""
COLOURS = np.array([[2, 0, 0], [0, 2, 0]], "float32")  # red, green


def two_squares(count, random):
    kinds = random.integers(0, 2, (2, count))
    images = random.normal(0, 0.1, (count, 32, 32, 3)).astype("float32")
    images[:, 1:9, 1:9] += COLOURS[kinds[0], None, None]
    images[:, -9:-1, -9:-1] += COLOURS[kinds[1], None, None]
    return images, np.eye(2)[(kinds[0] == kinds[1]).astype(int)]


random = np.random.default_rng(0)
train, test = two_squares(2048, random), two_squares(512, random)
_, row = plots.plt.subplots(1, 6, figsize=(8, 1.6), layout="constrained")
for image, label, axes in zip(*train, row):
    axes.imshow(np.clip(image / 2, 0, 1))
    axes.set_title(["different", "same"][label.argmax()])
    axes.axis("off")
plots.show_photos()
"""

# %% [markdown]
r"""
The models have one level of two blocks, on a map of 8×8 tokens with windows of
2×2. No window holds both squares. The models have no squeeze and excitation,
which would also carry the news.
Each square alone says nothing: half of the images
with a red one are "same". What accuracy do you expect of a model whose tokens
never meet the other corner?
"""

# %% mystnb={"figure": {"caption": "Accuracy on new images after each epoch. The two models whose queries come from the whole map learn the task; the two others do not.", "name": "figure-evidence-far"}, "image": {"alt": "Four curves over eight epochs. Those of the global query and of the average reach one; the two others stay near one half."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
import keras

tiny = {"window_size": (2,), "embed_dim": 16, "depths": (2,)}
tiny |= {"num_heads": (2,), "num_classes": 2, "path_drop": 0.0}
no_squeeze = ABLATIONS["no squeeze"]
_, axes = plots.plt.subplots(figsize=(6, 2.8), layout="constrained")
best = {}
for name, style in zip(list(ABLATIONS)[:4], ["-", "--", "-.", ":"]):
    keras.utils.set_random_seed(0)
    model = build_variant(ABLATIONS[name] + no_squeeze, 32, **tiny)
    model.compile(
        keras.optimizers.Adam(5e-3),
        "categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    curve = model.fit(
        *train, epochs=8, verbose=0, validation_data=test, shuffle=False
    ).history["val_accuracy"]
    best[name] = max(curve)
    print(f"{name:17} {best[name]:.2f}")
    axes.plot(range(1, 9), curve, linestyle=style, label=name)
axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1.05))
axes.legend()
plots.plt.show()
assert best["global query"] > 0.9
assert max(best["local only"], best["shifted windows"]) < 0.8
"""

# %% [markdown]
r"""
Here the difference is large. A query that comes from the whole map carries the
news, whether a generator makes it or a plain average. Local blocks cannot learn
the task, and exercise 2 asks why. Shifted windows pass news on by one window for
each pair of blocks, and here two blocks are not enough.

The average does as well as the generator here. That says little about the
generator: the two squares are large and plain, and an average keeps them.

So the global query does what it is made for. Whether your images need it is
another matter. A level whose map fits into one window does not need it.
"""

# %% [markdown]
r"""
## What can go wrong

Published code has [slips](intro.md#why-exact) that no shape betrays. What do
they cost a trained model? Here each is switched on in `nano`, which then
classifies the 10,000 test images of CIFAR-10 in batches of 500. Predict the
order before you look.
"""

# %% tags=["active-ipynb"]
r"""
costs = json.loads((files("gcvit") / "data" / "mistakes.json").read_text())
print("                 accuracy  other answers")
for name, accuracy in costs["accuracy"].items():
    changed = costs["changed"].get(name, 0)
    print(f"{name:16} {100 * accuracy:6.2f} % {100 * changed:9.2f} %")
"""

# %% [markdown]
r"""
The flat table costs half a point of accuracy. The others change up to one
answer in sixty, but nearly as many for the better as for the worse. So accuracy
does not find them: a port can be wrong and still score just as well.
Numbers do find them,
at once; [Live](live.ipynb) has a switch for each, and shows what it moves. Here is the same model on two photographs:
"""

# %% tags=["active-ipynb"]
r"""
from gcvit import from_pretrained, preprocess
from skimage.data import astronaut, chelsea

nano = from_pretrained("nano")
images = preprocess([chelsea(), astronaut()], 64)
exact = ops.convert_to_numpy(nano(images))
for name in ("flat_table", "zero_pooling", "same_pooling", "tile"):
    with check.mistaken(nano, name):
        difference = check.difference(nano(images), exact)
    print(f"{name:13} max |Δ| / std = {difference:.3f}")
    assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
## Summary

- On CIFAR-10, at this size and after a short training, models without the global query are as good as the one with it.
- In a level of two blocks, a task that needs both ends of an image is learned with a query from the whole map, and not without one.
- Known mistakes cost half a point of accuracy or less, so only exact numbers find them.

## Exercises

1. (3 minutes, easy) Why does "local only" have fewer parameters than the model with the global query, although its blocks have more?
2. (5 minutes, medium) In the task with two squares, how often can a model be right at most, if no token knows of both, and the head adds up what the tokens say?
3. (10 minutes, medium) An experiment: train "local only" on the two squares with its squeeze and excitation left in. Does it learn the task now? Explain what you see.
4. (15 minutes, hard) Write a variant in which the global query of each image is replaced by that of the next image in the batch. What does it do to an untrained model's answers?

<details><summary>Answer to 1</summary>

A local block projects queries, keys and values, a global one only keys and values: C² parameters less for each. But the generators of the global queries are gone, and they have more.

</details>

<details><summary>Answer to 2</summary>

In three of four cases. Its score is a sum: one number for the colour of the upper square, and one for that of the lower. "Red, red" and "green, green" together have the same sum as "red, green" and "green, red" together. So no threshold can put the first two on one side and the last two on the other; one of the four is always wrong.

</details>

For 3, change one line of the cell above. A solution to 4 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
class NextQuery(Block):
    def call(self, inputs, q_global=None, training=None):
        if q_global is not None:
            q_global = ops.roll(q_global, 1, axis=0)
        return super().call(inputs, q_global, training=training)


settings = {"window_size": (2, 2), "embed_dim": 16, "depths": (2, 2)}
settings |= {"num_heads": (1, 2), "num_classes": 10}
x = keras.random.normal((2, 32, 32, 3), seed=0)
for changes in ([], [(level, "Block", NextQuery)]):
    keras.utils.set_random_seed(0)
    model = build_variant(changes, 32, **settings)
    print([f"{value:.3f}" for value in model(x)[0, :4]])
"""

# %% [markdown]
r"""
You know what the idea is worth. [Next](pretrained.ipynb), load weights that
know something.

To look up: the [record](https://github.com/gcvit-book/gcvit-book/blob/main/gcvit/data/evidence.json)
of the runs; [`gcvit.check`](api.md#checks); the [papers](references.md); the
[words](glossary.md).
"""
