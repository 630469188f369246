# Generated from book/block.ipynb, digest 5d0d6852. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module block
# %% [markdown]
r"""
# Block

At the end of this chapter you have `Block`, the transformer block of GCViT,
and what it needs: `window_partition` and `window_reverse`, which cut a map
into windows and join them again, `MLP`, and `DropPath`.

About 30 minutes to read. Medium: reshapes and transposes take the most care.
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's parts sit in the model: `Block`, in its two kinds, inside each level, and the `MLP` inside the block.", "name": "figure-block-map"}, "image": {"alt": "Map of GCViT in four rows; the boxes Block (local), Block (global), more Blocks and MLP are highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("block")
"""

# %% [markdown]
r"""
## The idea

A transformer block does two things in turn. Attention lets tokens exchange
what they know. A small network, the [MLP](glossary.md#term-MLP), then works on
each token alone. Both are corrections: what they compute is added to what came
in.

The letters are those of the [previous chapter](window_attention.ipynb): $B$
images, $M$ windows in each image, $N = h \cdot w$ tokens in each window, $C$
channels.

A block receives a [map](glossary.md#term-map), `(B, H, W, C)`, and returns one of
the same shape. Attention wants windows, `(B·M, N, C)`. So the block cuts the map,
attends, and puts the windows back where they were.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "The two halves of a block: attention above, MLP below. Each half computes a correction and adds it to the map that it received, on the line above.", "name": "figure-block-steps"}, "image": {"alt": "Two rows of boxes. Above: x, norm1, cut into windows, attention, join, drop path, plus, y; a line carries x around them to the plus. Below: y, norm2, MLP, drop path, plus, z, and again a line that carries y to the plus."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(9.7, 5.2, figure_width=4.2)
attention = [("norm1", 1.5), ("cut", 1.0), ("attention", 1.9), ("join", 1.0)]
mlp = [("norm2", 1.5), ("MLP", 1.9)]
for y, half, names in ((3.3, attention, "xy"), (0.6, mlp, "yz")):
    axes.text(0.1, y, f"${names[0]}$", va="center", size=12)
    plots.arrow(axes, (0.4, y), (0.9, y))
    x = 0.9
    for part, width in [*half, ("drop\npath", 1.0)]:
        color = plots.HERE if part in ("attention", "MLP") else plots.PAPER
        plots.box(axes, x, y - 0.55, width, 1.1, part, color)
        x += width + 0.25
        plots.arrow(axes, (x - 0.25, y), (x, y))
    plots.box(axes, x, y - 0.3, 0.6, 0.6, "+")
    axes.plot([0.6, 0.6, x + 0.3], [y, y + 1.1, y + 1.1], color=plots.INK)
    plots.arrow(axes, (x + 0.3, y + 1.1), (x + 0.3, y + 0.3))
    plots.arrow(axes, (x + 0.6, y), (x + 1.0, y))
    axes.text(x + 1.1, y, f"${names[1]}$", va="center", size=12)
plots.plt.show()
"""

# %% [markdown]
r"""
In formulas, with the letters of the drawing and $\mathrm{LN}$ for layer
normalisation:

$$\begin{aligned}
y &= x + \mathrm{DropPath}\!\left(\gamma_1 \cdot \mathrm{Attention}(\mathrm{LN}_1(x))\right)\\
z &= y + \mathrm{DropPath}\!\left(\gamma_2 \cdot \mathrm{MLP}(\mathrm{LN}_2(y))\right)
\end{aligned}$$

`DropPath` acts in training only; below you see how. $\gamma_1$ and $\gamma_2$ are
the [layer scale](glossary.md#term-layer-scale): two vectors of $C$ learned
factors, which only the larger variants have. They start at `layer_scale`, which
is 0.00001 in those variants. So each block begins as almost the identity, and
learns how large its corrections should be. The idea is from
[CaiT](https://arxiv.org/abs/2103.17239), where it makes deep transformers easier
to train. The official class is `GCViTBlock` in
[NVlabs/GCVit](https://github.com/NVlabs/GCVit).

### By hand

Cutting is a reshape, a transpose, and a reshape. Take a map of 4×4 tokens with
one channel, and windows of 2×2. The first reshape splits the four rows into
2×2, the window's row and the row inside the window, and the four columns
likewise. The transpose brings the window's row and column together.

**Predict, then see.** The tokens are numbered from 0 to 15, row by row. Which
four of them will be in window 1, the second one, and in which order?
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np

small = np.arange(16).reshape(4, 4)
print(small)
x = small.reshape(2, 2, 2, 2)  # window's row, row, window's column, column
x = x.transpose(0, 2, 1, 3)  # window's row, window's column, row, column
print("windows", x.reshape(4, 4), sep="\n")
"""

# %% [markdown]
r"""
Each row of the second matrix is a window. Window 1 holds 2, 3, 6 and 7: the
square at the top right, in reading order. The windows, too, follow one another in
reading order.

## The code
"""

# %%
import keras
from keras import layers, ops

from gcvit import arguments, fast_ops
from gcvit.sizes import size_pair, windows_in
from gcvit.window_attention import WindowAttention


# %% [markdown]
r"""
### Windows

`window_partition` does the same with a batch and channels. It reads
`(B, H, W, C)` as `(B, H/h, h, W/w, w, C)`, swaps the two axes in the middle, `h`
and `W/w`, and merges the first three into one, `B·M`. `window_reverse` takes these
steps backwards.
"""


# %%
def window_partition(x, window_size):
    """Cut a map into windows that do not overlap.

    Shapes: `(B, H, W, C)` in, `(B·M, h, w, C)` out. The `M` windows of an
    image follow each other in reading order, then come the next image's.

    Args:
        x: the map, a tensor with static height, width and channels.
        window_size: height `h` and width `w`, an int or a pair; `h` divides
            `H`, and `w` divides `W`.

    Returns:
        The windows, a tensor.

    Raises:
        ValueError: if the windows do not fit the map.

    Source: `window_partition` in NVlabs/GCVit.
    """
    rows, columns = windows_in(x.shape[1:3], window_size)
    h, w = size_pair(window_size)
    dim = x.shape[-1]
    x = ops.reshape(x, (-1, rows, h, columns, w, dim))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, h, w, dim))


# %%
def window_reverse(windows, window_size, height, width):
    """Put windows together to the map they were cut from.

    Shapes: `(B·M, h, w, C)` or `(B·M, h·w, C)` in, `(B, H, W, C)` out.

    Args:
        windows: the windows, a tensor, in `window_partition`'s order.
        window_size: height `h` and width `w` of a window, an int or a pair.
        height: height `H` of the map, an int.
        width: width `W` of the map, an int.

    Returns:
        The map, a tensor.

    Raises:
        ValueError: if the windows do not fit the map.

    Source: `window_reverse` in NVlabs/GCVit.
    """
    rows, columns = windows_in((height, width), window_size)
    h, w = size_pair(window_size)
    dim = windows.shape[-1]
    x = ops.reshape(windows, (-1, rows, columns, h, w, dim))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, dim))


# %% [markdown]
r"""
Here is Chelsea the cat at 224×224 pixels, in windows of 56×56:
"""

# %% mystnb={"figure": {"caption": "A map, here a photograph, in 16 windows. Their numbers are their places in the batch.", "name": "figure-block-windows"}, "image": {"alt": "A cat's photograph cut into four by four windows, with dark gaps between them; the windows are numbered from 0 to 15 in reading order."}} tags=["active-ipynb"]
r"""
from skimage.data import chelsea
from skimage.transform import resize

photo = resize(chelsea()[:, 75:375], (224, 224), anti_aliasing=True)[None]
windows = ops.convert_to_numpy(window_partition(photo, 56))
whole = window_reverse(windows, 56, 224, 224)
_, axes = plots.plt.subplots(4, 4, figsize=(3.7, 3.7), layout="constrained")
for number, axis in enumerate(axes.flat):
    axis.imshow(windows[number, ::2, ::2])
    axis.set_title(number, fontsize=8, pad=2)
    axis.axis("off")
plots.show_photos()
print("and back:", bool(ops.all(whole == photo)))
"""

# %% [markdown]
r"""
Where does each token go? Here are two images of 4×6 tokens. Each token shows
its place in memory, counted through the batch row by row. On the right, each
row is a window of 2×3, as attention gets it: `(B·M, N)`.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Two images of 4\u00d76 tokens, cut into windows of 2\u00d73. The highlighted tokens lie apart in the map and together in window 2.", "name": "figure-block-partition"}, "image": {"alt": "Left, two images of 4 by 6 tokens with the numbers 0 to 47, row by row. Right, eight windows of six tokens, one per row. Tokens 12, 13, 14, 18, 19 and 20, two rows of three on the left, are highlighted; on the right they are window 2."}} tags=["active-ipynb", "hide-input"]
r"""
tokens = np.arange(48).reshape(2, 4, 6, 1)
cut = ops.convert_to_numpy(window_partition(tokens, (2, 3)))
axes = plots.canvas(17.6, 9, figure_width=4.2)
for title, x, name, names, table in (
    ("the map", 2.5, "image", (0, 4), tokens.reshape(8, 6)),
    ("the windows", 11.5, "window", range(8), cut.reshape(8, 6)),
):
    axes.text(x + 3, 8.5, title, ha="center")
    for number, row in enumerate(names):
        label = f"{name} {number}"
        place = (x - 0.2, 7.5 - row)
        axes.text(*place, label, size=8, ha="right", va="center")
    for (row, column), token in np.ndenumerate(table):
        color = plots.HERE if token in cut[2] else plots.PAPER
        plots.box(axes, x + column, 7 - row, 1, 1, str(token), color)
plots.plt.show()
"""

# %% [markdown]
r"""
Choose a token: point at it, tap it, or move with the arrow keys. On the left you
follow it to its window, on the right you follow it back. Below you see its index
after each step, and where it lies in memory. Try several: which steps move
tokens in memory, and which only read the same memory in another shape? Then try
windows of other shapes. One of them moves no token at all: why that one?

<details><summary>Answer</summary>

Only the transpose moves tokens; both reshapes read the same memory. Windows of
2×6 are as wide as the map, so the tokens of each lie one after the other in
memory already, and the transpose has nothing to move. So it is in windows of
one row.

</details>
"""

# %% tags=["active-ipynb", "hide-input"]
r"""
# The token at each place in the windows, and the place of each token.
def choice(window_size):
    windows = ops.convert_to_numpy(window_partition(tokens, window_size))
    places = np.arange(48).reshape(windows.shape)
    places = window_reverse(places, window_size, 4, 6)
    return {
        "window": window_size,
        "tokens": windows.flatten().tolist(),
        "places": ops.convert_to_numpy(places).flatten().tolist(),
    }


sizes = ((2, 3), (2, 2), (4, 3), (2, 6))
choices = [choice(window_size) for window_size in sizes]
data = {"map": (4, 6), "token": 20, "choices": choices}
plots.touch("window_partition", data)
"""

# %% [markdown]
r"""
### Stochastic depth

`DropPath` is dropout for whole branches. In training it sets a branch to zero
for some images of a batch, and divides it by 1 − rate for the others, so that
the mean stays the same.
For an image without the branch, the network is shallower, and
gradients have a shorter way back. Outside of training `DropPath` does nothing. The
idea is from [Huang et al.](https://arxiv.org/abs/1603.09382).

Keras's `Dropout` does exactly this if its noise has one entry for each image. So
nothing but that shape is left to write.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class DropPath(layers.Dropout):
    """Drop whole images from a residual branch while training.

    Shapes: `(B, H, W, C)` in and out.

    Args:
        rate: how likely an image's branch is set to zero, in [0, 1); the
            others are divided by `1 - rate`.
        seed: an int of at least 0, for the same choice in each run; `None`
            for any.

    Raises:
        ValueError: for another rate or seed.

    Source: Huang et al., arXiv 1603.09382; `DropPath` in timm.
    """

    def __init__(self, rate, seed=None, **kwargs):
        one_per_image = (None, 1, 1, 1)
        super().__init__(
            arguments.rate("rate", rate),
            noise_shape=one_per_image,
            seed=arguments.whole_number_or_none("seed", seed, least=0),
            **kwargs,
        )

    def get_config(self):
        config = super().get_config()
        del config["noise_shape"]  # not an argument here
        return config


# %% [markdown]
r"""
**Predict, then see.** A branch of eight images, all ones, passes `DropPath(0.5)`
in training. Which numbers can come out, and how many of each do you expect?
"""

# %% tags=["active-ipynb"]
r"""
branch = ops.ones((8, 2, 2, 1))
dropped = DropPath(0.5, seed=1)(branch, training=True)
print([float(value) for value in dropped[:, 0, 0, 0]])
"""

# %% [markdown]
r"""
Zeros and twos, since $1 / (1 - 0.5) = 2$. You expect four of each; chance decides
for each image on its own.

### The MLP

Two dense layers with the exact GELU between them. The first, `fc1`, widens each
token from $C$ channels to `hidden_features`, which in a block is `mlp_ratio`
times $C$. The second, `fc2`, brings it back to $C$. Both have a bias vector, and
dropout follows each.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class MLP(layers.Layer):
    """Two dense layers with an activation between them, for each token alone.

    Shapes: `(…, C)` in, `(…, out_features)` out.

    Args:
        hidden_features: width between the layers, an int; `None` takes `C`.
        out_features: width of the output, an int; `None` takes `C`.
        activation: a Keras activation, by name or as a function.
        dropout: dropout rate after each layer, in [0, 1).

    Source: `Mlp` in NVlabs/GCVit.
    """

    def __init__(
        self,
        hidden_features=None,
        out_features=None,
        activation="gelu",
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_features = arguments.whole_number_or_none(
            "hidden_features", hidden_features
        )
        self.out_features = arguments.whole_number_or_none(
            "out_features", out_features
        )
        self.activation = arguments.activation("activation", activation)
        self.dropout = arguments.rate("dropout", dropout)

    def build(self, input_shape):
        dim = input_shape[-1]
        hidden_features = self.hidden_features or dim
        output_dim = self.out_features or dim
        dtype = self.dtype_policy
        self.fc1 = layers.Dense(
            hidden_features,
            activation=fast_ops.activation(self.activation),
            dtype=dtype,
        )
        self.drop1 = layers.Dropout(self.dropout, dtype=dtype)
        self.fc2 = layers.Dense(output_dim, dtype=dtype)
        self.drop2 = layers.Dropout(self.dropout, dtype=dtype)
        self.fc1.build((None, dim))
        self.fc2.build((None, hidden_features))

    def call(self, inputs, training=None):
        x = self.fc1(inputs)  # (…, hidden_features)
        x = self.drop1(x, training=training)
        x = self.fc2(x)  # (…, out_features)
        return self.drop2(x, training=training)

    def compute_output_shape(self, input_shape):
        if self.out_features is None:
            return input_shape
        return (*input_shape[:-1], self.out_features)

    def get_config(self):
        return super().get_config() | arguments.given(self, MLP)


# %% [markdown]
r"""
### The block, step by step

1. `norm1`, a layer normalisation with epsilon $10^{-5}$, on the channels of each
   token. Then cut: `(B·M, N, C)`.
2. `attn`, a `WindowAttention`, told how many of them each image has. In a global
   block it also takes the global query.
3. Join the windows to a map again. If there is a layer scale, multiply by
   `gamma1`. Then `DropPath`, and add the block's input.
4. `norm2`, like `norm1`, on the sum. Then `mlp`, `gamma2`, another `DropPath`, and
   add the sum of step 3.

Both branches are dropped at the same rate, `path_drop`, independently of each
other.
`dropout` goes to the attention's output and to the MLP, `attention_dropout` to
the attention's weights.

A checkpoint finds the weights under `norm1`, `attn`, `norm2` and `mlp`, and inside
the MLP under `fc1` and `fc2`. `gamma1` and `gamma2`, where they exist, are the
block's own weights: `vars/0` and `vars/1`, in this order.

The MLP treats each token alone, so it need not know where the tokens lie. `call`
hands it all tokens as the rows of one matrix. A product of two matrices is what
libraries are best at: TensorFlow on a CPU then runs the first dense layer, its
bias and its GELU as one step. [Speed](speed.md) has the figures.
"""


# %%
@keras.saving.register_keras_serializable(package="gcvit")
class Block(layers.Layer):
    """A transformer block whose attention works in windows of the map.

    Shapes: `inputs` `(B, H, W, C)`; `q_global` `(B, h, w, C)`, with
    `global_query` only; out `(B, H, W, C)`.

    Args:
        window_size: height `h` and width `w` of a window, an int or a pair;
            `h` divides `H`, and `w` divides `W`.
        num_heads: number of attention heads, an int that divides `C`.
        global_query: whether the call takes `q_global`, a bool.
        mlp_ratio: hidden width of the MLP as a multiple of `C`, a finite float
            above 0.
        qkv_bias: whether queries, keys and values have a bias, a bool.
        qk_scale: factor of the queries, a finite float above 0; `None` takes
            `(C / num_heads) ** -0.5`.
        dropout: dropout rate of the attention's output and the MLP, in [0, 1).
        attention_dropout: dropout rate of the attention's weights, in [0, 1).
        path_drop: rate of stochastic depth, in [0, 1).
        activation: activation of the MLP, a name or a function.
        layer_scale: what the scale of each branch starts at, a finite float;
            `None` leaves the scales out.

    Raises:
        ValueError: for arguments that cannot work; when built, if the windows
            do not fit the map, or if `num_heads` does not divide `C`.

    Source: paper, section "Global Self-Attention"; `GCViTBlock` in
    NVlabs/GCVit.
    """

    def __init__(
        self,
        window_size,
        num_heads,
        global_query,
        mlp_ratio=4.0,
        qkv_bias=True,
        qk_scale=None,
        dropout=0.0,
        attention_dropout=0.0,
        path_drop=0.0,
        activation="gelu",
        layer_scale=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.window_size = size_pair(window_size)
        self.num_heads = arguments.whole_number("num_heads", num_heads)
        self.global_query = arguments.boolean("global_query", global_query)
        self.mlp_ratio = arguments.factor("mlp_ratio", mlp_ratio)
        self.qkv_bias = arguments.boolean("qkv_bias", qkv_bias)
        self.qk_scale = arguments.factor_or_none("qk_scale", qk_scale)
        self.dropout = arguments.rate("dropout", dropout)
        self.attention_dropout = arguments.rate(
            "attention_dropout", attention_dropout
        )
        self.path_drop = arguments.rate("path_drop", path_drop)
        self.activation = arguments.activation("activation", activation)
        self.layer_scale = arguments.number_or_none("layer_scale", layer_scale)

    def build(self, inputs_shape, q_global_shape=None):
        _, height, width, dim = inputs_shape
        windows_in((height, width), self.window_size)
        h, w = self.window_size
        dtype = self.dtype_policy
        self.norm1 = layers.LayerNormalization(epsilon=1e-5, dtype=dtype)
        self.attn = WindowAttention(
            self.window_size,
            self.num_heads,
            self.global_query,
            qkv_bias=self.qkv_bias,
            qk_scale=self.qk_scale,
            attention_dropout=self.attention_dropout,
            projection_dropout=self.dropout,
            dtype=dtype,
        )
        self.drop_path1 = DropPath(self.path_drop, dtype=dtype)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5, dtype=dtype)
        self.mlp = MLP(
            int(dim * self.mlp_ratio),
            activation=self.activation,
            dropout=self.dropout,
            dtype=dtype,
        )
        self.drop_path2 = DropPath(self.path_drop, dtype=dtype)
        if self.layer_scale is not None:
            start = keras.initializers.Constant(self.layer_scale)
            self.gamma1 = self.add_weight((dim,), start, name="gamma1")
            self.gamma2 = self.add_weight((dim,), start, name="gamma2")
        for layer in (self.norm1, self.norm2, self.mlp):
            layer.build((None, height, width, dim))
        self.attn.build((None, h * w, dim))

    def call(self, inputs, q_global=None, training=None):
        _, height, width, dim = inputs.shape
        h, w = self.window_size
        # === Attention ===
        x = window_partition(self.norm1(inputs), self.window_size)
        x = ops.reshape(x, (-1, h * w, dim))  # (B·M, N, C)
        windows = height * width // (h * w)  # M
        x = self.attn(x, q_global, windows=windows, training=training)
        x = window_reverse(x, self.window_size, height, width)
        if self.layer_scale is not None:
            x = x * self.gamma1
        x = inputs + self.drop_path1(x, training=training)  # (B, H, W, C)
        # === MLP ===
        y = ops.reshape(self.norm2(x), (-1, dim))  # (B·H·W, C)
        y = self.mlp(y, training=training)
        y = ops.reshape(y, (-1, height, width, dim))
        if self.layer_scale is not None:
            y = y * self.gamma2
        return x + self.drop_path2(y, training=training)  # (B, H, W, C)

    def compute_output_shape(self, inputs_shape, q_global_shape=None):
        return inputs_shape

    def get_config(self):
        return super().get_config() | arguments.given(self, Block)


# %% [markdown]
r"""
## The proof

Shapes and parameters of the two kinds, with the sizes of XXTiny's first level.
"""

# %% tags=["active-ipynb"]
r"""
x = keras.random.normal((1, 56, 56, 64), seed=0)
q_global = keras.random.normal((1, 7, 7, 64), seed=1)
for inputs in ([x], [x, q_global]):
    block = Block(7, 2, global_query=len(inputs) == 2, mlp_ratio=3.0)
    print(tuple(block(*inputs).shape), block.count_params(), "parameters")
"""

# %% [markdown]
r"""
Then the numbers, against the official blocks, a local one and a global one, for
two images.
"""

# %% tags=["active-ipynb"]
r"""
for kind in ("local", "global"):
    block = Block(7, 2, global_query=kind == "global", mlp_ratio=3.0)
    difference = check.parity(block, f"block_{kind}")
    print(f"{kind:6}  max |Δ| / std = {difference:.1e}")
    assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
### Layer scale

The official blocks of this proof have no layer scale. So prove it from its parts.
Take a block without it and one with `layer_scale=0.5`, and give both the same
weights. Then the scaled one must return what you compute by hand: each branch,
times one half, added to what it received.
"""

# %% tags=["active-ipynb"]
r"""
keras.utils.set_random_seed(0)  # for the blocks' own weights
x = keras.random.normal((2, 4, 4, 8), seed=0)
plain = Block(2, 2, global_query=False)
scaled = Block(2, 2, global_query=False, layer_scale=0.5)
outputs = plain(x), scaled(x)  # the first call builds a block
gammas = scaled.get_weights()[:2]
scaled.set_weights(gammas + plain.get_weights())

windows = ops.reshape(window_partition(plain.norm1(x), 2), (-1, 4, 8))
attention = window_reverse(plain.attn(windows), 2, 4, 4)
y = x + 0.5 * attention
z = ops.convert_to_numpy(y + 0.5 * plain.mlp(plain.norm2(y)))
difference = check.difference(scaled(x), z)
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
**Predict, then see.** Both branches are halved. Is the scaled block's whole
correction then half of the plain block's? And how far does a fresh block with
`layer_scale=1e-5` move its input?
"""

# %% tags=["active-ipynb"]
r"""
half = check.difference(x + 0.5 * (plain(x) - x), z)
print(f"half of the whole correction: off by {half:.2f}")
fresh = Block(2, 2, global_query=False, layer_scale=1e-5)
moved = check.difference(fresh(x), ops.convert_to_numpy(x))
print(f"layer_scale=1e-5 moves the input by {moved:.0e}")
"""

# %% [markdown]
r"""
It is not half. The second branch works on $y$, and with a halved first branch $y$
is different. The fresh block is almost the identity: what it adds is a few
hundred-thousandths of the input's standard deviation. The package's tests also
compare a model with layer scale with the official one.

## What can go wrong

**No transpose.** Without the transpose between the two reshapes, the windows
still have the right shape. They hold the wrong pixels: strips instead of squares.
"""

# %% mystnb={"figure": {"caption": "The first window, with the transpose and without it. The shapes are equal; the pixels are not.", "name": "figure-block-strips"}, "image": {"alt": "Left, the true first window. Right, the one cut without the transpose: the top 14 rows of the photograph, each broken into four lines."}} tags=["active-ipynb"]
r"""
strips = photo.reshape(-1, 56, 56, 3)
_, axes = plots.plt.subplots(1, 2, figsize=(3.7, 2.0), layout="constrained")
for axis, shown, title in zip(axes, (windows, strips), ("right", "wrong")):
    axis.imshow(shown[0])
    axis.set_title(title)
    axis.axis("off")
plots.show_photos()
"""

# %% [markdown]
r"""
If you cut and join without the transpose, the two still undo each other, and the
block runs without complaint. The check of numbers does not let it pass.
"""

# %% tags=["active-ipynb"]
r"""
class Strips(Block):
    def call(self, inputs, q_global=None, training=None):
        x = ops.reshape(self.norm1(inputs), (-1, 49, inputs.shape[-1]))
        x = inputs + ops.reshape(self.attn(x), inputs.shape)
        return x + self.mlp(self.norm2(x))


block = Strips(7, 2, global_query=False, mlp_ratio=3.0)
difference = check.parity(block, "block_local")
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
**A window that does not fit.** This is an error when the block is built.
"""

# %% tags=["active-ipynb"]
r"""
try:
    Block(3, 2, global_query=False)(x)
except ValueError as error:
    print(error)
"""

# %% [markdown]
r"""
## Summary

- A block adds two corrections to its map: attention in windows, and an MLP.
- Cutting a map into windows is reshape, transpose, reshape; the transpose is what makes squares.
- `DropPath` is dropout with one noise entry for each image.

## Exercises

1. (2 minutes, easy) A batch of 4 maps of 28×28 is cut into windows of 7×7. What is the batch size of the windows?
2. (3 minutes, easy) With `path_drop=0.2`, by what is a branch multiplied in training, and how often?
3. (5 minutes, medium) A fresh block with `layer_scale=1e-5` is almost the identity. Why does it still learn, although its branches hardly count?
4. (5 minutes, medium) Leave out the transpose in the cut and in the join. Then joining still undoes cutting. Which tokens of a map of 28×28 are in its first window of 7×7, and what breaks?
5. (15 minutes, easy) An experiment. A branch whose last dense layer has only zeros for its kernel and its bias adds nothing. Silence all eight attentions of `nano` in this way, at `attn.proj`; then, with these restored, all eight MLPs, at `mlp.fc2`. Does `nano` still recognise Chelsea? Predict which of the two it can do without.
6. (30 minutes, medium) Write the local block yourself, for a map of 28×28, 16 channels, windows of 7×7, two heads and an MLP three times as wide. Cut the map with `ops.image.extract_patches`. Check it with `check.layer(yours, "block_local")`.

<details><summary>Answer to 1</summary>

Each map has 4 · 4 = 16 windows, so 64.

</details>

<details><summary>Answer to 2</summary>

By zero for one image in five on average, and by 1 / 0.8 = 1.25 for the others.

</details>

<details><summary>Answer to 3</summary>

The factors $\gamma_1$ and $\gamma_2$ are learned, too. Their gradients contain the branches' outputs in full size, so they can grow at once wherever a branch helps. The gradients of the layers inside a branch contain the factors, and grow with them.

</details>

<details><summary>Answer to 4</summary>

The first 49 in reading order: row 0, and the left three quarters of row 1. So tokens from both ends of the map attend to one another, and neighbours in the rows below do not. Shapes, names and the way back are right, and only the numbers tell.

</details>

<details><summary>Answer to 5</summary>

Without its MLPs `nano` still says cat, with less confidence. Without its attentions it does not. That is one picture, and a model that was never trained with parts missing. The MLPs may still be needed for others.

</details>

The solutions to 5 and 6 are code. They are folded below, and were run.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 5", "code_prompt_show": "Show the solution to 5"} tags=["active-ipynb", "hide-cell"]
r"""
from gcvit import class_names, decode_predictions, from_pretrained, preprocess

nano = from_pretrained("nano")
cat = preprocess(chelsea(), 64)
blocks = [block for level in nano.levels for block in level.blocks]


def show_answer(title, silent=()):
    stored = [dense.get_weights() for dense in silent]
    for dense, weights in zip(silent, stored):
        dense.set_weights([0 * weight for weight in weights])
    answers = decode_predictions(nano(cat), class_names("nano"), top=2)
    print(f"{title:13}", *(f"{name} {p:.2f}" for name, p in answers[0]))
    for dense, weights in zip(silent, stored):
        dense.set_weights(weights)


show_answer("whole")
show_answer("no attention", [block.attn.proj for block in blocks])
show_answer("no MLP", [block.mlp.fc2 for block in blocks])
"""

# %% mystnb={"code_prompt_hide": "Hide the solution to 6", "code_prompt_show": "Show the solution to 6"} tags=["active-ipynb", "hide-cell"]
r"""
class Patches(layers.Layer):
    def build(self, input_shape):
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attn = WindowAttention(7, num_heads=2, global_query=False)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.mlp = MLP(3 * 16)

    def call(self, inputs):
        x = ops.image.extract_patches(self.norm1(inputs), 7)
        x = self.attn(ops.reshape(x, (-1, 49, 16)))
        x = inputs + window_reverse(x, 7, 28, 28)
        return x + self.mlp(self.norm2(x))


check.layer(Patches(), "block_local")
"""

# %% [markdown]
r"""
Next: [Level](level.ipynb) stacks blocks of both kinds on one global query.

To look up: [`Block`](api.md#gcvit.Block),
[`MLP`](api.md#gcvit.MLP),
[`DropPath`](api.md#gcvit.DropPath),
[`window_partition`](api.md#gcvit.window_partition),
[`window_reverse`](api.md#gcvit.window_reverse) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
