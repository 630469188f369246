# Generated from book/squeeze_excitation.ipynb, digest e7238cfa. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module squeeze_excitation
# %% [markdown]
r"""
# Squeeze and excitation

At the end of this chapter you have `SqueezeAndExcitation`, a layer that looks
at a whole feature map and decides how much each of its channels counts. It is
the smallest part of GCViT, and it sits inside every convolutional one.
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

# %% mystnb={"figure": {"caption": "You are here: `SqueezeAndExcitation`, the smallest part, which every convolutional part of the model contains.", "name": "figure-squeeze-excitation-map"}, "image": {"alt": "Map of GCViT in four rows; the box SqueezeAndExcitation in the lowest row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("squeeze_excitation")
"""

# %% [markdown]
r"""
## The idea

A convolution sees a few pixels at a time. Whether a
[channel](glossary.md#term-channel) is useful often depends on the whole
picture: a detector of fur matters more once there is a cat. Squeeze and
excitation gives each channel a volume knob and turns it by looking at
everything at once.

It takes three steps. **Squeeze**: average each channel over all positions.
**Excite**: pass those averages through two small dense layers that end in a
sigmoid, so that each channel gets a weight between 0 and 1. **Scale**:
multiply each channel by its weight.
"""

# %% mystnb={"figure": {"caption": "Two dense layers turn the mean of each channel into its weight. The map itself waits, and is multiplied by the weights.", "name": "figure-squeeze-excitation-steps"}, "image": {"alt": "Diagram: a map of H by W by C is averaged to C numbers, two dense layers turn them into C weights, and the weights multiply the map."}} tags=["active-ipynb", "hide-input"]
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

$W_1$ has $C/4$ rows, so the weight of one channel depends on the others
through a bottleneck. (Keras stores its transpose, a kernel `(C, C/4)`.) Neither
dense layer has a bias. GELU is a smooth relative of ReLU, and $\sigma$ is the
sigmoid.

The layer is from [Hu et al.](https://arxiv.org/abs/1709.01507), who use ReLU
 where GCViT uses GELU. The official class is `SE` in
[NVlabs/GCVit](https://github.com/NVlabs/GCVit).

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

`factor` and `units` check a number, and `given` lists a layer's arguments for
a file: care like this is in [plain modules](api.md#checked-arguments), one line
here for each.

Every layer of this book creates its variables in `build()`, where it first
learns how many channels come in. It hands its own `dtype_policy` to the layers
inside, so that a model built for `mixed_bfloat16`, which computes with 16 bits
and keeps its weights in 32, stays so after it is saved and loaded elsewhere.
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
than one. So this call widens instead, to six.
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
Then the numbers. The package carries what each component of the official
implementation receives and returns, computed in float64 for a small model with
random weights. `check.parity` loads those weights into your layer, runs it, and
returns the largest difference, divided by the standard deviation of the
official output. Float32 rounding makes about $10^{-6}$. The bound of this book,
`check.TOLERANCE`, is $5 \cdot 10^{-6}$: zero to five decimals.
"""

# %% tags=["active-ipynb"]
r"""
layer = SqueezeAndExcitation()
difference = check.parity(layer, "squeeze_excitation")
print(f"max |Δ| / std = {difference:.5f}")
assert difference < check.TOLERANCE
print("parameters:", layer.count_params(), "= 8·2 + 2·8")
"""

# %% [markdown]
r"""
What did the layer decide? These are the weights it gives to the eight channels
of that small model.
"""

# %% mystnb={"figure": {"caption": "How much the layer lets through of each channel: about half, since its dense layers are random, so that the sigmoid's input is near 0.", "name": "figure-squeeze-excitation-weights"}, "image": {"alt": "Bar chart of the eight channel weights, each between 0 and 1."}} tags=["active-ipynb"]
r"""
inputs, expected = check.official("squeeze_excitation")
weights = ops.convert_to_numpy(layer(inputs[0])).sum((0, 1, 2))
weights /= inputs[0].sum((0, 1, 2))
_, axes = plots.plt.subplots(figsize=(6, 2), layout="constrained")
axes.bar(range(8), weights, color=plots.BLUE)
axes.set(xlabel="channel", ylabel="weight", ylim=(0, 1), xticks=range(8))
plots.plt.show()
"""

# %% [markdown]
r"""
## What can go wrong

The layer is small, yet a slip is easy to miss: the shapes stay right. Here the
squeeze takes the maximum instead of the mean.
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
The shape check says nothing; the parity check does. That is why each chapter
of this book has one.

Names can be wrong, too. `check.layer` is for layers that you write yourself. It
asks one thing after the other, and tells you the first mistake: does the layer
run, has its output the right shape, are its weights named as in a checkpoint,
are its numbers the official ones? The stored activations are of one image, so
it also calls the layer with two, and the first must not notice the second.
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
This layer computes the right thing, and no checkpoint would load into it.

The last slip is loud. With fewer than four channels, the default bottleneck
is empty, and the layer says so when it is built.
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
- The weights come from the channel means, through a bottleneck of a quarter of the channels.
- The shape never changes, so only a comparison of numbers can prove the layer right.

## Exercises

1. Which shapes do the kernels of the two dense layers have for 64 channels? How many parameters is that, for 64 and for $C$?
2. A softmax makes its outputs sum to 1. Why would it be a poor replacement for the sigmoid?
3. Someone averages over the axes (0, 1, 2) instead of (1, 2). What breaks, and which check sees it?
4. Write the layer yourself, as a class of its own, until `check.layer(yours, "squeeze_excitation")` finds no mistake. Use `ops.gelu` and `ops.sigmoid` in `call`; mind that `ops.gelu` approximates unless you say `approximate=False`.

<details><summary>Answers to 1, 2 and 3</summary>

1. (64, 16) and (16, 64), so $64 \cdot 16 + 16 \cdot 64 = 2048$; in general $2 \cdot C \cdot \lfloor C/4 \rfloor$.
2. The weights would compete: one channel could only get louder if others got quieter. With sigmoids, all channels can be loud at once, or none.
3. The mean then runs over the images of a batch, so that the weights of one image depend on the others. With one image nothing changes: shape, names and parity are right. Only a call with two images sees it.

</details>

The solution to 4 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
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
