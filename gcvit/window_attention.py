# Generated from book/window_attention.ipynb, digest d503cb20. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module window_attention
# %% [markdown]
r"""
# Window attention

At the end of this chapter you have `WindowAttention`, the heart of GCViT: one
layer for both of its attentions. In local attention, each window attends to
itself. In global attention, a summary of the whole map asks the questions, and
each window answers them.

About 35 minutes to read. Medium: matrix products and a softmax, and many axes to
keep in order.
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's part sits in the model: `WindowAttention` is inside every block, next to the MLP.", "name": "figure-window-attention-map"}, "image": {"alt": "Map of GCViT in four rows; the box WindowAttention in the lowest row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("window_attention")
"""

# %% [markdown]
r"""
## The idea

In attention, each token asks a question and offers an answer. The question is
its [query](glossary.md#term-query). Its [key](glossary.md#term-key) says what
the answer is about, and its [value](glossary.md#term-value) is the answer
itself. Each query is compared with all keys, the comparison becomes weights, and
the weights mix the values.

Among all 3,136 tokens of a 56×56 map that would be 9.8 million comparisons. In
windows of 7×7, each token is compared with 49 tokens only, itself among them.
That makes 154 thousand. The price is that a token learns nothing from outside
its window.

GCViT alternates two kinds of attention.

- **Local**: queries, keys and values are all made from the window's own tokens.
- **Global**: keys and values are made from the window. The queries are not: they
  are the [global query](glossary.md#term-global-query) of the
  [previous chapter](feature_extraction.ipynb), a summary of the whole map. All
  windows of an image get the same one.

Each query produces one token of the output: the query at place $p$ writes the
token at place $p$ of its window. In global attention it writes that token in every
window. So the global query must be exactly as large as a window.

The queries alone carry news from the rest of the map. They decide how the values
of a window are mixed, and the values are still the window's own. In
[Live](live.ipynb) you can see both kinds at work on a photograph of yours.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "The two kinds of attention differ in one thing, the origin of the queries. Highlighted: in global attention they come from the whole map.", "name": "figure-window-attention-kinds"}, "image": {"alt": "Two diagrams. Local attention: queries, keys and values all come from the window. Global attention: keys and values come from the window, the queries come from the whole map."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(7.4, 11.2, figure_width=4.2)
for y, title in ((5.9, "local"), (0.2, "global")):
    axes.text(3.6, y + 4.7, title, ha="center", weight="bold")
    plots.tensor(axes, 0.1, y + 0.3, 1.9, 1.9, "window", cells=(7, 7))
    source = (2.0, y + 1.7)
    if title == "global":
        square = (0.1, y + 2.6, 1.9, 1.9)
        plots.tensor(axes, *square, "whole\nmap", plots.HERE, (7, 7))
        source = (2.0, y + 3.5)
    for up, name in ((3.1, "queries"), (1.9, "keys"), (0.7, "values")):
        is_new = (name, title) == ("queries", "global")
        color = plots.HERE if is_new else plots.PAPER
        plots.tensor(axes, 3.0, y + up, 1.5, 0.8, name, color)
        start = source if name == "queries" else (2.0, y + 1.2)
        plots.arrow(axes, start, (3.0, y + up + 0.4))
        plots.arrow(axes, (4.5, y + up + 0.4), (5.4, y + 1.9 + 0.16 * up))
    plots.box(axes, 5.4, y + 1.5, 1.8, 1.6, "attention")
plots.plt.show()
"""

# %% [markdown]
r"""
Six numbers make up the shapes of this chapter:

| name | what it counts |
| --- | --- |
| $B$ | images in the batch |
| $M$ | windows in one image |
| $N$ | tokens in one window, $N = h \cdot w$ for a window $h$ high and $w$ wide |
| $C$ | channels of a token |
| heads | [heads](glossary.md#term-head): slices of the channels, each of which attends on its own |
| $d$ | channels of one head, $d = C / \text{heads}$ |

The windows of all images lie in one batch, `(B·M, N, C)`, image after image.

One word needs care. **A query** is one vector: each place of a window has one in
each head, with $d$ numbers. **The global query** is a whole tensor: one for each
image, `(h, w, C)`. It holds the queries of all $N$ places and all heads.

For one window and one head, $q$, $k$ and $v$ are matrices with a row for each of
the $N$ tokens. $b$ is a matrix of biases: $b_{ij}$ depends on where token $i$
lies, seen from token $j$. Then

$$A = \mathrm{softmax}\!\left(\frac{q\,k^\top}{\sqrt{d}} + b\right),
\qquad y = A\,v$$

Row $i$ of the scores belongs to query $i$, column $j$ to key $j$. The softmax
runs over the keys, so the weights of each query sum to 1. A score is a sum over
$d$ products, and would grow with $d$; dividing by $\sqrt{d}$ prevents that.

The outputs of all heads are then joined again, and a last dense layer, `proj`,
mixes them.

The paper describes the global kind in its section "Global Self-Attention"; the
official classes are `WindowAttention` and `WindowAttentionGlobal` in
[NVlabs/GCVit](https://github.com/NVlabs/GCVit). The local kind and the bias are
those of [Swin Transformer](https://arxiv.org/abs/2103.14030).

### By hand

Take one window of 2×2 tokens, with one head and one channel, so that
$\sqrt{d} = 1$. In reading order the tokens are 0, 1, 1 and 2.

The bias comes first. A query and a key are at most one row and one column apart:
$-1$, 0 or 1, counted from the key to the query. That makes $3 \cdot 3 = 9$
offsets. Add 1 to the rows and to the columns, so that nothing is negative, and
number the offsets row by row, from 0 to 8.
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np

rows = np.array([0, 0, 1, 1])  # of the tokens, in reading order
columns = np.array([0, 1, 0, 1])
row_offset = rows[:, None] - rows  # query minus key
column_offset = columns[:, None] - columns
small_index = 3 * (row_offset + 1) + (column_offset + 1)
print(small_index)
"""

# %% [markdown]
r"""
A row of this matrix is a query, a column is a key. Take row 1, column 2: the
query is at the top right, the key at the bottom left. So the query lies one row
up ($-1$) and one column to the right ($+1$), and the number is
$3 \cdot (-1 + 1) + (1 + 1) = 2$. On the diagonal each token meets itself. That
is offset (0, 0), number 4.

A table has one bias for each of the nine numbers, and the index looks it up. Let
number 5 have the bias $\ln 2 \approx 0.693$: its offset is (0, 1), a query with
the key on its left. All other biases are 0.
"""

# %% tags=["active-ipynb"]
r"""
ln2 = np.log(2)
table = np.zeros(9)
table[5] = ln2
bias = table[small_index]
print(bias.round(3))
"""

# %% [markdown]
r"""
Now queries, keys and values. Let the queries be the tokens times $\ln 2$, and
keys and values the tokens themselves. Then each score is a whole number times
$\ln 2$, and $e^{\text{score}}$ is a power of two. That is a softmax that you can
do in your head.
"""

# %% tags=["active-ipynb"]
r"""
x = np.array([0, 1, 1, 2])
q, k, v = ln2 * x, x, x
scores = np.outer(q, k) + bias
powers = np.exp(scores)
print("scores / ln 2", (scores / ln2).round().astype(int), sep="\n")
print("exp(scores)", powers.round().astype(int), sep="\n")
"""

# %% [markdown]
r"""
**Predict, then see.** The weights are each row of powers, divided by the row's
sum. Which weights does token 1, in the second row, give to the four tokens? And
which output does it get?
"""

# %% tags=["active-ipynb"]
r"""
weights = powers / powers.sum(axis=1, keepdims=True)
print("weights", weights.round(3), sep="\n")
print("output", (weights @ v).round(3))
"""

# %% [markdown]
r"""
The powers of token 1 are 2, 2, 2 and 4. Their sum is 10, so the weights are 0.2,
0.2, 0.2 and 0.4, and the output is
$0.2 \cdot 0 + 0.2 \cdot 1 + 0.2 \cdot 1 + 0.4 \cdot 2 = 1.2$. Without the bias
the first power would be 1: the bias doubles it, for the key on the left.
Token 0 has the query 0 and no key on its left, so all its scores are 0, and it
gets the plain mean of the values.

## The code
"""

# %%
import keras
import numpy as np
from keras import layers, ops

from gcvit import arguments, fast_ops
from gcvit.sizes import check_tokens, size_pair, windows_per_image


# %% [markdown]
r"""
### Where a token is

Without a bias, attention does not know where its tokens are. Shuffle the tokens
of a window: local attention gives the same outputs, shuffled the same way, and
global attention gives the same outputs in the same order. The bias is what tells
places apart.

In a window of $h \times w$ tokens the row offset runs from $-(h-1)$ to $h-1$,
and the column offset from $-(w-1)$ to $w-1$. That makes $(2h-1)(2w-1)$ offsets;
169 for 7×7. With both shifted to start at 0, an offset has the number

$$(\text{row offset} + h - 1) \cdot (2w - 1) + (\text{column offset} + w - 1),
\qquad \text{offset} = \text{query's place} - \text{key's place}.$$

The bias table has one row for each offset and one column for each head. The index
says which of its rows each pair of tokens reads. Each query in the global query
has a place, too: the one that it fills in the window.

Windows may be square or not; [`size_pair`](api.md#gcvit.sizes.size_pair) makes a
(height, width) pair of what you pass.
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
Pairs with the same offset share a number, so the matrix has stripes: one step
along a diagonal moves query and key together.
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
### The layer, step by step

The inputs are `(B·M, N, C)`. A local layer is called as `layer(windows)`, a global
one as `layer(windows, q_global)`. In local attention:

1. **Queries, keys, values.** One dense layer, `qkv`, turns the $C$ channels of
   each token into $3C$: first all channels of the query, then the key's, then
   the value's. Inside each of the three, head 0 has the first $d$ channels, head
   1 the next. So the output is reshaped to `(B·M, N, 3, heads, d)`, and its third
   axis taken apart.
2. **Scores.** The queries are multiplied by the scale: `qk_scale`, or
   $1/\sqrt{d}$ if that is `None`. In each window and each head, the product of
   all queries with all keys gives `(B·M, heads, N, N)`.
3. **Bias.** The layer owns one weight, `relative_position_bias_table`, of shape
   `((2h-1)·(2w-1), heads)`. It begins as small random numbers, a truncated normal
   distribution with standard deviation 0.02. The index looks up `(N, N, heads)`
   in it; with the heads in front, that is added to the scores of every window.
4. **Weights.** A softmax over the last axis, the keys; then dropout.
5. **Mixing.** Weights times values: `(B·M, heads, N, d)`. The heads are put side
   by side again, head 0 first: `(B·M, N, C)`.
6. **Projection.** The dense layer `proj`, from $C$ to $C$; then dropout.

With `return_attention_scores=True` a call returns the weights of step 4, too,
from before the dropout.

Global attention differs in the first step only. `qkv` has $2C$ outputs, first the
key's, then the value's. The queries are the global query itself, without a dense
layer: `(B, h, w, C)` is reshaped to `(B, N, heads, d)`, with its tokens in
reading order. There are $B$ of these and $B \cdot M$ windows, so each image's
queries are repeated $M$ times along the batch. A block knows $M$ from its map, and
gives it as `windows`. Without it, the layer divides the number of windows by that of
images. The scale, the bias and the rest are as before.

Both dense layers have a bias vector; `qkv_bias=False` leaves it out of `qkv`. A
checkpoint finds the weights by the attributes' names: the kernel and the bias of
`qkv` and of `proj`, and the table as the layer's own first weight. In the file
they are `vars/0` for the table, and `vars/0` and `vars/1` inside `qkv` and
`proj`.

In the code, the dense layers take the tokens of all windows as the rows of one
matrix, because JAX trains that faster on a CPU. The numbers are the same. So they
are with `fast_ops.add_to_each`: it adds the bias to the scores of each window,
and JAX on a CPU gets a faster gradient of that sum.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class WindowAttention(layers.Layer):
    """Attention inside windows, with their own queries or with a global one.

    Shapes: `inputs` `(B·M, N, C)`, the `M` windows of each of `B` images one
    after the other, `N = h * w` tokens in reading order; `q_global`
    `(B, h, w, C)`; out `(B·M, N, C)`. With `return_attention_scores=True`, a
    pair: the output, and the weights after the softmax, `(B·M, heads, N, N)`.
    `windows` is `M`, an int, where the caller knows it: a file that `export`
    writes has it as a number then, not as a quotient.

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
        windows=None,
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
            q = ops.repeat(q, windows or windows_per_image(*batches), axis=0)
        else:
            q, k, v = ops.unstack(self.split_heads(tokens, 3), 3)
        # === Weights: (B·M, heads, N, N) ===
        scores = ops.matmul(q * self.scale, ops.swapaxes(k, -2, -1))
        bias = self.relative_position_bias()  # (heads, N, N)
        scores = fast_ops.add_to_each(scores, bias)
        scores = ops.softmax(scores)
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
        windows=None,
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
> With one image there is no difference. With two, half of each image's windows
> get the other image's queries. timm used `tile` up to and including version
> 1.0.30.

## The proof

The example by hand comes first. The weights are set so that queries, keys and
values are those from above, and `proj` changes nothing.
"""

# %% tags=["active-ipynb"]
r"""
def filled(global_query, qkv_kernel):
    layer = WindowAttention(2, num_heads=1, global_query=global_query)
    layer.build((None, 4, 1))
    qkv_bias = [0 for _ in qkv_kernel]
    weights = [table[:, None], [qkv_kernel], qkv_bias, [[1]], [0]]
    layer.set_weights([np.array(weight) for weight in weights])
    return layer


window = x.reshape(1, 4, 1).astype("float32")
local = filled(False, [ln2, 1, 1])
print(ops.convert_to_numpy(local(window)).ravel().round(3))
"""

# %% [markdown]
r"""
The same four numbers.

**Predict, then see.** A global layer with the same table takes the queries that
the local layer has just made, $\ln 2$ times the tokens, as its global query. What
comes out?
"""

# %% tags=["active-ipynb"]
r"""
layer = filled(True, [1, 1])
q_global = q.reshape(1, 2, 2, 1).astype("float32")
print(ops.convert_to_numpy(layer(window, q_global)).ravel().round(3))
"""

# %% [markdown]
r"""
The same again. The two kinds differ in the origin of their queries, and in
nothing else.

Now shapes and parameters, for the first level of XXTiny: one image, 64 windows
of 49 tokens.
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
Global attention has fewer parameters, since its queries come ready-made from
the generator: $64 \cdot 64 + 64 = 4160$ are missing, one third of `qkv`.

Then the numbers, against the official layers, for two images. For each layer,
two windows are stored.
"""

# %% tags=["active-ipynb"]
r"""
for kind in ("local", "global"):
    layer = WindowAttention(7, num_heads=2, global_query=kind == "global")
    difference = check.parity(layer, f"window_attention_{kind}")
    print(f"{kind:6}  max |Δ| / std = {difference:.1e}")
    assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
### What a trained layer attends to

The official layers of this proof have random weights. So borrow one that has
learned: the first global attention of `nano`, this book's own small model, which
the chapter [Pretrained](pretrained.ipynb) presents. Its windows are 4×4, and it
has one head. It looks at Chelsea the cat, whose map has 16 windows.

Does a query prefer its own row of the window? An even share for each of the four
rows would be 0.25. The first number is the share of its own row from the bias
table alone, with all products of queries and keys set to zero. The others are
from the attention itself.
"""

# %% tags=["active-ipynb"]
r"""
from skimage.data import chelsea

from gcvit import from_pretrained, preprocess, window_partition

nano = from_pretrained("nano")
x = nano.patch_embed(preprocess(chelsea(), 64))  # (1, 16, 16, 32)
level = nano.levels[0]
block = level.blocks[1]
windows = window_partition(block.norm1(level.blocks[0](x)), 4)
windows = ops.reshape(windows, (16, 16, 32))  # (M, N, C)
_, scores = block.attn(
    windows, level.q_global_gen(x), return_attention_scores=True
)
"""

# %% tags=["active-ipynb"]
r"""
def own_row(weights):
    rows = ops.convert_to_numpy(weights).reshape(-1, 4, 4, 4, 4)
    return np.einsum("brcrk->b", rows) / 16  # the mean over the 16 queries


bias_alone = ops.softmax(block.attn.relative_position_bias())
shares = own_row(scores)
print(f"the bias alone  {own_row(bias_alone)[0]:.2f}")
print(f"the 16 windows  {shares.min():.2f} to {shares.max():.2f}")
"""

# %% mystnb={"figure": {"caption": "Attention weights of `nano`'s first global layer on a photograph of a cat, one small picture for each of the 16 queries, at its place in the window. In it, the bluer a token, the larger its weight. The mean shows a stripe in each query's own row; a single window shows its content, too. Each half has its own scale.", "name": "figure-window-attention-weights"}, "image": {"alt": "Two heat maps of 4 by 4 small pictures of 4 by 4 tokens. Left, the mean of 16 windows: in the small pictures of each row, that same row of tokens is bluest. Right, one window: the pattern is uneven, with single dark tokens."}} tags=["active-ipynb"]
r"""
scores = ops.convert_to_numpy(scores)[:, 0]  # one head
_, axes = plots.plt.subplots(1, 2, figsize=(4.2, 2.3), layout="constrained")
pictures = ("mean of 16 windows", scores.mean(0)), ("window 5", scores[5])
for axis, (title, weights) in zip(axes, pictures):
    gap = ((0, 0), (0, 0), (0, 1), (0, 1))
    weights = np.pad(
        weights.reshape(4, 4, 4, 4), gap, constant_values=np.nan
    )
    weights = weights.transpose(0, 2, 1, 3).reshape(20, 20)
    axis.imshow(weights[:-1, :-1], vmin=0)
    axis.set_title(title, fontsize=10)
    axis.set(facecolor=plots.INK, xticks=[], yticks=[])
plots.plt.show()
"""

# %% [markdown]
r"""
What can be seen is modest. On average, this layer prefers the row in which the
query lies, and the bias table alone already has that preference. In one window,
single tokens stand out, because there queries and keys take part. The pictures do
not say what such a token means to the model, or how much it matters for the
answer. [Level](level.ipynb) lays these weights over the photograph.

## What can go wrong

**Tiled queries.** The mistake of the note above is worth a run. This layer
tiles the global query first, so that the `repeat` inside has nothing left to
do.

**Predict, then see.** It runs on the two windows of one image, and on the four
windows of two. How far is it from the official numbers in each case?
"""

# %% tags=["active-ipynb"]
r"""
class Tiled(WindowAttention):
    def call(self, inputs, q_global):
        times = len(inputs) // len(q_global)
        return super().call(inputs, ops.tile(q_global, (times, 1, 1, 1)))


layer = Tiled(7, num_heads=2, global_query=True)
difference = check.parity(layer, "window_attention_global")
inputs, expected = check.official("window_attention_global")
windows, q_global = inputs
alone = check.difference(layer(windows[:2], q_global[:1]), expected[:2])
print(f"one image:   max |Δ| / std = {alone:.1e}")
print(f"two images:  max |Δ| / std = {difference:.2f}")
assert alone < check.TOLERANCE
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
With one image it is right. A proof with one image would pass it, and each image
of a batch would then depend on its neighbours. That is why the proofs of this
book run on two.

**A flat bias table.** The published Keras example reads the bias table without
`axis=0`. `ops.take` then reads from the flattened table: one number for all
heads, and from the wrong place. The shapes broadcast, and nothing fails.
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
**A transposed index.** Key minus query in place of query minus key: left becomes
right, and up becomes down.
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
**Heads that do not divide the channels.** This one is loud: an error when the
layer is built.
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

1. (3 minutes, easy) How many rows does the bias table have for a window of 14×14? For one of 8×10?
2. (5 minutes, easy) Compute the output of token 3 in the example by hand.
3. (5 minutes, medium) Why does the global query have exactly as many tokens as one window, no matter how many windows there are?
4. (5 minutes, medium) A batch has two images of 64 windows each. Which windows get the second image's queries? Which would get them with `tile`, and why would a test with one image not notice?
5. (15 minutes, medium) An experiment. Take all positions away from `nano`: set every `relative_position_bias_table` in its four levels to zero. Does it still recognise Chelsea? And if you do so only in the local blocks, or only in the global ones? Predict before you run it.
6. (30 minutes, hard) Write the local attention yourself, for windows of 7×7, 16 channels and two heads, with `ops.einsum` and without transposing the heads. Check it with `check.layer(yours, "window_attention_local")`.

<details><summary>Answer to 1</summary>

27 · 27 = 729, and 15 · 19 = 285.

</details>

<details><summary>Answer to 2</summary>

Its row of scores, over $\ln 2$, is 0, 2, 2 and 4, plus 1 for token 2, the key on its left. So the powers are 1, 4, 8 and 16, with the sum 29. The output is $(1 \cdot 0 + 4 \cdot 1 + 8 \cdot 1 + 16 \cdot 2) / 29 = 44 / 29 \approx 1.517$.

</details>

<details><summary>Answer to 3</summary>

Its tokens stand in for the window's own queries. Each writes one token of the output, and the bias table says how far it is from each key. The number of windows plays no part in that: all of them get the same queries.

</details>

<details><summary>Answer to 4</summary>

Windows 64 to 127. With `tile`, every second window would get them, those with odd numbers: so half of each image's windows would be asked the other image's questions. With one image, `repeat` and `tile` give the same.

</details>

<details><summary>Answer to 5</summary>

Yes, in all cases. The cat keeps the largest probability, and loses some of it when the local blocks have no biases; without those of the global blocks nothing is lost. So for this picture the biases help, and the model does not depend on them. One picture proves no more than that.

</details>

The solutions to 5 and 6 are code. They are folded below, and were run.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 5", "code_prompt_show": "Show the solution to 5"} tags=["active-ipynb", "hide-cell"]
r"""
from gcvit import class_names, decode_predictions

cat = preprocess(chelsea(), 64)
attentions = [b.attn for level in nano.levels for b in level.blocks]
tables = [attn.relative_position_bias_table for attn in attentions]
stored = [ops.convert_to_numpy(table) for table in tables]
for title, kinds in (
    ("all biases", []),
    ("none in local blocks", [False]),
    ("none in global blocks", [True]),
    ("no bias at all", [False, True]),
):
    for attn, table, values in zip(attentions, tables, stored):
        table.assign(0 * values if attn.global_query in kinds else values)
    answers = decode_predictions(nano(cat), class_names("nano"), top=2)
    print(f"{title:21}", *(f"{name} {p:.2f}" for name, p in answers[0]))
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 6", "code_prompt_show": "Show the solution to 6"} tags=["active-ipynb", "hide-cell"]
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
