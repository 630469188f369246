# Generated from book/squeeze_excitation.ipynb, digest b9e0db32. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module squeeze_excitation
# %% [markdown]
r"""
# Squeeze and excitation

At the end of this chapter you have `SqueezeAndExcitation`, a layer that looks
at a whole feature map and decides how much each of its channels counts. It is
the smallest part of GCViT, and it sits inside every convolutional one.

About 15 minutes to read. Easy: a mean and two dense layers.

GCViT is a transformer, so why begin with convolutions? In every second block,
its attention asks all [windows](glossary.md#term-window) of an image the same
question, the [global query](glossary.md#term-global-query). Convolutional
layers make that query, and this layer is the only part of them that sees the
whole map at once.
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's part sits in the model: `SqueezeAndExcitation` is in the lowest row, since it contains no other part. The fused MBConv on its right contains it.", "name": "figure-squeeze-excitation-map"}, "image": {"alt": "Map of GCViT in four rows; the box SqueezeAndExcitation in the lowest row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("squeeze_excitation")
"""

# %% [markdown]
r"""
## The idea

A convolution sees a few pixels at a time. Whether a
[channel](glossary.md#term-channel) is useful often depends on the whole
picture: a detector of fur matters more once there is a cat. Squeeze and
excitation gives each channel a volume knob, and the whole map turns it.

It takes three steps. **Squeeze**: average each channel over all positions.
**Excite**: pass those averages through two small dense layers that end in a
sigmoid, so that each channel gets a weight between 0 and 1. **Scale**:
multiply each channel by its weight.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Two dense layers turn the mean of each channel into its weight. The map itself waits, and is multiplied by the weights.", "name": "figure-squeeze-excitation-steps"}, "image": {"alt": "Diagram: a map of H by W by C is averaged to C numbers, two dense layers turn them into C weights, and the weights multiply the map."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(13, 3)
plots.tensor(axes, 0.1, 0.3, 1.2, 1.2, "map", cells=(4, 4))
x = 1.3
steps = ["mean", "Dense,\nGELU", "Dense,\nsigmoid", "×"]
for step, shape in zip(steps, ["H×W×C", "C", "C/4", "C"]):
    color = plots.HERE if step == "×" else plots.PAPER
    plots.arrow(axes, (x, 0.9), (x + 1.3, 0.9))
    axes.text(x + 0.6, 1, shape, ha="center", va="bottom")
    plots.box(axes, x + 1.3, 0.3, 1.6, 1.2, step, color)
    x += 2.9
axes.plot([0.7, 0.7, x - 0.8], [1.5, 2.3, 2.3], color=plots.INK)
plots.arrow(axes, (x - 0.8, 2.3), (x - 0.8, 1.5))
axes.text(6.4, 2.45, "the map itself", ha="center")
plots.plt.show()
"""

# %% [markdown]
r"""
In symbols, for a map $x$ with $C$ channels:

$$\begin{aligned}
\bar{x} &= \frac{1}{HW}\sum_{i,j} x_{ij} \\
y &= x \cdot \sigma\!\left(W_2\,\mathrm{GELU}(W_1\,\bar{x})\right)
\end{aligned}$$

The sum runs over the $H \times W$ positions of one image. $W_1$ has $C/4$
rows: between the two dense layers the $C$ means pass through only $C/4$ numbers,
a bottleneck. It costs few parameters, and the weight of one channel can still
depend on all the others. (Keras stores the transpose of $W_1$, a kernel
`(C, C/4)`.) Neither dense layer has a bias. GELU is a smooth relative of ReLU,
and $\sigma$ is the sigmoid.

The layer is from [Hu et al.](https://arxiv.org/abs/1709.01507), who use ReLU
where GCViT uses GELU. The official class is `SE` in
[NVlabs/GCVit](https://github.com/NVlabs/GCVit).

### By hand

Take a map of 2×2 positions with two channels, and a bottleneck of one unit.
The unit adds half of the first mean and subtracts the second. Then the first
channel takes the unit times 2, the second takes it times −2.
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np
from keras import ops


def weights_by_hand(x):
    means = x.mean((0, 1))
    unit = ops.gelu(0.5 * means[0] - means[1], approximate=False)
    weights = ops.sigmoid(ops.stack([2 * unit, -2 * unit]))
    print("means  ", means)
    print(f"unit    {float(unit):.3f}")
    print("weights", ops.convert_to_numpy(weights).round(3))


first = np.array([[1, 3], [5, 7]], "float32")
second = np.array([[0, 2], [0, 2]], "float32")
weights_by_hand(np.stack([first, second], axis=-1))
"""

# %% [markdown]
r"""
The means are 4 and 1, so the unit receives $0.5 \cdot 4 - 1 = 1$. GELU turns
it into 0.841, and the sigmoid of plus and minus twice that gives the two weights.
The first channel passes almost whole, the second is turned down.

**Predict, then see.** Double the second channel at every position, and leave
the first as it is. What happens to the weight of the *first* channel?
"""

# %% tags=["active-ipynb"]
r"""
weights_by_hand(np.stack([first, 2 * second], axis=-1))
"""

# %% [markdown]
r"""
It falls to one half. The unit receives $0.5 \cdot 4 - 2 = 0$, and the sigmoid of
0 is 0.5. No value of the first channel has changed: its weight comes from all
channels.

## The code
"""

# %%
import keras
from keras import layers, ops

from gcvit import arguments


# %% [markdown]
r"""
The two dense layers live in a list called `fc`. Checkpoints address their
weights by that name and by the order in the list.

`factor` and `units` check a number, and `given` lists a layer's arguments, so
that they can be saved with it. The details are in [plain
modules](api.md#checked-arguments); here each takes one line.

Every layer of this book creates its variables in `build()`, where it first
learns how many channels come in. It hands its own `dtype_policy` to the layers
inside. So a model built for `mixed_bfloat16`, which computes with 16 bits and
keeps its weights in 32, stays so after it is saved and loaded elsewhere.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class SqueezeAndExcitation(layers.Layer):
    """Multiply each channel by a weight computed from the whole map.

    Shapes: `(B, H, W, C)` in and out, any height and width.

    Args:
        expansion: width of the bottleneck as a fraction of the channels, above
            0; `C * expansion`, rounded down, must be at least 1.

    Raises:
        ValueError: for another `expansion`; when built, if the bottleneck has
            no unit.

    Source: Hu et al., arXiv 1709.01507, with GELU; `SE` in NVlabs/GCVit.
    """

    def __init__(self, expansion=0.25, **kwargs):
        super().__init__(**kwargs)
        self.expansion = arguments.factor("expansion", expansion)

    def build(self, input_shape):
        dim = input_shape[-1]
        hidden_dim = arguments.units("expansion", self.expansion, dim)
        options = {"use_bias": False, "dtype": self.dtype_policy}
        self.fc = [
            layers.Dense(hidden_dim, activation="gelu", **options),
            layers.Dense(dim, activation="sigmoid", **options),
        ]
        self.fc[0].build((None, dim))
        self.fc[1].build((None, hidden_dim))

    def call(self, inputs):
        x = ops.mean(inputs, axis=(1, 2), keepdims=True)  # (B, 1, 1, C)
        for layer in self.fc:
            x = layer(x)
        return x * inputs  # (B, H, W, C)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | arguments.given(
            self, SqueezeAndExcitation
        )


# %% [markdown]
r"""
Keras's `"gelu"` is the exact one, with the error function, as in PyTorch. The
usual approximation by tanh would be another model.

## The proof

First the shapes, on a photograph: Chelsea the cat, who ships with
scikit-image. A photograph has three channels, and a quarter of three is less
than one. So this call widens instead: `expansion=2.0`.

**Predict, then see.** Which shapes do the kernels of the two dense layers have?
"""

# %% tags=["active-ipynb"]
r"""
from skimage.data import chelsea

photo = chelsea()[None] / 255  # (1, 300, 451, 3)
layer = SqueezeAndExcitation(expansion=2.0)
print(photo.shape, "->", tuple(layer(photo).shape))
print([tuple(weight.shape) for weight in layer.weights])
"""

# %% [markdown]
r"""
Three channels become six, and six become three. The map keeps its shape.

Then the numbers, for two images. The package carries what each component of the
official implementation receives and returns, computed in float64 for a small
model with random weights. `check.parity` loads those weights into your layer,
runs it, and returns the largest difference, divided by the standard deviation
of the official output. Rounding in float32 alone gives about $10^{-6}$. The
bound of this book, `check.TOLERANCE`, is $5 \cdot 10^{-6}$.
"""

# %% tags=["active-ipynb"]
r"""
layer = SqueezeAndExcitation()
difference = check.parity(layer, "squeeze_excitation")
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
print("parameters:", layer.count_params(), "= 8·2 + 2·8")
"""

# %% [markdown]
r"""
`1e-06` is how Python writes $10^{-6}$: nothing is left but rounding.

### What a trained layer decides

Random weights prove the layer right, but they decide nothing. So borrow one
that has learned. `nano` is this book's own small model, for photographs of
64×64 pixels; it comes with the package, and the chapter
[Pretrained](pretrained.ipynb) tells how it was trained. Here is the first
squeeze and excitation on the way to its first global query. It has 32 channels,
and looks at Chelsea and at a rocket that stands on its pad at dusk.

**Predict, then see.** Both photographs pass through the same two kernels. In how
many of the 32 channels will their weights differ clearly?
"""

# %% mystnb={"figure": {"caption": "How much one layer of `nano` lets through of each of its 32 channels, for two photographs. Most channels pass almost whole in both; a few are turned up for one and down for the other.", "name": "figure-squeeze-excitation-weights"}, "image": {"alt": "Bar chart of 32 channel weights between 0 and 1, a blue bar for the cat and a red one for the rocket in each channel. Most bars are above 0.9; in channel 8 the cat's bar is far below the rocket's, in channel 16 the rocket's is far below the cat's."}} tags=["active-ipynb"]
r"""
from gcvit import from_pretrained, preprocess
from skimage.data import rocket

nano = from_pretrained("nano")
photos = [preprocess(picture, 64) for picture in (chelsea(), rocket())]
depthwise, squeeze, _ = nano.levels[0].q_global_gen.to_q_global[0].conv
x = depthwise(nano.patch_embed(ops.concatenate(photos)))
weights = ops.mean(x, axis=(1, 2))
for dense in squeeze.fc:
    weights = dense(weights)  # (2, 32): one row for each photograph
_, axes = plots.plt.subplots(figsize=(8, 2.4), layout="constrained")
for row, name, color, shift in zip(
    weights, ("cat", "rocket"), (plots.BLUE, plots.RED), (-0.2, 0.2)
):
    axes.bar(np.arange(32) + shift, row, 0.4, color=color, label=name)
    print(f"{name:6}  channel 8: {row[8]:.2f}  channel 16: {row[16]:.2f}")
axes.set(xlabel="channel", ylabel="weight", ylim=(0, 1))
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.plt.show()
"""

# %% [markdown]
r"""
In few. Most channels pass almost whole in both photographs. Channel 8 is turned
down for the cat and not for the rocket, channel 16 the other way round. The
weights do not tell what such a channel detects. They show that the picture as a
whole decides how much it counts.

## What can go wrong

The layer is small, yet a slip is easy to miss, because the shapes stay right.
Here the squeeze takes the maximum instead of the mean.
"""

# %% tags=["active-ipynb"]
r"""
class MaximumSqueeze(SqueezeAndExcitation):
    def call(self, inputs):
        x = ops.max(inputs, axis=(1, 2), keepdims=True)
        for layer in self.fc:
            x = layer(x)
        return x * inputs


difference = check.parity(MaximumSqueeze(), "squeeze_excitation")
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
A check of shapes says nothing; the check of numbers does. That is why each
chapter of this book has one.

Names can be wrong, too. `check.layer` is for layers that you write yourself. It
asks four questions in turn, and tells you the first mistake. Does the layer
run? Does its output have the right shape? Are its weights named as in a checkpoint?
Are its numbers the official ones, for two images in one batch?

**Predict, then see.** The next layer computes the right numbers, but keeps its
dense layers in two attributes instead of the list `fc`. Which of the four
questions stops it?
"""

# %% tags=["active-ipynb"]
r"""
class OtherNames(layers.Layer):
    def build(self, input_shape):
        self.squeeze = layers.Dense(2, activation="gelu", use_bias=False)
        self.excite = layers.Dense(8, activation="sigmoid", use_bias=False)

    def call(self, inputs):
        x = ops.mean(inputs, axis=(1, 2), keepdims=True)
        return inputs * self.excite(self.squeeze(x))


check.layer(OtherNames(), "squeeze_excitation")
"""

# %% [markdown]
r"""
The third. This layer computes the right thing, and no checkpoint would load
into it.

The last slip is loud. With fewer than four channels, the default bottleneck
has no unit, and the layer says so when it is built.
"""

# %% tags=["active-ipynb"]
r"""
try:
    SqueezeAndExcitation()(photo)
except ValueError as error:
    print(error)
"""

# %% [markdown]
r"""
## Summary

- Squeeze and excitation multiplies each channel by a weight between 0 and 1.
- The weights come from the means of all channels, through a bottleneck of a quarter as many units.
- The shape never changes, so only a comparison of numbers can prove the layer right.

## Exercises

1. (3 minutes, easy) Which shapes do the kernels of the two dense layers have for 64 channels? How many parameters is that, for 64 and for $C$?
2. (3 minutes, easy) A softmax makes its outputs sum to 1. Why would it be a poor replacement for the sigmoid?
3. (5 minutes, medium) Someone averages over the axes (0, 1, 2) instead of (1, 2). What breaks, and which check sees it?
4. (10 minutes, easy) An experiment. Take the decision away from `nano`: set the kernels of the last dense layer to zero in the squeeze and excitation of its stem, `nano.patch_embed.conv_down.conv[1]`, and of the three layers between its levels, `level.down.conv[1]`. What are all their weights then? Does `nano` still recognise Chelsea? Predict before you run it.
5. (15 minutes, medium) Write the layer yourself, as a class of its own, until `check.layer(yours, "squeeze_excitation")` finds no mistake. Use `ops.gelu` and `ops.sigmoid` in `call`; mind that `ops.gelu` approximates unless you say `approximate=False`.

<details><summary>Answer to 1</summary>

(64, 16) and (16, 64), so $64 \cdot 16 + 16 \cdot 64 = 2048$; in general $2 \cdot C \cdot \lfloor C/4 \rfloor$.

</details>

<details><summary>Answer to 2</summary>

The weights would compete: one channel could only get louder if others got quieter. With sigmoids, all channels can be loud at once, or none.

</details>

<details><summary>Answer to 3</summary>

The mean then runs over the images of a batch as well, so that the weights of one image depend on the others. With one image nothing changes, and a proof with one image would not notice. The check of numbers sees it, because it has two images in its batch.

</details>

The solutions to 4 and 5 are code. They are folded below, and were run.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 4", "code_prompt_show": "Show the solution to 4"} tags=["active-ipynb", "hide-cell"]
r"""
from gcvit import class_names, decode_predictions


def show_answer(title):
    answers = decode_predictions(nano(photos[0]), class_names("nano"), top=2)
    print(title, *(f"{name} {p:.2f}" for name, p in answers[0]), sep="  ")


show_answer("decides itself ")
downs = [level.down for level in nano.levels[:3]]
for down in (nano.patch_embed.conv_down, *downs):
    last = down.conv[1].fc[1]
    last.set_weights([0 * last.kernel])  # sigmoid(0) is one half
show_answer("always one half")
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 5", "code_prompt_show": "Show the solution to 5"} tags=["active-ipynb", "hide-cell"]
r"""
class MySqueeze(layers.Layer):
    def build(self, input_shape):
        dim = input_shape[-1]
        self.fc = [
            layers.Dense(dim // 4, use_bias=False),
            layers.Dense(dim, use_bias=False),
        ]

    def call(self, inputs):
        x = ops.mean(inputs, axis=(1, 2))  # (B, C)
        x = ops.gelu(self.fc[0](x), approximate=False)
        weights = ops.sigmoid(self.fc[1](x))
        return ops.einsum("bhwc,bc->bhwc", inputs, weights)


check.layer(MySqueeze(), "squeeze_excitation")
"""

# %% [markdown]
r"""
Next: [Reduce size](reduce_size.ipynb) puts this layer into a convolutional
branch and halves the map.

To look up: [`SqueezeAndExcitation`](api.md#gcvit.SqueezeAndExcitation) in the
API reference; the [papers](references.md); the [words](glossary.md).
"""
