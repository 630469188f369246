# Generated from book/window_attention.ipynb, digest b45a4d5b. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module window_attention
# %% [markdown]
r"""
# Window attention

At the end of this chapter you have `WindowAttention`, the heart of GCViT: one
layer for both of its attentions. In the local one a window questions itself.
In the global one a summary of the whole image questions the window.
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

# %% mystnb={"figure": {"caption": "You are here: `WindowAttention`, inside every block.", "name": "figure-window-attention-map"}, "image": {"alt": "Map of GCViT in four rows; the box WindowAttention in the lowest row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("window_attention")
"""

# %% [markdown]
r"""
## The idea

In attention, each token asks a question (its [query](glossary.md#term-query))
and each token offers an answer (its [key](glossary.md#term-key) says what it is
about, its [value](glossary.md#term-value) what it has to say). The query
is compared with all keys, the comparison becomes weights, and the weights mix
the values.

Among all 3,136 tokens of a 56×56 map that would be 9.8 million comparisons. In
windows of 7×7 each token meets 49, itself among them, and it is 154 thousand.
The price is that a window knows nothing of the next one.

GCViT alternates two kinds. In **local** attention queries, keys and values all
come from the window. In **global** attention keys and values come from the
window, and the queries are the [global query](glossary.md#term-global-query) of
the [previous chapter](feature_extraction.ipynb): 49 tokens that have seen the
whole map, the same for every window. Each query gives one output token: query
$p$ writes token $p$ of every window. So there must be as many queries as a
window has tokens.
"""

# %% mystnb={"figure": {"caption": "The two kinds of attention differ in one thing, the origin of the query. Highlighted: it comes from the whole map.", "name": "figure-window-attention-kinds"}, "image": {"alt": "Two diagrams. Local attention: query, key and value all come from the window. Global attention: key and value come from the window, the query comes from the global query of the whole map."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(15, 5.2)
for x, title in ((0.2, "local"), (7.9, "global")):
    axes.text(x + 3.3, 4.8, title, ha="center", weight="bold")
    plots.tensor(axes, x, 0.4, 1.6, 1.6, "window", cells=(7, 7))
    source = (x + 1.6, 1.6)
    if title == "global":
        square = (x, 2.7, 1.6, 1.6)
        plots.tensor(axes, *square, "whole\nmap", plots.HERE, (7, 7))
        source = (x + 1.6, 3.4)
    for y, name in ((3.1, "query"), (1.9, "key"), (0.7, "value")):
        is_new = (name, title) == ("query", "global")
        color = plots.HERE if is_new else plots.PAPER
        plots.tensor(axes, x + 2.9, y, 1.2, 0.7, name, color)
        start = source if name == "query" else (x + 1.6, 1.2)
        plots.arrow(axes, start, (x + 2.9, y + 0.35))
    plots.box(axes, x + 5.1, 1.5, 1.7, 1.5, "attention")
    for y in (3.45, 2.25, 1.05):
        plots.arrow(axes, (x + 4.1, y), (x + 5.1, 1.9 + 0.16 * y))
plots.plt.show()
"""

# %% [markdown]
r"""
The channels are cut into [heads](glossary.md#term-head), slices of $d$
channels that attend each on its own. For one head, with a bias $B$ that
depends on how far query and key are apart:

$$A = \mathrm{softmax}\!\left(\frac{q\,k^\top}{\sqrt{d}} + B\right),
\qquad y = A\,v$$

The softmax runs over the keys, so the weights of each query sum to 1. Dividing
by $\sqrt{d}$ keeps the scores from growing with the number of channels.

A token of the global query has a place, too: the one that it fills in the
window. Its offsets count from there.

The answers of all heads are joined again, and a last dense layer, `proj`, mixes
them. The two kinds of attention differ in $q$ alone. The paper describes the second in its
section "Global Self-Attention"; the official classes are `WindowAttention` and
`WindowAttentionGlobal` in [NVlabs/GCVit](https://github.com/NVlabs/GCVit). The
local one and the bias are those of
[Swin Transformer](https://arxiv.org/abs/2103.14030).

## The code
"""

# %%
import keras
import numpy as np
from keras import layers, ops

from gcvit import arguments
from gcvit.sizes import check_tokens, size_pair, windows_per_image


# %% [markdown]
r"""
### Where a token is

Windows may be square or not; [`size_pair`](api.md#gcvit.sizes.size_pair) makes a
(height, width) pair of what you pass.

Attention does not know where its tokens are: shuffle a window's tokens, and
local attention shuffles its answer the same way; the global one does not even
notice. The bias $B$ tells it. In a window of 7×7 a query and a key are at most
6 rows apart, up or down, and the same for columns: 13 · 13 = 169 offsets. A
table holds one number for each offset and head, and an index says which row of
the table each pair of tokens reads.
"""


# %%
def relative_position_index(window_size):
    """Number the offset between each pair of tokens in a window.

    Args:
        window_size: height `h` and width `w` of the window, an int or a pair.

    Returns:
        An int array of shape `(N, N)`, `N = h * w`, from 0 to
        `(2h - 1) * (2w - 1) - 1`. Row: the query, column: the key, both in
        reading order.

    Source: Swin Transformer, arXiv 2103.14030; `WindowAttention` in
    NVlabs/GCVit.
    """
    height, width = size_pair(window_size)
    rows, columns = np.indices((height, width)).reshape(2, -1)  # (N,), (N,)
    row_offset = rows[:, None] - rows + height - 1  # 0 … 2h - 2
    column_offset = columns[:, None] - columns + width - 1  # 0 … 2w - 2
    return row_offset * (2 * width - 1) + column_offset  # (N, N)


# %% [markdown]
r"""
Pairs with the same offset share a number. So the matrix has stripes: along a
diagonal, query and key move together.
"""

# %% mystnb={"figure": {"caption": "Which row of the bias table each pair of tokens reads, in a window of 3\u00d73. Equal offsets share a number.", "name": "figure-window-attention-index"}, "image": {"alt": "Heat map of the 9 by 9 index of a 3 by 3 window, with its numbers; each diagonal inside a block of three repeats one number."}} tags=["active-ipynb"]
r"""
index = relative_position_index(3)
_, axes = plots.plt.subplots(figsize=(3.6, 3.6), layout="constrained")
axes.imshow(index, vmax=60)  # pale enough for the numbers
for (query, key), number in np.ndenumerate(index):
    axes.text(key, query, number, ha="center", va="center", fontsize=8)
axes.set(xlabel="key", ylabel="query", xticks=range(9), yticks=range(9))
plots.plt.show()
"""

# %% [markdown]
r"""
Choose a pair in the index, or its query and its key in the window: point, tap,
or move with the arrow keys. All pairs that read the same row of the table are
highlighted. Try the offset (0, 0): which pairs share it? Then find the rows
that a single pair reads. Lay the table out as a grid of
$(2h-1) \times (2w-1)$ offsets: why are those rows its four corners?

<details><summary>Answer</summary>

Each token with itself shares the offset (0, 0): nine pairs in a window of 3×3.
A corner of the grid is the largest offset in both directions. Only one pair has
it: a query in one corner of the window, and a key in the opposite one.

</details>
"""

# %% tags=["active-ipynb", "hide-input"]
r"""
choices = [
    {
        "window": window_size,
        "index": relative_position_index(window_size).flatten().tolist(),
    }
    for window_size in ((3, 3), (2, 3), (4, 4))
]
data = {"pair": 28, "choices": choices}
plots.touch("relative_position_index", data)
"""

# %% [markdown]
r"""
### The layer

One dense layer makes queries, keys and values at once: three times the
channels in the local case, twice in the global one. It takes the tokens of all
windows as the rows of one matrix, which JAX trains faster on a CPU.

In the global case the batch has `B * M` windows but only `B` queries, one for
each image. `ops.repeat` gives each image's query to each of that image's `M`
windows, in the order in which windows lie in the batch.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class WindowAttention(layers.Layer):
    """Attention inside windows, with their own queries or with a global one.

    Shapes: `inputs` `(B·M, N, C)`, the `M` windows of each of `B` images one
    after the other, `N = h * w` tokens in reading order; `q_global`
    `(B, h, w, C)`; out `(B·M, N, C)`. With `return_attention_scores=True`, a
    pair: the output, and the weights after the softmax, `(B·M, heads, N, N)`.

    Args:
        window_size: height `h` and width `w` of a window, an int or a pair.
        num_heads: number of heads, an int that divides `C`.
        global_query: whether the call takes `q_global`, a bool.
        qkv_bias: whether queries, keys and values have a bias, a bool.
        qk_scale: factor of the queries, a finite float above 0; `None` takes
            `(C / num_heads) ** -0.5`.
        attention_dropout: dropout rate of the weights, in [0, 1).
        projection_dropout: dropout rate of the output, in [0, 1).

    Raises:
        ValueError: for arguments that cannot work; when built, if `num_heads`
            does not divide `C` or the inputs do not have `N` tokens; when
            called, if `q_global` is missing or not wanted.

    Source: paper, "Global Self-Attention"; `WindowAttention` and
    `WindowAttentionGlobal` in NVlabs/GCVit.
    """

    def __init__(
        self,
        window_size,
        num_heads,
        global_query,
        qkv_bias=True,
        qk_scale=None,
        attention_dropout=0.0,
        projection_dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.window_size = size_pair(window_size)
        self.num_heads = arguments.whole_number("num_heads", num_heads)
        self.global_query = arguments.boolean("global_query", global_query)
        self.qkv_bias = arguments.boolean("qkv_bias", qkv_bias)
        self.qk_scale = arguments.factor_or_none("qk_scale", qk_scale)
        self.attention_dropout = arguments.rate(
            "attention_dropout", attention_dropout
        )
        self.projection_dropout = arguments.rate(
            "projection_dropout", projection_dropout
        )

    def build(self, inputs_shape, q_global_shape=None):
        _, tokens, dim = inputs_shape
        check_tokens(tokens, self.window_size)
        head_dim = arguments.channels_per_head(dim, self.num_heads)
        self.scale = self.qk_scale or head_dim**-0.5
        height, width = self.window_size
        self.index = relative_position_index(self.window_size)
        self.relative_position_bias_table = self.add_weight(
            name="relative_position_bias_table",
            shape=((2 * height - 1) * (2 * width - 1), self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        dtype = self.dtype_policy
        self.qkv = layers.Dense(
            dim * (2 if self.global_query else 3),
            use_bias=self.qkv_bias,
            dtype=dtype,
        )
        self.attn_drop = layers.Dropout(self.attention_dropout, dtype=dtype)
        self.proj = layers.Dense(dim, dtype=dtype)
        self.proj_drop = layers.Dropout(self.projection_dropout, dtype=dtype)
        self.qkv.build((None, None, dim))
        self.proj.build((None, None, dim))

    def split_heads(self, x, parts):
        """Cut `(…, parts·C)` into `(parts, batch, heads, N, C / heads)`."""
        height, width = self.window_size
        head_dim = x.shape[-1] // (parts * self.num_heads)
        shape = (-1, height * width, parts, self.num_heads, head_dim)
        return ops.transpose(ops.reshape(x, shape), (2, 0, 3, 1, 4))

    def relative_position_bias(self):
        """Look up the bias of each pair of tokens: `(heads, N, N)`."""
        bias = ops.take(self.relative_position_bias_table, self.index, axis=0)
        return ops.transpose(bias, (2, 0, 1))

    def call(
        self,
        inputs,
        q_global=None,
        return_attention_scores=False,
        training=None,
    ):
        arguments.check_query(self.global_query, q_global)
        dim = inputs.shape[-1]
        # === Queries, keys, values: (B·M, heads, N, C / heads) ===
        tokens = self.qkv(ops.reshape(inputs, (-1, dim)))  # (B·M·N, …)
        if self.global_query:
            k, v = ops.unstack(self.split_heads(tokens, 2), 2)
            batches = ops.shape(inputs)[0], ops.shape(q_global)[0]
            q = self.split_heads(q_global, 1)[0]
            q = ops.repeat(q, windows_per_image(*batches), axis=0)
        else:
            q, k, v = ops.unstack(self.split_heads(tokens, 3), 3)
        # === Weights: (B·M, heads, N, N) ===
        scores = ops.matmul(q * self.scale, ops.swapaxes(k, -2, -1))
        scores = ops.softmax(scores + self.relative_position_bias())
        # === Values: (B·M, N, C) ===
        x = ops.matmul(self.attn_drop(scores, training=training), v)
        x = ops.transpose(x, (0, 2, 1, 3))  # (B·M, N, heads, C / heads)
        x = self.proj(ops.reshape(x, (-1, dim)))  # (B·M·N, C)
        x = ops.reshape(x, (-1, *inputs.shape[1:]))
        x = self.proj_drop(x, training=training)
        return (x, scores) if return_attention_scores else x

    def compute_output_shape(self, inputs_shape, q_global_shape=None):
        return inputs_shape

    def compute_output_spec(
        self,
        inputs,
        q_global=None,
        return_attention_scores=False,
        training=None,
    ):
        output = keras.KerasTensor(inputs.shape, self.compute_dtype)
        if not return_attention_scores:
            return output
        batch, tokens, _ = inputs.shape
        shape = (batch, self.num_heads, tokens, tokens)
        return output, keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self):
        return super().get_config() | arguments.given(self, WindowAttention)


# %% [markdown]
r"""
> **Why `repeat`, not `tile`.** The batch holds all windows of image 0, then
> all windows of image 1. `repeat` gives 0 0 0 1 1 1, `tile` gives 0 1 0 1 0 1.
> With one image there is no difference. With more, `tile` makes one image's
> answer depend on its neighbours. timm did that up to its version 1.0.30.

## The proof

Shapes and parameters, in both kinds, for the first level of XXTiny: one image,
64 windows of 49 tokens.
"""

# %% tags=["active-ipynb"]
r"""
windows = keras.random.normal((64, 49, 64), seed=0)
q_global = keras.random.normal((1, 7, 7, 64), seed=1)
for inputs in ([windows], [windows, q_global]):
    layer = WindowAttention(7, num_heads=2, global_query=len(inputs) == 2)
    output, scores = layer(*inputs, return_attention_scores=True)
    print(tuple(output.shape), tuple(scores.shape), layer.count_params())
"""

# %% [markdown]
r"""
Global attention needs fewer parameters, since its queries come ready-made from
the generator. Now the numbers.
"""

# %% tags=["active-ipynb"]
r"""
for kind in ("local", "global"):
    layer = WindowAttention(7, num_heads=2, global_query=kind == "global")
    difference = check.parity(layer, f"window_attention_{kind}")
    print(f"{kind:6}  max |Δ| / std = {difference:.5f}")
    assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
What do the weights look like? The figure shows those of the global layer above,
in its first window. Each small picture is one token of the global query, at
its place; in it, how much that query looks at each of the window's tokens.
"""

# %% mystnb={"figure": {"caption": "Attention weights of the official global layer, one small picture for each token of the global query. The bluer a cell, the more that token looks there.", "name": "figure-window-attention-weights"}, "image": {"alt": "Two heat maps, one for each head, of 7 by 7 small pictures of 7 by 7 pixels; each small picture shows where in the window one token of the global query looks."}} tags=["active-ipynb"]
r"""
inputs, _ = check.official("window_attention_global")
_, scores = layer(*inputs, return_attention_scores=True)
_, axes = plots.plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for head, axis in enumerate(axes):
    weights = ops.convert_to_numpy(scores)[0, head].reshape(7, 7, 7, 7)
    gap = ((0, 0), (0, 0), (0, 1), (0, 1))
    weights = np.pad(weights, gap, constant_values=np.nan)
    axis.imshow(weights.transpose(0, 2, 1, 3).reshape(56, 56))
    axis.set(title=f"head {head}", facecolor=plots.INK, xticks=[], yticks=[])
plots.plt.show()
"""

# %% [markdown]
r"""
The weights of this small model are random, so the patterns carry no meaning;
what they do show is that each query has its own.

## What can go wrong

The published Keras example reads the bias table without `axis=0`. `ops.take`
then reads from the flattened table: one number for all heads, and from the
wrong place. Shapes broadcast, nothing fails.
"""

# %% tags=["active-ipynb"]
r"""
class FlatTable(WindowAttention):
    def relative_position_bias(self):
        return ops.take(self.relative_position_bias_table, self.index)


layer = FlatTable(7, num_heads=2, global_query=False)
difference = check.parity(layer, "window_attention_local")
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
The second classic is a transposed index: key minus query instead of query minus
key. Left becomes right.
"""

# %% tags=["active-ipynb"]
r"""
class TransposedIndex(WindowAttention):
    def build(self, inputs_shape, q_global_shape=None):
        super().build(inputs_shape, q_global_shape)
        self.index = self.index.T


layer = TransposedIndex(7, num_heads=2, global_query=False)
difference = check.parity(layer, "window_attention_local")
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
A number of heads that does not divide the channels is an error when the layer
is built.
"""

# %% tags=["active-ipynb"]
r"""
try:
    WindowAttention(7, num_heads=3, global_query=False)(windows)
except ValueError as error:
    print(error)
"""

# %% [markdown]
r"""
## Summary

- One layer serves both attentions; they differ in where the queries come from.
- The relative position bias is one number for each offset and head, read with `axis=0`.
- Each image's global query goes to each of that image's windows: `repeat`, not `tile`.

## Exercises

1. How many rows has the bias table of a window of 14×14? Of 8×10?
2. Why has the global query just as many tokens as one window, however many windows there are?
3. A batch has two images of 64 windows. Which windows get the second image's query? What breaks with `tile` in place of `repeat`, and why does a test with one image not see it?
4. Write the local attention yourself, for windows of 7×7, 16 channels and two heads, with `ops.einsum` and no transposed heads. Check it with `check.layer(yours, "window_attention_local")`.

<details><summary>Answers to 1, 2 and 3</summary>

1. 27 · 27 = 729, and 15 · 19 = 285.
2. Its tokens stand in for the window's own queries. Each writes one token of the output, and the bias table says how far it is from each key. The number of windows plays no part in that.
3. Windows 64 to 127. With `tile`, every second window would get it, so each image would be asked the other's questions in half of its windows. With one image both give the same.

</details>

The solution to 4 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
class Einsum(layers.Layer):
    def build(self, input_shape):
        self.table = self.add_weight((169, 2))
        self.qkv = layers.Dense(3 * 16)
        self.proj = layers.Dense(16)

    def call(self, inputs):
        qkv = ops.reshape(self.qkv(inputs), (-1, 49, 3, 2, 8))
        q, k, v = ops.unstack(qkv, 3, axis=2)  # (B·M, N, heads, d)
        scores = ops.einsum("bqhd,bkhd->bqkh", q, k) / 8**0.5
        scores += ops.take(self.table, relative_position_index(7), axis=0)
        scores = ops.softmax(scores, axis=2)  # over the keys
        x = ops.einsum("bqkh,bkhd->bqhd", scores, v)
        return self.proj(ops.reshape(x, (-1, 49, 16)))


check.layer(Einsum(), "window_attention_local")
"""

# %% [markdown]
r"""
Next: [Block](block.ipynb) cuts a map into windows, and wraps this layer into a
transformer block.

To look up: [`WindowAttention`](api.md#gcvit.WindowAttention) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
