# Generated from book/level.ipynb, digest f23ab941. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module level
# %% [markdown]
r"""
# Level

At the end of this chapter you have `Level`: one global query, a stack of
blocks, of which every second one uses it, and a smaller map for the next level.
You also have
the rule that says which image sizes work.

About 30 minutes to read. Medium: all parts exist by now, and the question is what
travels where.
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's part sits in the model: `Level`, four times in a row, between the stem and the head.", "name": "figure-level-map"}, "image": {"alt": "Map of GCViT in four rows; the boxes Level 0 to Level 3 in the second row are highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("level")
"""

# %% [markdown]
r"""
## The idea

A level works at one resolution. It summarises its map once, before the first
block. Then local and global blocks alternate: first the tokens of each window
attend to one another, then the summary of the whole map puts its questions to
each window. At the end the map is halved for the next level, except in the last
one.

Why both kinds? In a local block the queries of a window fit its content, but know
nothing else. In a global block they know the whole map, but all windows get the
same ones.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "A level of four blocks, from top to bottom. The global query is made once, from the level's input, and goes to every second block.", "name": "figure-level-steps"}, "image": {"alt": "Diagram of a level of depth four. On the right, the map goes down through block 0, local, block 1, global, block 2, local, block 3, global, and ReduceSize. On the left, the map goes to the GlobalQueryGenerator, whose global query goes to blocks 1 and 3."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(9.0, 9.6, figure_width=4.2)
plots.tensor(axes, 6.4, 8.2, 1.2, 1.2, "map", cells=(4, 4))
plots.box(axes, 0.2, 6.0, 4.2, 1.1, "GlobalQueryGenerator", plots.HERE)
axes.plot([6.4, 2.3], [8.8, 8.8], color=plots.INK)
plots.arrow(axes, (2.3, 8.8), (2.3, 7.1))
parts = ["block 0, local", "block 1, global", "block 2, local"]
parts += ["block 3, global", "ReduceSize"]
for number, part in enumerate(parts):
    y = 6.6 - 1.6 * number
    plots.arrow(axes, (7.0, y + 1.6), (7.0, y + 1.0))
    is_global = part.endswith("global")
    color = plots.HERE if is_global else plots.PAPER
    plots.box(axes, 5.3, y, 3.4, 1.0, part, color)
    if is_global:
        plots.arrow(axes, (2.3, y + 0.5), (5.3, y + 0.5))
axes.plot([2.3, 2.3], [6.0, 2.3], color=plots.INK)
axes.text(2.1, 3.9, "the global\nquery", ha="right", va="center")
plots.plt.show()
"""

# %% [markdown]
r"""
Even blocks are local, odd ones global, counted from 0. A level of odd depth
therefore ends on a local block. The global query $q$ is made from the level's
input $x_0$, and stays the same while the blocks refine the map:

$$\begin{aligned}
q &= \mathrm{Generator}(x_0) \\
x_{i+1} &= \begin{cases}
\mathrm{Block}_i(x_i) & i \text{ even} \\
\mathrm{Block}_i(x_i, q) & i \text{ odd}
\end{cases}
\end{aligned}$$

The paper has the alternation in its section on the architecture; the official
class is `GCViTLayer` in [NVlabs/GCVit](https://github.com/NVlabs/GCVit).

### Which sizes work

The generator halves the map until it has the size of a window. So the map must
be $2^K$ windows high and $2^K$ windows wide, with the same whole number $K$:

$$H = h \cdot 2^K, \qquad W = w \cdot 2^K, \qquad K \ge 0$$

$K$ is the number of halvings, and the map has $M = 2^K \cdot 2^K = 4^K$ windows.
For 224×224 pixels, the levels of XXTiny have maps of 56, 28, 14 and 7 tokens on
each side and windows of 7, 7, 14 and 7. So $K$ is 3, 2, 0 and 0.

Neither maps nor windows have to be square. A level is built for one size of its
map, and keeps it.

**Predict, then see.** A map has 64×80 tokens. Which windows fit, and what is $K$
for each?
"""

# %% tags=["active-ipynb"]
r"""
height, width, halvings = 64, 80, 0
print(f"K = {halvings}: windows of {height}×{width}")
while height % 2 == 0 and width % 2 == 0:
    height, width, halvings = height // 2, width // 2, halvings + 1
    print(f"K = {halvings}: windows of {height}×{width}")
"""

# %% [markdown]
r"""
The windows that fit a map are the map itself, halved as long as both sides are
even. With windows of 8×10, for example, $K = 3$: three halvings for the global
query, and 64 windows.

## The code
"""

# %%
import keras
import numpy as np
from keras import layers, ops

from gcvit import arguments
from gcvit.block import Block
from gcvit.feature_extraction import GlobalQueryGenerator
from gcvit.reduce_size import ReduceSize
from gcvit.sizes import check_map, missing, size_pair


# %% [markdown]
r"""
### The level, step by step

A level has three kinds of children.

1. `q_global_gen`, a `GlobalQueryGenerator`. It takes one entry of `keepdims` for
   each of its steps: $K$ times `False`, which halves, or a single `True` if
   $K = 0$. [`check_map`](api.md#gcvit.sizes.check_map) gives $K$, or says which
   windows fit.
2. `blocks`, a list of `depth` blocks. Block $i$ has `global_query=False` if $i$ is
   even, and `True` if it is odd. All else is the same for all of them:
   `window_size`, `num_heads`, `mlp_ratio`, `qkv_bias`, `qk_scale`, the layer scale
   and dropout. `path_drop` can be one rate for all, or one for each.
3. `down`, a `ReduceSize` with its default arguments: it halves the map and doubles
   the channels. With `downsample=False` there is none.

A call makes the global query from the level's input, once. Then the map goes
through the blocks in their order, and the global ones also receive the query.
`down` comes last. So `(B, H, W, C)` becomes `(B, ⌈H/2⌉, ⌈W/2⌉, 2C)`.

A checkpoint finds the weights under these three names. In the list, a block goes
by its class and a number: `blocks/block`, `blocks/block_1`, and so on. So the class
of the blocks must be called `Block`.

In the code, `refine` runs the blocks, and `call` halves the map after them. They
are apart because a detector or a segmenter needs each level's map before it is
halved.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class Level(layers.Layer):
    """A stack of blocks with one global query, and a halved map at the end.

    Shapes: `(B, H, W, C)` in, `(B, ⌈H/2⌉, ⌈W/2⌉, 2C)` out; without
    `downsample` `(B, H, W, C)`. `H` and `W` are fixed when the level is built,
    and `2**K` windows long, with the same whole `K` for both.

    Args:
        depth: number of blocks, a positive int; even ones attend locally, odd
            ones globally.
        num_heads: number of attention heads, an int that divides `C`.
        window_size: height and width of a window, an int or a pair.
        downsample: whether `ReduceSize` comes last, a bool.
        mlp_ratio: hidden width of the MLPs as a multiple of `C`, a finite
            float above 0.
        qkv_bias: whether queries, keys and values have a bias, a bool.
        qk_scale: factor of the queries, a finite float above 0; `None` takes
            `(C / num_heads) ** -0.5`.
        dropout: dropout rate of attention outputs and MLPs, in [0, 1).
        attention_dropout: dropout rate of the attention weights, in [0, 1).
        path_drop: rate of stochastic depth, in [0, 1), or one rate for each
            block.
        layer_scale: what the scale of each branch starts at, a finite float;
            `None` leaves the scales out.

    Raises:
        ValueError: for arguments that cannot work; when built, if the windows
            do not fit the map, or if `num_heads` does not divide `C`.

    Source: paper, the architecture; `GCViTLayer` in NVlabs/GCVit.
    """

    def __init__(
        self,
        depth,
        num_heads,
        window_size,
        downsample=True,
        mlp_ratio=4.0,
        qkv_bias=True,
        qk_scale=None,
        dropout=0.0,
        attention_dropout=0.0,
        path_drop=0.0,
        layer_scale=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.depth = arguments.whole_number("depth", depth)
        self.num_heads = arguments.whole_number("num_heads", num_heads)
        self.window_size = size_pair(window_size)
        self.downsample = arguments.boolean("downsample", downsample)
        self.mlp_ratio = arguments.factor("mlp_ratio", mlp_ratio)
        self.qkv_bias = arguments.boolean("qkv_bias", qkv_bias)
        self.qk_scale = arguments.factor_or_none("qk_scale", qk_scale)
        self.dropout = arguments.rate("dropout", dropout)
        self.attention_dropout = arguments.rate(
            "attention_dropout", attention_dropout
        )
        self.path_drop = arguments.rates("path_drop", path_drop, self.depth)
        self.layer_scale = arguments.number_or_none("layer_scale", layer_scale)

    def build(self, input_shape):
        count = check_map(input_shape[1:3], self.window_size)  # of halvings
        self.map_size = tuple(input_shape[1:3])
        dtype = self.dtype_policy
        self.q_global_gen = GlobalQueryGenerator(
            [False] * count or [True], dtype=dtype
        )
        path_drop = np.broadcast_to(self.path_drop, self.depth).tolist()
        self.blocks = [
            Block(
                self.window_size,
                self.num_heads,
                global_query=bool(i % 2),
                mlp_ratio=self.mlp_ratio,
                qkv_bias=self.qkv_bias,
                qk_scale=self.qk_scale,
                dropout=self.dropout,
                attention_dropout=self.attention_dropout,
                path_drop=path_drop[i],
                layer_scale=self.layer_scale,
                dtype=dtype,
            )
            for i in range(self.depth)
        ]
        children = [self.q_global_gen, *self.blocks]
        if self.downsample:
            self.down = ReduceSize(dtype=dtype)
            children.append(self.down)
        for layer in children:
            layer.build(input_shape)

    def refine(self, inputs, training=None):
        """Run the blocks, without halving the map at the end.

        Args:
            inputs: a map `(B, H, W, C)`.
            training: whether to drop out, a bool; `None` as in a call.

        Returns:
            A map `(B, H, W, C)`.

        Raises:
            ValueError: if the windows do not fit the map.
        """
        if not self.built:
            self.build(inputs.shape)
        q_global = self.q_global_gen(inputs)  # (B, h, w, C)
        x = inputs
        for block in self.blocks:
            query = q_global if block.global_query else None
            x = block(x, query, training=training)
        return x  # (B, H, W, C)

    def refine_any_size(self, inputs, training=None):
        """Do the same for a map of any size; the windows stay.

        At another size than the level was built for, the query is resized to a
        window, and each block gets the map with zeros below and to the right.

        Args, returns: as for `refine`; the level is built.
        """
        _, height, width, _ = inputs.shape
        if (height, width) == self.map_size:
            return self.refine(inputs, training)
        below, right = missing((height, width), self.window_size)
        border = ((0, 0), (0, below), (0, right), (0, 0))
        q_global = ops.image.resize(
            self.q_global_gen(inputs),
            self.window_size,
            interpolation="bicubic",
            antialias=True,
            data_format="channels_last",
        )
        x = inputs
        for block in self.blocks:
            query = q_global if block.global_query else None
            x = block(ops.pad(x, border), query, training=training)
            x = x[:, :height, :width]
        return x  # (B, H, W, C)

    def call(self, inputs, training=None):
        x = self.refine(inputs, training)
        return self.down(x) if self.downsample else x

    def compute_output_shape(self, input_shape):
        if not self.downsample:
            return input_shape
        return ReduceSize().compute_output_shape(input_shape)

    def get_config(self):
        return super().get_config() | arguments.given(self, Level)


# %% [markdown]
r"""
> **A query that nobody uses.** A level of depth 1 has a local block only, so
> its global query goes nowhere. The official code computes it all the same. So
> checkpoints hold the generator's weights, and this class has them, too.

## The proof

The four levels of XXTiny, one after the other: shapes, the number of steps in
each query generator, and an `assert` against the official number of parameters.
The last two have one step each, the one that does not halve.
"""

# %% tags=["active-ipynb"]
r"""
from keras import ops

x = keras.random.normal((1, 56, 56, 64), seed=0)
table = [(2, 2, 7, 180_964), (2, 4, 7, 688_456)]
table += [(6, 8, 14, 5_170_608), (2, 16, 7, 5_395_744)]
for i, (depth, heads, window, official) in enumerate(table):
    level = Level(depth, heads, window, downsample=i < 3, mlp_ratio=3.0)
    shape, x = tuple(x.shape), level(x)
    count = len(level.q_global_gen.keepdims)
    print(f"{shape} -> {tuple(x.shape)}, {count} in the query generator")
    assert level.count_params() == official
"""

# %% [markdown]
r"""
Then the numbers, for two images, in a level of two blocks: one local, one
global.
"""

# %% tags=["active-ipynb"]
r"""
difference = check.parity(Level(2, 2, 7, mlp_ratio=3.0), "level")
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
### What crosses the windows

No window attends to another. How, then, does one end of a map learn of the
other? Change a corner of a level's input, 3×3 tokens, and measure where the
output changes, and by how much. The level and its input are the official ones of
the proof, with random weights.

Two steps could carry the change: the global query, and the squeeze and excitation
in `ReduceSize`, which averages each channel over the whole map. To tell them
apart, you need controls. So here are six runs. `local, local` is block 0, run
twice. In `old query`, the map changes but the global query does not: it is still
that of the unchanged map.
"""

# %% tags=["active-ipynb"]
r"""
def runs(level, old_query):
    local, with_query = level.blocks
    query, down = level.q_global_gen, level.down
    return {
        "local": local,
        "local, local": lambda x: local(local(x)),
        "local, global, old query": lambda x: with_query(local(x), old_query),
        "local, global": lambda x: with_query(local(x), query(x)),
        "local, local, ReduceSize": lambda x: down(local(local(x))),
        "local, global, ReduceSize": level,
    }


def changes(level, x, corner):
    changed = x.copy()
    changed[:, :corner, :corner] *= -1
    found = {}
    for name, run in runs(level, level.q_global_gen(x)).items():
        before, after = (ops.convert_to_numpy(run(y)) for y in (x, changed))
        found[name] = np.abs(after - before).max(axis=-1)[0] / before.std()
    return found
"""

# %% [markdown]
r"""
**Predict, then see.** After which of the six does the output change outside the
corner's own window? And where will the change be larger, after the global block
or after `ReduceSize`? The unit is the standard deviation of the run's output.
On the halved map, `outside` starts beyond the reach of any convolution from the
window.
"""

# %% tags=["active-ipynb"]
r"""
def show_changes(found, window):
    print(f"{'':25}  changed   outside: median  largest")
    for name, change in found.items():
        is_halved = name.endswith("ReduceSize")
        reach = (window + 1) // 2 + 1 if is_halved else window
        outside = change.copy()
        outside[:reach, :reach] = np.nan
        median, largest = np.nanmedian(outside), np.nanmax(outside)
        share = (change > 1e-6).mean()
        print(f"{name:25}  {share:7.0%}  {median:16.4f}  {largest:7.3f}")


level = Level(2, 2, 7, mlp_ratio=3.0)
check.parity(level, "level")
(x,), _ = check.official("level")
found = changes(level, x[:1], corner=3)
show_changes(found, window=7)
"""

# %% mystnb={"figure": {"caption": "How much the output changes when the top left corner of the map does, in standard deviations of the output. The scale is logarithmic; white is less than 0.0001.", "name": "figure-level-reach"}, "image": {"alt": "Four maps. After two local blocks only the top left window has changed. After a local and a global block the corner's place has changed clearly in each window, and the rest a little. After two local blocks and ReduceSize, the whole map has changed a little, evenly. After local, global and ReduceSize, both."}} tags=["active-ipynb"]
r"""
from matplotlib.colors import LogNorm

_, axes = plots.plt.subplots(2, 2, figsize=(4.2, 4.5), layout="constrained")
names = ["local, local", "local, global"]
names += [f"{name}, ReduceSize" for name in names]
for axis, name in zip(axes.flat, names):
    shown = axis.imshow(found[name], norm=LogNorm(1e-4, 1))
    axis.set_title(name.replace(", R", ",\nR"), fontsize=10)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(True)
bar = plots.plt.colorbar(shown, ax=axes, orientation="horizontal", aspect=40)
bar.set_ticks([1e-4, 1e-2, 1], labels=["0.0001", "0.01", "1"])
plots.plt.show()
"""

# %% [markdown]
r"""
What the table says:

- **Attention alone crosses nothing.** After one local block or two, and after the
  global block with the old query, all windows but the corner's are as they were.
- **The global query reaches every window**, but not evenly. The change is clear
  at one place, the top left of every window, because that is where the queries
  that summarise the corner are.
  The median token outside changes by less than a thousandth of a standard
  deviation: the queries of other regions learn of the corner only by the means that
  the generator's squeeze and excitation takes.
- **`ReduceSize` mixes, too**, without any query. Its squeeze and excitation
  multiplies each channel by a factor that depends on the whole map. So the change
  is small and about the same everywhere. (Its convolutions also reach a token or
  two across each border.)

So what is special about the global query? Squeeze and excitation tells all
positions the same: one factor for each channel. The global query has a token for
each region of the map, and so it can also say *where* something is.

This is the view from inside one level. In the whole model, squeeze and excitation
in the stem has already mixed every pixel into every token, a little, before the
first level begins.

### What the queries attend to, on a photograph

Random weights show where a change travels, but not what a query looks for. So
borrow `nano`, a small model that has learned something; the chapter
[Pretrained](pretrained.ipynb) says what. It looks at Chelsea the cat. Here are the
shapes of the attention weights in its first three levels:
`(M, heads, queries, keys)`, for one image.
"""

# %% tags=["active-ipynb"]
r"""
from skimage.data import chelsea

from gcvit import from_pretrained, preprocess, window_partition

nano = from_pretrained("nano")
x = nano.patch_embed(preprocess(chelsea(), 64))
attention = []
for level in nano.levels[:3]:
    q_global = level.q_global_gen(x)
    for block in level.blocks:
        inputs = [window_partition(block.norm1(x), block.window_size)]
        inputs += [q_global] if block.global_query else []
        _, scores = block.attn(*inputs, return_attention_scores=True)
        attention.append(ops.convert_to_numpy(scores))
        print(["local ", "global"][block.global_query], scores.shape)
        x = block(x, *inputs[1:])
    x = level.down(x)
"""

# %% [markdown]
r"""
The figure shows level 0. One token, in an eye of the cat, is outlined. On the left
are the weights of its own query in the local block. They stay in its window. On
the right are those of the query at the same place in the global query. It goes to
*every* window. Each window has a softmax of its own, so the weights add up to one
in each.
"""

# %% mystnb={"figure": {"caption": "Attention weights in the first level of `nano`. Left: the outlined token's own query, in its own window. Right: the query at the same place in the global query, in every window. Full colour is four times an even share.", "name": "figure-level-attention"}, "image": {"alt": "A grey photograph of a cat, twice, with one token outlined. Left, its local attention colours tokens of its own window. Right, the query of the same place in the global query colours tokens in all sixteen windows."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
row, column = 5, 5
photo = chelsea()[:, 75:375]  # the middle, as in preprocess
_, both = plots.plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
for axes, kind, scores in zip(both, ("local", "global"), attention):
    token = row % 4 * 4 + column % 4
    weights = scores[:, 0, token].reshape(4, 4, 4, 4)  # windows, tokens
    if kind == "local":
        is_own = np.zeros((4, 4, 1, 1))
        is_own[row // 4, column // 4] = 1
        weights = weights * is_own
    else:
        np.testing.assert_allclose(weights.sum((2, 3)), 1, atol=1e-5)
    weights = weights.transpose(0, 2, 1, 3).reshape(16, 16)
    edges = (-0.5, 15.5, 15.5, -0.5)
    axes.imshow(photo.mean(axis=-1), cmap="gray", vmax=330, extent=edges)
    # Full colour is four times an even share.
    plots.highlight(axes, weights * 16 / 4)
    axes.plot(column, row, "s", mfc="none", mec=plots.PAPER, ms=11, mew=2)
    axes.set(title=kind, xticks=[], yticks=[])
plots.show_photos()
"""

# %% [markdown]
r"""
What you see is where the weights are large, not what they mean to the model: the
value of a token and all later layers have a say in that.

Now choose a token yourself: in [Live](live.ipynb) `nano` runs in the page, and shows
the attention of every level, block and head, on these pictures or on one of yours.
Level 1 has windows of the same 4×4 tokens on a map of half the size, and two
heads; in level 2 one window covers the map.

## What can go wrong

**A fresh query.** It sounds like a good idea to compute the global query anew
before each global block, from the refined map.

**Predict, then see.** Does that change a shape, or the name of a weight? Does it
change the numbers, in a level with one global block only?
"""

# %% tags=["active-ipynb"]
r"""
class FreshQuery(Level):
    def call(self, inputs, training=None):
        x = self.blocks[0](inputs)
        x = self.blocks[1](x, self.q_global_gen(x))
        return self.down(x)


difference = check.parity(FreshQuery(2, 2, 7, mlp_ratio=3.0), "level")
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
Every shape and every weight's name is right, yet it is a different model. Even
a single global block comes after a local one, so it would get the query of a
map that is no longer the level's input.

**A window that does not fit.** The level says so, and lists those that do.
"""

# %% tags=["active-ipynb"]
r"""
try:
    Level(2, 2, window_size=7)(ops.ones((1, 64, 80, 16)))
except ValueError as error:
    print(error)
"""

# %% [markdown]
r"""
## Summary

- A level makes one global query from its input, and its odd blocks use it.
- Attention never crosses a window; the global query brings a summary of the whole map, region by region, to all of them.
- A map fits if it is $2^K$ windows high and $2^K$ windows wide.

## Exercises

1. (2 minutes, easy) How many of the blocks of a level of depth 19 are global?
2. (5 minutes, easy) Does a map of 48×96 fit windows of 6×6? Of 6×12? Of 12×24?
3. (5 minutes, medium) One corner of the map changed. Why is the map after the global block different everywhere, although no window attends to another? And why by so much more at one place in each window?
4. (5 minutes, medium) Could a level of depth 1 do without its query generator? What would break?
5. (10 minutes, easy) An experiment. The weights above are random, and trained ones may behave differently. Measure the same six runs in the first level of `nano`, which was trained. Its input is what `nano.patch_embed` makes of Chelsea, and its windows are 4×4; take a corner of 2×2. Which way carries more here, the global query or `ReduceSize`, in the median and at the maximum? Predict before you run it.
6. (20 minutes, medium) Write a level of two blocks yourself, for a map of 28×28 with 16 channels: windows of 7×7, two heads, MLPs three times as wide. Check it with `check.layer(yours, "level")`.

<details><summary>Answer to 1</summary>

Nine: those with the numbers 1, 3, … 17. The last one, 18, is local.

</details>

<details><summary>Answer to 2</summary>

Not 6×6, since 48 is 6·2³ and 96 is 6·2⁴. Yes to 6×12, with $K = 3$, and to 12×24, with $K = 2$.

</details>

<details><summary>Answer to 3</summary>

The global query is made from the whole map, the corner included. Squeeze and excitation in the generator carries the corner's part of the means into every query, and all windows get their queries from there. So every output changes, most of them a little. The query of the region with the corner has the corner itself in it, by convolution and pooling. It changes much, and writes one token of each window, always at the same place.

</details>

<details><summary>Answer to 4</summary>

Its output would be the same. But checkpoints hold the generator's weights, and a model without them is not the one that was saved, so they would not load.

</details>

<details><summary>Answer to 5</summary>

As with random weights, only more so: at the maximum, the global query carries far more; in the median, `ReduceSize`. With both together the median is larger than with either: the convolutions of `ReduceSize` spread what the query has brought.

</details>

The solutions to 5 and 6 are code. They are folded below, and were run.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 5", "code_prompt_show": "Show the solution to 5"} tags=["active-ipynb", "hide-cell"]
r"""
x = ops.convert_to_numpy(nano.patch_embed(preprocess(chelsea(), 64)))
show_changes(changes(nano.levels[0], x, corner=2), window=4)
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 6", "code_prompt_show": "Show the solution to 6"} tags=["active-ipynb", "hide-cell"]
r"""
class MyLevel(layers.Layer):
    def build(self, input_shape):
        self.q_global_gen = GlobalQueryGenerator((False, False))
        self.blocks = [
            Block(7, 2, global_query=False, mlp_ratio=3.0),
            Block(7, 2, global_query=True, mlp_ratio=3.0),
        ]
        self.down = ReduceSize()

    def call(self, inputs):
        local, with_query = self.blocks
        x = with_query(local(inputs), self.q_global_gen(inputs))
        return self.down(x)


check.layer(MyLevel(), "level")
"""

# %% [markdown]
r"""
Next: [Model](model.ipynb) puts the stem, four levels and a head together.

To look up: [`Level`](api.md#gcvit.Level) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
