# Generated from book/level.ipynb, digest c520c2ea. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module level
# %% [markdown]
r"""
# Level

At the end of this chapter you have `Level`: one global query, a stack of
blocks that use it every second time, and a smaller map for the next level. You
also have the rule that says which image sizes work.
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

# %% mystnb={"figure": {"caption": "You are here: `Level`, four of which make the model.", "name": "figure-level-map"}, "image": {"alt": "Map of GCViT in four rows; the boxes Level 0 to Level 3 in the second row are highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("level")
"""

# %% [markdown]
r"""
## The idea

A level works on one resolution. It summarises its map once, before the first
block. Then local and global blocks alternate: first tokens talk to their
neighbours in the window, then the summary of the whole map talks to every
window. In the end the map is halved for the next level, except in the last.
"""

# %% mystnb={"figure": {"caption": "A level of four blocks. The global query is made once, and goes to every second block.", "name": "figure-level-steps"}, "image": {"alt": "Diagram of a level of depth four: the map goes to the global query generator and through four blocks, local, global, local, global, then to ReduceSize. The global query goes to the two global blocks."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(15, 4)
plots.box(axes, 0.8, 2.5, 3.6, 1.1, "GlobalQueryGenerator", plots.HERE)
plots.tensor(axes, 0, 0.55, 0.9, 0.9, "map", cells=(4, 4))
plots.arrow(axes, (0.7, 1.45), (1.6, 2.5))
x = 1.9
plots.arrow(axes, (0.9, 1), (x, 1))
for number, kind in enumerate(("local", "global", "local", "global")):
    color = plots.HERE if kind == "global" else plots.PAPER
    plots.box(axes, x, 0.4, 1.9, 1.2, f"block {number}\n{kind}", color)
    plots.arrow(axes, (x + 1.9, 1), (x + 2.6, 1))
    if kind == "global":
        plots.arrow(axes, (x + 0.95, 3.05), (x + 0.95, 1.6))
    x += 2.6
axes.plot([4.4, x - 1.65], [3.05, 3.05], color=plots.INK)
plots.box(axes, x, 0.4, 1.9, 1.2, "ReduceSize")
plots.plt.show()
"""

# %% [markdown]
r"""
Even blocks are local, odd ones global, counted from 0. A level of odd depth
therefore ends on a local block. The query does not change on the way: the
blocks refine the map, and the summary stays what it was at the start.

### Which sizes work

The generator halves the map until it has the size of a window. So the map must
be $2^K$ windows high and $2^K$ windows wide, with the same whole number $K$:

$$H = h \cdot 2^K, \qquad W = w \cdot 2^K, \qquad K \ge 0$$

For 224×224 pixels, maps of 56, 28, 14 and 7, and windows of 7, 7, 14 and 7,
$K$ is 3, 2, 0 and 0. Neither map nor window has to be square: 64×80 takes
windows of 8×10.

The paper has the alternation in its section on the architecture; the official
class is `GCViTLayer` in [NVlabs/GCVit](https://github.com/NVlabs/GCVit).

## The code
"""

# %%
import keras
import numpy as np
from keras import layers

from gcvit import arguments
from gcvit.block import Block
from gcvit.feature_extraction import GlobalQueryGenerator
from gcvit.reduce_size import ReduceSize
from gcvit.sizes import check_map, size_pair


# %% [markdown]
r"""
[`check_map`](api.md#gcvit.sizes.check_map) gives $K$, or says which windows fit.
All windows that fit a map are the map itself, halved as long as both sides are
even.

`refine` runs the blocks, and `call` halves the map after them. They are apart
because a detector or a segmenter wants each level's map before it is halved.
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
> **A query nobody asks for.** A level of depth 1 has only a local block, and
> its global query is never used. The official code computes it all the same,
> so checkpoints hold its weights, and so does this class.

## The proof

The four levels of XXTiny, one after the other, against the official parameter
counts.
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
And the numbers, for a level of two blocks: one local, one global.
"""

# %% tags=["active-ipynb"]
r"""
difference = check.parity(Level(2, 2, 7, mlp_ratio=3.0), "level")
print(f"max |Δ| / std = {difference:.5f}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
Does information really cross the windows? Change one corner of the map and
look where the output of the blocks changes. After the local block it is the
corner's window. After the global block it is everywhere.
"""

# %% mystnb={"figure": {"caption": "Where the output changes when a corner of the map does. A local block keeps the news in its window; a global one spreads it.", "name": "figure-level-reach"}, "image": {"alt": "Two maps of 28 by 28 positions. After the local block only the top left window of 7 by 7 has changed; after the global block every window has."}} tags=["active-ipynb"]
r"""
level = Level(2, 2, 7, mlp_ratio=3.0)
check.parity(level, "level")
(x,), _ = check.official("level")
corner = x.copy()
corner[:, :3, :3] *= -1


def after_each_block(x):
    q_global = level.q_global_gen(x)
    local = level.blocks[0](x)
    return local, level.blocks[1](local, q_global)


_, axes = plots.plt.subplots(1, 2, figsize=(6, 3.2), layout="constrained")
pairs = zip(after_each_block(x), after_each_block(corner))
for axis, kind, (before, after) in zip(axes, ("local", "global"), pairs):
    change = ops.convert_to_numpy(ops.max(ops.abs(after - before), axis=-1))
    axis.imshow(change[0] > 1e-6, vmin=0, vmax=1)
    axis.set(title=f"after the {kind} block", xticks=[], yticks=[])
    axis.spines[:].set_visible(True)
    print(f"{kind:6} {(change > 1e-6).mean():.0%} of the map has changed")
plots.plt.show()
"""

# %% [markdown]
r"""
### Who asks whom, on a photograph

Random weights show where news travels, but not what anybody asks for. So borrow
`nano`, a small model that has learned something; the chapter
[Pretrained](pretrained.ipynb) says what. It looks at a cat. Here are the
attention weights of its first three levels, as (windows, heads, queries, keys).
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
What does the global query attend to? The figure shows one token of level 0, in
an eye of the cat. On the left are the weights of its local attention. They stay
in its window. On the right the token of the global query at the same place in
the window asks *every* window at once, with one and the same question. Each
window answers for itself, so its weights add up to one.
"""

# %% mystnb={"figure": {"caption": "What one token, outlined, attends to in the first level of `nano`: tokens of its own window, and, through the global query, some in every window. Full colour is four times an even share.", "name": "figure-level-attention"}, "image": {"alt": "A grey photograph of a cat, twice, with one token outlined. Left, its local attention colours tokens of its own window. Right, the global query's token colours tokens in all sixteen windows."}} tags=["active-ipynb", "nbval-ignore-output"]
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
Now choose yourself: point at a token, tap it, or move with the arrow keys.
Level 1 has windows of the same 4×4 tokens on a map of half the size, and two
heads; in level 2 one window covers the map.
"""

# %% tags=["active-ipynb", "hide-input", "nbval-ignore-output"]
r"""
import base64
import io


def as_text(data):
    return base64.b64encode(data).decode()


file = io.BytesIO()
plots.plt.imsave(file, photo, format="jpeg")
data = {"photo": "data:image/jpeg;base64," + as_text(file.getvalue())}
data |= {"row": row, "column": column, "levels": []}
for local, over_all in zip(attention[::2], attention[1::2]):
    windows, heads, _, _ = local.shape
    level = {"map": 4 * round(windows**0.5), "window": 4, "heads": heads}
    level["weights"] = [
        as_text(np.rint(scores * 255).astype("uint8").tobytes())
        for scores in (local, over_all)
    ]
    data["levels"].append(level)
plots.touch("attention", data)
"""

# %% [markdown]
r"""
## What can go wrong

One slip keeps every shape and every weight: computing the query anew before
each global block, from the refined map. It sounds like a good idea, and is
another model.
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
If a window does not fit, the level says so, and lists those that do.
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

- A level computes one global query, and its odd blocks use it.
- Local blocks carry news within a window; global blocks bring it from the whole map.
- A map fits if it is $2^K$ windows high and wide.

## Exercises

1. How many of the blocks of a level of depth 19 are global?
2. Does a map of 48×96 fit a window of 6×6? Of 6×12? Of 12×24?
3. One corner of the map changed. Why is the map after the global block different everywhere, although no window attends to another?
4. Could a level of depth 1 do without its query generator? What would break?
5. Write a level of two blocks yourself, for a map of 28×28 with 16 channels: windows of 7×7, two heads, MLPs three times as wide. Check it with `check.layer(yours, "level")`.

<details><summary>Answers to 1, 2, 3 and 4</summary>

1. Nine: those with the numbers 1, 3, … 17. The last one, 18, is local.
2. Not 6×6, since 48 is 6·2³ and 96 is 6·2⁴. Yes 6×12, with $K = 3$, and 12×24, with $K = 2$.
3. The global query is made from the whole map, the corner included. Squeeze and excitation carries the corner into every token of that query. Every window gets its questions from it, so every answer changes.
4. Its answer would be the same. But checkpoints hold the generator's weights, and a model without it would not be the one they were saved from: they would not load.

</details>

The solution to 5 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
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
