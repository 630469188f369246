# Generated from book/dense.ipynb, digest 52cf106d. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module dense
# %% [markdown]
r"""
# A class for each pixel

Which pixels are the flower, and which kind is it? At the end of this chapter
you have `Segmenter`, which puts 30 lines on top of the maps of a pretrained model
and answers for each pixel, in pictures of any size. And you find similar pictures
without any training.

About 20 minutes. Medium: you should know [Model](model.ipynb).
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

These flowers are drawn by code. They are a stand-in for a real data set, and an
easy one: one flower in each picture. In return their masks are exact, since the
code knows where it painted. Class 0 is the background, the species follow.
"""

# %% tags=["active-ipynb"]
r"""
import keras
import numpy as np
from keras import ops

from gcvit import drawn_flowers, from_pretrained, preprocess
from gcvit.dense import Segmenter, resize
from gcvit.devices import fast_jit_compile

species = list(drawn_flowers.SPECIES)


def draw(seed, count):
    random = np.random.default_rng(seed)
    pictures, masks = [], []
    for i in range(count):
        kind = i % len(species)
        picture, mask = drawn_flowers.draw_flower_and_mask(
            species[kind], random
        )
        pictures.append(picture)
        masks.append(mask * (1 + kind))
    return np.array(pictures), np.array(masks)


def small(pictures, masks, size=64):
    middles = (np.arange(size) + 0.5) * masks.shape[1] / size
    rows = middles.astype(int)
    images = ops.convert_to_numpy(preprocess(pictures, size))
    return images, masks[:, rows][:, :, rows]


images, labels = small(*draw(seed=0, count=200))
pictures, masks = draw(seed=1, count=40)  # none of them is trained on
print("to train on:", images.shape, labels.shape)
print("held out:   ", pictures.shape, masks.shape)
print(f"{(masks > 0).mean():.0%} of the pixels held out are a flower's.")
"""

# %% [markdown]
r"""
`nano` is trained with a new head for some steps, at 64 pixels: once from random
weights, once from its pretrained ones. It is one model, which is given weights
anew, so that TensorFlow traces its step once. How far does each get? The measure is the mean IoU: for each class, the pixels that are right,
divided by those that are of the class or were taken for it; then the mean over
the classes.
"""

# %% tags=["active-ipynb"]
r"""
def mean_iou(model, images, labels):
    logits = ops.convert_to_numpy(model(images))
    measure = keras.metrics.MeanIoU(1 + len(species), sparse_y_pred=False)
    measure.update_state(labels, logits)
    return float(measure.result()), logits.argmax(-1)


def with_head(backbone):
    keras.utils.set_random_seed(0)  # the same head on each backbone
    model = Segmenter(backbone, num_classes=1 + len(species))
    model(images[:1])
    return model


def train(weights):
    segmenter.set_weights(weights)
    for state in segmenter.optimizer.variables:
        state.assign(ops.zeros_like(state))
    segmenter.fit(images, labels, batch_size, epochs, verbose=0)
    return mean_iou(segmenter, *held_out)[0]
"""

# %% [markdown]
r"""
Both starts have the same head, and both trainings the same steps.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
epochs, batch_size = 4, 20
nano = from_pretrained("nano")
keras.utils.set_random_seed(1)
random_nano = type(nano).from_config(nano.get_config())
random_nano.build((None, *nano.image_shape))
random_weights = with_head(random_nano).get_weights()
segmenter = with_head(nano)
weights = segmenter.get_weights()
rate = keras.optimizers.schedules.CosineDecay(
    2e-3, epochs * len(images) // batch_size
)
segmenter.compile(
    keras.optimizers.AdamW(rate),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    jit_compile=fast_jit_compile(),
)
segmenter.optimizer.build(segmenter.trainable_variables)
held_out = small(pictures, masks)
random_iou, iou = train(random_weights), train(weights)
print(f"mean IoU on drawings held out: pretrained {iou:.2f}, ", end="")
print(f"from random weights {random_iou:.2f}")
assert iou > 0.35 and iou > random_iou + 0.03
"""

# %% [markdown]
r"""
The same model on the same drawings, now in full, at 96 pixels. It was never
trained at that size, and nothing of it was changed.
"""

# %% mystnb={"figure": {"caption": "Drawings that were held out, at 96 pixels; where the flowers are; and the answers for each pixel. Each species has its own shade.", "name": "figure-dense-answers"}, "image": {"alt": "Three rows of ten. Above, drawn flowers. In the middle, their exact masks. Below, the model's answers: rounder outlines, many in the right shade, some with patches of others, and holes in the middle of sunflowers."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
large = ops.convert_to_numpy(preprocess(pictures, 96))
large_iou, answers = mean_iou(segmenter, large, masks)
_, grid = plots.plt.subplots(3, 10, figsize=(9, 2.9), layout="constrained")
for i, column in enumerate(grid.T):
    for axes, shown in zip(column, (pictures[i], masks[i], answers[i])):
        axes.imshow(shown, vmin=0, vmax=len(species))
        axes.axis("off")
    column[0].set_title(species[i % len(species)], fontsize=8)
plots.show_photos()
print(f"mean IoU at 96 pixels: {large_iou:.2f}")
assert large_iou > 0.3
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's part sits: beside a finished model, on the maps that its levels have refined.", "name": "figure-dense-map"}, "image": {"alt": "Map of GCViT in four rows; the box dense head in the first row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("dense")
"""

# %% [markdown]
r"""
## The idea

A classifier averages its last map over all positions, and what was where is gone.
But the model has refined a map in each level, and
[`feature_maps`](model.ipynb) gives all of them. The last one knows best what is
in the picture, and has the fewest tokens. The first one knows best where
something is.

So go from the last map to the first. Each map is normalised, and a dense layer
gives it as many channels as all others. What came from the coarser map is resized
to the finer one, and added. This is the top-down pathway of feature pyramid
networks ([arXiv 1612.03144](https://arxiv.org/abs/1612.03144)). With $F_i$ the
map of level $i$, $U$ for resizing, and $W_i$ for the dense layers:

$$P_3 = W_3\,\mathrm{LN}(F_3), \qquad
P_i = W_i\,\mathrm{LN}(F_i) + U(P_{i+1})$$

One convolution mixes neighbours of $P_0$, and a last dense layer gives the
logits. They are resized to the picture.

## The code
"""

# %%
import keras
from keras import layers, ops

from gcvit import arguments
from gcvit.model import GCViT


# %%
def resize(x, size):
    """Resize maps, bilinearly.

    Args:
        x: `(B, H, W, C)`.
        size: the new height and width, a pair of ints.

    Returns:
        A tensor `(B, height, width, C)`.
    """
    return ops.image.resize(x, size, data_format="channels_last")


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class Segmenter(keras.Model):
    """Give each pixel a class, from the maps of a backbone.

    Shapes: images of any size `(B, H, W, channels)` in, logits
    `(B, H, W, num_classes)` out.

    Args:
        backbone: a built `GCViT`. Its own norm and head are not used, and are
            frozen.
        num_classes: number of classes, an int of at least 1; the background
            is one of them.
        dim: channels of the map on which pixels are told apart, an int.

    Raises:
        ValueError: for a backbone that is not built, and other numbers.

    Source: Lin et al., arXiv 1612.03144, the top-down pathway.
    """

    def __init__(self, backbone, num_classes, dim=64, **kwargs):
        super().__init__(**kwargs)
        if not (isinstance(backbone, GCViT) and backbone.built):
            raise ValueError(
                f"backbone={backbone!r} is not a built GCViT; "
                'gcvit.from_pretrained("nano") would work.'
            )
        self.backbone = backbone
        self.num_classes = arguments.whole_number("num_classes", num_classes)
        self.dim = arguments.whole_number("dim", dim)
        backbone.norm.trainable = backbone.head.trainable = False
        count = len(backbone.depths)
        norm = layers.LayerNormalization
        self.norms = [norm(epsilon=1e-5) for _ in range(count)]
        self.laterals = [layers.Dense(self.dim) for _ in range(count)]
        self.smooth = layers.Conv2D(
            self.dim, 3, padding="same", data_format="channels_last"
        )
        self.answer = layers.Dense(self.num_classes, dtype="float32")

    def build(self, input_shape):
        for i, (norm, lateral) in enumerate(zip(self.norms, self.laterals)):
            shape = (None, None, None, self.backbone.embed_dim * 2**i)
            norm.build(shape)
            lateral.build(shape)
        self.smooth.build((None, None, None, self.dim))
        self.answer.build((None, None, None, self.dim))

    def call(self, inputs, training=None):
        maps = self.backbone.feature_maps(inputs, training)
        x = None  # from the coarsest map to the finest
        for i in reversed(range(len(self.norms))):
            y = self.laterals[i](self.norms[i](maps[f"level_{i}"]))
            x = y if x is None else y + resize(x, y.shape[1:3])
        x = self.answer(ops.gelu(self.smooth(x)))  # (B, H / 4, W / 4, …)
        return resize(x, inputs.shape[1:3])

    def get_config(self):
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return super().get_config() | {
            "backbone": backbone,
            "num_classes": self.num_classes,
            "dim": self.dim,
        }

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**(config | {"backbone": backbone}))


# %% [markdown]
r"""
A picture has any size, since `feature_maps` takes any size: windows stay, maps
are padded, and the global query is resized to a window. The chapter
[Model](model.ipynb) says where that stops being the official model.

## The proof

There is no official segmenter of this kind to compare with. What can be checked
is the shape for any size, and that a saved model answers the same.
"""

# %% tags=["active-ipynb"]
r"""
import tempfile

untrained = Segmenter(from_pretrained("nano"), num_classes=6)
for height, width in ((64, 64), (50, 93), (128, 32)):
    x = np.zeros((1, height, width, 3), "float32")
    print((height, width), "->", tuple(untrained(x).shape))
    assert untrained(x).shape[1:3] == (height, width)
with tempfile.TemporaryDirectory() as folder:
    untrained.save(f"{folder}/segmenter.keras")
    loaded = keras.saving.load_model(f"{folder}/segmenter.keras")
x = ops.convert_to_numpy(preprocess(pictures[:1], 64))
difference = check.difference(loaded(x), ops.convert_to_numpy(untrained(x)))
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
## What can go wrong

**A mask that is resized like a picture.** Class numbers are names, not amounts.
The mean of 0, the background, and 4, a sunflower, is 2, a daisy.

**Predict, then see.** A drawing has one flower, so its mask has two classes. How
many classes are in it when it is resized by averaging, and rounded?
"""

# %% tags=["active-ipynb"]
r"""
sunflower = masks[3]
averaged = ops.image.resize(
    sunflower[..., None].astype("float32"),
    (64, 64),
    data_format="channels_last",
)
averaged = np.rint(ops.convert_to_numpy(averaged)).astype(int)
print("classes in the mask:", np.unique(sunflower).tolist())
print("after averaging:    ", np.unique(averaged).tolist())
assert len(np.unique(averaged)) > len(np.unique(sunflower)) == 2
"""

# %% [markdown]
r"""
So `small`, above, takes the class of one pixel, and averages none.

**The trained size, by habit.** The model was trained at 64 pixels. You could
shrink each picture to that, and resize the answer. The shape is right. Are the
logits?
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
x = large[:8]
expected = ops.convert_to_numpy(segmenter(x))
shrunk = resize(segmenter(resize(x, (64, 64))), (96, 96))
difference = check.difference(shrunk, expected)
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
They are others, and neither are wrong: the larger picture shows finer outlines,
the smaller one is what the model was trained on. Decide by the mean IoU on
pictures held out, not by habit.

## Your own data

`fit` takes any images and masks: floats `(B, H, W, 3)`, normalised as
[`preprocess`](pretrained.ipynb) does it, and class numbers `(B, H, W)` from 0 on.
For the pets of Oxford, in TensorFlow Datasets, it would be this. It was not run
here, since it downloads 0.8 GB; a test runs it on a stand-in:

```python
import tensorflow as tf
import tensorflow_datasets as tfds


def pair(example):
    image = tf.image.resize(example["image"], (128, 128), antialias=True)
    image = (image / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    mask = tf.image.resize(example["segmentation_mask"], (128, 128), "nearest")
    return image, mask[..., 0] - 1  # 0 the pet, 1 what is around it, 2 its edge


pets = tfds.load("oxford_iiit_pet", split="train").map(pair)
pets = pets.shuffle(500).batch(16)
```

Take a larger backbone, such as `from_pretrained("xxtiny")`, more epochs, and
pictures that are mirrored together with their masks.

## Similar pictures, without training

Who does not train can use what the head sees: the last map, normalised and
averaged over its positions. That is one vector for each picture, in one line.
Pictures whose vectors point the same way look alike to the model.
"""

# %% mystnb={"figure": {"caption": "Left, five drawings; right of each, the four that are nearest to it among 160 others, by the cosine of their vectors. `nano` was not trained on flowers.", "name": "figure-dense-neighbours"}, "image": {"alt": "Five rows of five drawn flowers: in each, one drawing and its four nearest neighbours, with the names of their species above. Many neighbours are alike in shape and colours, about half are of the same kind."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
def features(model, images):
    maps = model.feature_maps(images)
    vectors = model.pool(model.norm(maps[f"level_{len(model.levels) - 1}"]))
    vectors = ops.convert_to_numpy(vectors)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


model = from_pretrained("nano")
others, _ = draw(seed=2, count=160)
vectors = features(model, ops.convert_to_numpy(preprocess(others, 64)))
asked = features(model, held_out[0])
nearest = np.argsort(-asked @ vectors.T, axis=1)
kinds = np.arange(len(asked)) % len(species)
is_same = (nearest[:, 0] % len(species) == kinds).mean()
_, grid = plots.plt.subplots(5, 5, figsize=(5, 5.6), layout="constrained")
for i, row in enumerate(grid):
    drawings = [pictures[i], *others[nearest[i, :4]]]
    names = [i, *nearest[i, :4]]
    for axes, drawing, name in zip(row, drawings, names):
        axes.imshow(drawing)
        axes.set_title(species[name % len(species)], fontsize=8)
        axes.axis("off")
plots.show_photos()
print(f"The nearest one is of the same species for {is_same:.0%}; ", end="")
print(f"by chance it would be for {1 / len(species):.0%}.")
assert is_same > 1.25 / len(species)
"""

# %% [markdown]
r"""
The vectors know more than species: light, colours and background, too. That is
what a little training takes away.

## Summary

- `feature_maps` gives four maps; added up from the coarsest to the finest, they tell pixels apart.
- After the same few steps, the pretrained backbone is ahead of the random one.
- Any size of picture works, because windows stay; at other sizes than the trained one it is not the official model.
- Masks are sampled, never averaged.

## Exercises

1. (3 minutes, easy) At 64 pixels, how many tokens does each of the four maps have? From which of them could a petal of 5 pixels be told from the background?
2. (5 minutes, medium) Always answering "background" is right for most pixels. What mean IoU does it have here?
3. (10 minutes, easy) An experiment: use the last map only. What happens to the outlines?

<details><summary>Answer to 1</summary>

16×16, 8×8, 4×4 and 2×2. A token of the first map stands for 4×4 pixels, one of the second for 8×8. So only from the first.

</details>

<details><summary>Answer to 2</summary>

The IoU of the background is its share of the pixels, and that of each other class is 0. The mean over six classes is a sixth of that share: less than 0.17, though most pixels are right.

</details>

The solution to 3 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
class LastMapOnly(Segmenter):
    def call(self, inputs, training=None):
        maps = self.backbone.feature_maps(inputs, training)
        x = self.laterals[3](self.norms[3](maps["level_3"]))
        x = self.answer(ops.gelu(self.smooth(x)))
        return resize(x, inputs.shape[1:3])


# Train it as above: outlines become blots, since a token is 32 pixels wide.
last = LastMapOnly(from_pretrained("nano"), num_classes=6)
print(tuple(last(held_out[0][:1]).shape))
"""

# %% [markdown]
r"""
Next: [Deploy](deploy.ipynb) takes a model out of Python, and asks it there.

To look up: [`Segmenter`](api.md#gcvit.dense.Segmenter),
[`GCViT`](api.md#gcvit.GCViT) in the API reference; the
[papers](references.md); the [words](glossary.md).
"""
