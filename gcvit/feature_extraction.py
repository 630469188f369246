# Generated from book/feature_extraction.ipynb, digest d4af35e7. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module feature_extraction
# %% [markdown]
r"""
# Feature extraction and the global query

At the end of this chapter you have `GlobalQueryGenerator`, which shrinks a
whole feature map to the size of one window, and `FeatureExtraction`, the step
it repeats. Its result, the global query, is what GCViT is named after.

About 20 minutes to read. Medium: small layers, but the central idea of the
model.

Here the convolutions of the first chapters meet the attention of the next ones.
They make the global query, and attention then asks each window with it.
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's parts sit in the model: `GlobalQueryGenerator` at the start of each level, and the `FeatureExtraction` that it repeats.", "name": "figure-feature-extraction-map"}, "image": {"alt": "Map of GCViT in four rows; the boxes GlobalQueryGenerator and FeatureExtraction are highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("feature_extraction")
"""

# %% [markdown]
r"""
## The idea

Attention inside a [window](glossary.md#term-window) is cheap and blind: a
token in the top left corner never meets one in the bottom right. GCViT's
answer is to summarise the whole map once in each level. In every second block of
the level, that summary, the **global query**, asks every window. In the other
blocks the tokens of each window ask each other.

The global query has as many tokens as one window. In attention, each token that
asks gets one answer, and here the answers are added to the tokens of the window
that was asked. So a window of 7×7 tokens needs a query of 7×7 tokens, one for
each place. The same query asks all windows of an image. The answers differ,
since each window answers with its own tokens.

A map of 56×56 tokens therefore goes through three halvings: 56, 28, 14, 7. Each
halving is one `FeatureExtraction`: the fused MBConv of
[Reduce size](reduce_size.ipynb), added to its input, then a max-pooling with
stride 2. The channels stay as they are.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "From 56\u00d756 tokens to the global query: each step halves the map, until one window is left. The lines separate windows of 7\u00d77 tokens.", "name": "figure-feature-extraction-halvings"}, "image": {"alt": "Four squares of shrinking size, labelled 56 by 56, 28 by 28, 14 by 14 and 7 by 7, joined by arrows labelled FeatureExtraction."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(13, 4.2)
x = 0.2
for size in (56, 28, 14, 7):
    side = 0.9 + size / 25
    color = plots.HERE if size == 7 else plots.PAPER
    bottom, windows = 2.5 - side / 2, (size // 7, size // 7)
    plots.tensor(axes, x, bottom, side, side, "", color, windows, plots.INK)
    axes.text(x + side / 2, bottom - 0.4, f"{size}×{size}", ha="center")
    if size > 7:
        plots.arrow(axes, (x + side, 2.5), (x + side + 1.5, 2.5))
    x += side + 1.5
axes.text(7.2, 0.3, "each arrow is one FeatureExtraction", ha="center")
plots.plt.show()
"""

# %% [markdown]
r"""
For a map of $H \times W$ and a window of $h \times w$ tokens the number of
halvings is

$$K = \log_2\frac{H}{h} = \log_2\frac{W}{w}$$

and the generator applies $K$ times

$$x \leftarrow \mathrm{MaxPool}\!\left(x + \mathrm{MBConv}(x)\right).$$

$K$ has to be a whole number, the same for height and width. That limits which
windows go with which maps; [Level](level.ipynb) has the rule.

**Predict, then see.** At 224×224 pixels, the maps and windows of XXTiny's four
levels are those in the next cell. What is $K$ in each?
"""

# %% tags=["active-ipynb"]
r"""
import math

for level, (size, window) in enumerate([(56, 7), (28, 7), (14, 14), (7, 7)]):
    print(
        f"level {level}: map {size:2}×{size:<2}  window {window:2}×{window:<2}"
        f"  K = {math.log2(size / window):.0f}"
    )
"""

# %% [markdown]
r"""
$K = 0$ means that one window covers the whole map. Then there is nothing to
shrink, and the query is as large as the map. One `FeatureExtraction` without
pooling remains, so that the query is still computed with weights of its own.
The query also stays what it was at the start of the level, while the map
changes from block to block.

The paper describes all this in its section "Global Query Generator"; the
official classes are `GlobalQueryGen` and `FeatExtract` in
[NVlabs/GCVit](https://github.com/NVlabs/GCVit). There the number of steps is
written out for four levels; here `Level` computes it, so that other image sizes
work too.

### Why these two steps

**Why a maximum.** The pooling takes the largest of 3×3 values, in each channel.
It has no weights, and it keeps what a single token has found.

**Predict, then see.** A map of 56×56 zeros has a 1 in one place. How much of the
1 is left after three poolings with the maximum, and how much with the mean?
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np
from keras import ops

spot = np.zeros((1, 56, 56, 1), "float32")
spot[0, 20, 30] = 1
border = ((0, 0), (1, 1), (1, 1), (0, 0))
for name, pool in (("maximum", ops.max_pool), ("mean", ops.average_pool)):
    x = spot
    for _ in range(3):
        x = pool(ops.pad(x, border), 3, strides=2)
    print(f"{name:7}  {x.shape[1]}×{x.shape[2]}  {float(ops.max(x)):.4f}")
"""

# %% [markdown]
r"""
The maximum keeps all of it, the mean a few thousandths. A detail in one corner
can only be asked about if the summary still holds it.

**Why a branch, and why it is added.** Pooling treats each channel alone, and
sees 3×3 neighbours. The fused MBConv mixes the channels, and its squeeze and excitation
looks at the whole map. Its result is added to the map, so the branch only has
to learn a correction. Without the branch, or with zeros in its weights, the
plain pooling remains, which is already a summary.

So each token of the query stands for a region of the map, here 8×8 tokens.
Convolution and pooling also take in a margin around that region. What lies
farther away contributes only its mean, through squeeze and excitation.
Each token depends on the
whole map.

### By hand

Take a row of eight negative values. Max-pooling reads three neighbours, moves on
by two, and so reads one position beyond the left end. PyTorch pads with minus
infinity there: it is smaller than any value, so it never wins. (The pad at the
right end is not read, as in [Reduce size](reduce_size.ipynb).)
"""

# %% tags=["active-ipynb"]
r"""
row = [-3.0, -4.0, -2.0, -5.0, -4.0, -6.0, -3.0, -2.0]


def pooled(pad):
    padded = [pad, *row, pad]
    patches = [padded[start : start + 3] for start in range(0, 8, 2)]
    for patch in patches:
        numbers = " ".join(f"{x:4.0f}" for x in patch)
        print(f"maximum of {numbers} is {max(patch):.0f}")
    return [max(patch) for patch in patches]


with_infinity = pooled(-math.inf)
"""

# %% [markdown]
r"""
## The code
"""

# %%
import keras
from keras import layers, ops

from gcvit import arguments, fast_ops
from gcvit.reduce_size import add_fused_mbconv, fused_mbconv
from gcvit.sizes import halve


# %% [markdown]
r"""
Keras's pooling cannot be told what to pad with, so `call` pads first, by repeating
the rows and columns at the border. The maxima are those of minus infinity: each copy
lies in one patch of 3×3 with the value that it copies. And a converter to whole
numbers, which squeezes all values into one range, meets no infinity.

`keepdims=True` here keeps height and width: it is the step without pooling. In
`ReduceSize` it kept the channels. In both layers, the argument's name comes
from the Keras example.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class FeatureExtraction(layers.Layer):
    """Refine a map with a fused MBConv, and halve it by max-pooling.

    Shapes: `(B, H, W, C)` in, `(B, ⌈H/2⌉, ⌈W/2⌉, C)` out; with `keepdims`
    `(B, H, W, C)`. `C` is at least 4.

    Args:
        keepdims: whether height and width stay the same, a bool.

    Raises:
        ValueError: for another `keepdims`; when built with fewer than 4
            channels.

    Source: paper, "Global Query Generator"; `FeatExtract` in NVlabs/GCVit.
    """

    def __init__(self, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.keepdims = arguments.boolean("keepdims", keepdims)

    def build(self, input_shape):
        self.conv = fused_mbconv(input_shape[-1], self.dtype_policy)

    def call(self, inputs):
        x = add_fused_mbconv(inputs, self.conv)  # (B, H, W, C)
        if self.keepdims:
            return x
        # 3×3, stride 2. Zeros would win wherever the border is negative.
        x = ops.concatenate([x[:, :1], x, x[:, -1:]], axis=1)
        x = ops.concatenate([x[:, :, :1], x, x[:, :, -1:]], axis=2)
        return fast_ops.max_pool(x)

    def compute_output_shape(self, input_shape):
        if self.keepdims:
            return input_shape
        batch, height, width, dim = input_shape
        return (batch, halve(height), halve(width), dim)

    def get_config(self):
        return super().get_config() | arguments.given(self, FeatureExtraction)


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class GlobalQueryGenerator(layers.Layer):
    """Summarise a whole map in a global query of the size of one window.

    Shapes: `(B, H, W, C)` in, `(B, h, w, C)` out, with `h` and `w` halved once
    for each false entry of `keepdims`. `C` is at least 4.

    Args:
        keepdims: one bool for each `FeatureExtraction`, a sequence: false
            halves the map, true keeps its size.

    Raises:
        ValueError: if `keepdims` is not a sequence, or is empty; when built
            with fewer than 4 channels.

    Source: paper, "Global Query Generator"; `GlobalQueryGen` in NVlabs/GCVit.
    """

    def __init__(self, keepdims, **kwargs):
        super().__init__(**kwargs)
        per = "FeatureExtraction"
        self.keepdims = arguments.booleans("keepdims", keepdims, per)

    def build(self, input_shape):
        self.to_q_global = [
            FeatureExtraction(keepdims, dtype=self.dtype_policy)
            for keepdims in self.keepdims
        ]
        for layer in self.to_q_global:
            layer.build(input_shape)

    def call(self, inputs):
        x = inputs
        for layer in self.to_q_global:
            x = layer(x)
        return x  # (B, h, w, C)

    def compute_output_shape(self, input_shape):
        batch, height, width, dim = input_shape
        for keepdims in self.keepdims:
            if not keepdims:
                height, width = halve(height), halve(width)
        return (batch, height, width, dim)

    def get_config(self):
        return super().get_config() | arguments.given(
            self, GlobalQueryGenerator
        )


# %% [markdown]
r"""
## The proof

Shapes first, for the first level of XXTiny. There $K = 3$, so three steps halve.
"""

# %% tags=["active-ipynb"]
r"""
x = keras.random.normal((1, 56, 56, 64), seed=0)
generator = GlobalQueryGenerator((False, False, False))
print(tuple(x.shape), "->", tuple(generator(x).shape))
print(generator.count_params(), "parameters")
"""

# %% [markdown]
r"""
Then the numbers, for two images: one step, and a whole generator with two
halvings.
"""

# %% tags=["active-ipynb"]
r"""
for layer, component in (
    (FeatureExtraction(), "feature_extraction"),
    (GlobalQueryGenerator((False, False)), "global_query"),
):
    difference = check.parity(layer, component)
    print(f"{component:18}  max |Δ| / std = {difference:.1e}")
    assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
### What a query holds

Begin with the pooling alone. With its branches set to zero, the generator is
three max-poolings. Here is Chelsea at 56×56, and what is left of her.
"""

# %% mystnb={"figure": {"caption": "What three max-poolings leave of a photograph: colours and where they are, no detail.", "name": "figure-feature-extraction-summary"}, "image": {"alt": "A cat's photograph at 56 by 56 pixels beside its summary of 7 by 7 pixels, in which only broad patches of colour are left."}} tags=["active-ipynb"]
r"""
from skimage.data import chelsea
from skimage.transform import resize

small = resize(chelsea()[:, 75:375], (56, 56), anti_aliasing=True)
image = np.pad(small, ((0, 0), (0, 0), (0, 1)))[None]  # four channels
generator = GlobalQueryGenerator((False, False, False))
generator.build(image.shape)
generator.set_weights([0 * weight for weight in generator.get_weights()])
summary = ops.convert_to_numpy(generator(image))
_, axes = plots.plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
for axis, shown in zip(axes, (image, summary)):
    axis.imshow(shown[0, ..., :3])
    axis.set_title(f"{shown.shape[1]}×{shown.shape[2]}")
    axis.axis("off")
plots.show_photos()
"""

# %% [markdown]
r"""
A trained generator does more. `nano` is this book's own small model, for
photographs of 64×64 pixels; it comes with the package, and
[Pretrained](pretrained.ipynb) tells how it was trained. Its first level has maps
of 16×16 tokens and windows of 4×4, so $K = 2$, and its global query has 4×4
tokens of 32 channels. Take those of two photographs, Chelsea and a rocket on its
pad at dusk.

Nobody can look at 32 channels at once. So find the three directions in which the
tokens of both queries differ most, their first three principal components, and
show these as red, green and blue.
"""

# %% tags=["active-ipynb"]
r"""
from gcvit import from_pretrained, preprocess
from skimage.data import rocket

nano = from_pretrained("nano")
pair = ops.concatenate([preprocess(p, 64) for p in (chelsea(), rocket())])
x = nano.patch_embed(pair)
query = ops.convert_to_numpy(nano.levels[0].q_global_gen(x))
print(tuple(x.shape), "->", query.shape)

tokens = query.reshape(-1, 32) - query.mean((0, 1, 2))
_, spreads, directions = np.linalg.svd(tokens, full_matrices=False)
colours = tokens @ directions[:3].T
colours = (colours - colours.min(0)) / np.ptp(colours, axis=0)
colours = colours.reshape(2, 4, 4, 3)
share = (spreads[:3] ** 2).sum() / (spreads**2).sum()
print(f"share of the variance in three directions: {share:.0%}")
"""

# %% [markdown]
r"""
**Predict, then see.** Tokens of the same colour are alike to `nano`. Which tokens
of the rocket's query will be alike? Will one query differ from the other?
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Two photographs, and the global query that the first level of `nano` makes of each: its main directions as colours, and one of its 32 channels.", "name": "figure-feature-extraction-query"}, "image": {"alt": "Two rows. Above, a cat's face and its query of four by four tokens: in colours, the two corners at the left, beside the face, differ from it. Below, a rocket on its pad under a dark sky: the sky's tokens are nearly of one colour, the bottom row, with the lit ground, is of another; in the single channel the rocket and the ground stand out from the sky."}} tags=["active-ipynb", "hide-input"]
r"""
channel = 4
photos = chelsea()[:, 75:375], rocket()[:, 106:533]  # as preprocess cuts them
limits = {"vmin": query[..., channel].min(), "vmax": query[..., channel].max()}
_, rows = plots.plt.subplots(2, 3, figsize=(7, 4.8), layout="constrained")
for axes, photo, shown, one in zip(rows, photos, colours, query[..., channel]):
    axes[0].imshow(photo)
    axes[1].imshow(shown)
    axes[2].imshow(one, **limits)
    for axis in axes:
        axis.axis("off")
titles = ("photograph", "query, 3 directions", f"query, channel {channel}")
for axis, title in zip(rows[0], titles):
    axis.set_title(title)
plots.show_photos()
"""

# %% [markdown]
r"""
The tokens have kept their places. Those of the rocket's sky are alike, and the
bottom row, the lit ground, is different. In the cat's query the two corners at
the left, beside the face, differ from it. And the two queries have hardly a
colour in common: each photograph's windows are asked something else.

Channel 4 was picked by hand, because it shows something: it tells the rocket and
the ground from the sky. Most channels show nothing that has a name. Nor does the
figure tell what the model makes of its query. Exercise 5 asks that.

## What can go wrong

The published Keras example pads this max-pooling with zeros.

**Predict, then see.** Which of the four results for the row above change?
"""

# %% mystnb={"figure": {"caption": "Max-pooling a row of negative values. Padding with zeros invents a maximum at the left end, which no value has.", "name": "figure-feature-extraction-padding"}, "image": {"alt": "Line chart of a row of eight negative values and its max-pooling. Padded with minus infinity the result stays negative everywhere; padded with zeros it jumps to zero at the left end."}} tags=["active-ipynb"]
r"""
with_zeros = pooled(0.0)
_, axes = plots.plt.subplots(figsize=(6, 2.4), layout="constrained")
axes.plot(row, "o:", color=plots.INK, label="values")
for results, pad, color in (
    (with_infinity, "minus infinity", plots.BLUE),
    (with_zeros, "zeros", plots.RED),
):
    label = f"pooled, padded with {pad}"
    axes.plot(range(0, 8, 2), results, "s-", color=color, label=label)
axes.set_xlabel("position")
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.plt.show()
"""

# %% [markdown]
r"""
Only the first one changes. In a map the zeros win in the top row and the left
column, wherever all values that a patch of 3×3 holds are negative. In a map of
odd size they can win in the bottom row and the right column, too. The check of
numbers sees it at once.
"""

# %% tags=["active-ipynb"]
r"""
class ZeroPadding(FeatureExtraction):
    def call(self, inputs):
        x = add_fused_mbconv(inputs, self.conv)
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return ops.max_pool(x, 3, strides=2)


difference = check.parity(ZeroPadding(), "feature_extraction")
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
The other way to go wrong is `padding="same"`, which moves every patch by one
position where the size is even, as in [Reduce size](reduce_size.ipynb). The
package keras_cv_attention_models does that in its version 1.4.3.

## Summary

- `FeatureExtraction` adds a fused MBConv to its input, then halves the map with a max-pooling.
- The generator repeats that $K$ times, until the map has as many tokens as one window: the global query. Where $K = 0$, one step without pooling remains.
- The max-pooling must pad with what never wins: minus infinity, or copies of the border.

## Exercises

1. (5 minutes, easy) A map is (1, 64, 80, 32) and the window 8×10. How many steps does the generator have, and what shape has the global query? And for a map of 14×14 with a window of 14×14?
2. (3 minutes, easy) Why would a global query of twice as many tokens not fit, even if it held more detail?
3. (3 minutes, easy) Why does padding a max-pooling with minus infinity never put an infinity into the result?
4. (5 minutes, medium) For which maps does padding with zeros break nothing?
5. (15 minutes, hard) An experiment. Ask each photograph with the other one's query. In every level of `nano`, let `level.q_global_gen.call` return the queries of `pair` in reverse order, `ops.flip(…, axis=0)`. How sure of its answers is `nano` before and after? `decode_predictions(nano(pair), class_names("nano"), top=1)` gives them. Predict first: will the two answers change places?
6. (15 minutes, medium) Write `FeatureExtraction` yourself, as PyTorch does it: pad with minus infinity, with `ops.pad(…, constant_values=-math.inf)`. What does `check.layer(yours, "feature_extraction")` say?

<details><summary>Answer to 1</summary>

Three: 64 is $8 \cdot 2^3$, and 80 is $10 \cdot 2^3$. The query is (1, 8, 10, 32). In the second case there is one step, with `keepdims=True`, and the query is 14×14: nothing is halved, yet it still passes the fused MBConv.

</details>

<details><summary>Answer to 2</summary>

Attention gives one answer for each token of the query, and each answer is added to one token of the window. Twice as many answers would have no tokens to go to.

</details>

<details><summary>Answer to 3</summary>

Each patch of 3×3, even in a corner, holds at least one value of the map, and that is larger.

</details>

<details><summary>Answer to 4</summary>

For those in which each patch at the border holds a value of at least zero. Only where all are negative does the zero win.

</details>

The solutions to 5 and 6 are code. They are folded below, and were run.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 5", "code_prompt_show": "Show the solution to 5"} tags=["active-ipynb", "hide-cell"]
r"""
from gcvit import class_names, decode_predictions


def show_answers(title):
    answers = decode_predictions(nano(pair), class_names("nano"), top=1)
    print(title, *(f"{label} {p:.2f}" for [(label, p)] in answers), sep="  ")


def swap(generator):
    own = generator.call
    generator.call = lambda x: ops.flip(own(x), axis=0)


show_answers("its own query    ")  # no rocket among nano's ten classes
for level in nano.levels:
    swap(level.q_global_gen)
show_answers("the other's query")
# It is less sure, and answers the same. The query only asks: what a window
# answers with comes from its own photograph. And every second block is local.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 6", "code_prompt_show": "Show the solution to 6"} tags=["active-ipynb", "hide-cell"]
r"""
class Infinite(layers.Layer):
    def build(self, input_shape):
        self.conv = fused_mbconv(input_shape[-1])

    def call(self, inputs):
        branch = inputs
        for layer in self.conv:
            branch = layer(branch)
        border = ((0, 0), (1, 1), (1, 1), (0, 0))
        x = ops.pad(inputs + branch, border, constant_values=-math.inf)
        return ops.max_pool(x, 3, strides=2)


check.layer(Infinite(), "feature_extraction")
"""

# %% [markdown]
r"""
Next: [Window attention](window_attention.ipynb) puts the global query to work.

To look up: [`GlobalQueryGenerator`](api.md#gcvit.GlobalQueryGenerator),
[`FeatureExtraction`](api.md#gcvit.FeatureExtraction) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
