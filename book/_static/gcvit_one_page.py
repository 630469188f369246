# GCViT in Keras 3, on one page. https://github.com/gcvit-book/gcvit-book
# The code of the book's chapters, without its checks and explanations: written
# by tools/one_page.py, so do not edit it there.
# SPDX-License-Identifier: Apache-2.0
import operator

import keras
import numpy as np
from keras import layers, ops

# === Sizes ===


def size_pair(size):
    pair = size if np.iterable(size) else (size, size)
    height, width = (operator.index(side) for side in pair)
    return (height, width)


def halvings(map_size, window_size):
    height, width = map_size
    h, w = size_pair(window_size)
    fitting = (k for k in range(32) if (h << k, w << k) == (height, width))
    return next(fitting, None)


def check_map(map_size, window_size):
    height, width = size_pair(map_size)
    return halvings((height, width), window_size)


def windows_in(map_size, window_size):
    height, width = size_pair(map_size)
    h, w = size_pair(window_size)
    return (height // h, width // w)


def windows_per_image(windows, images):
    if isinstance(images, int):
        return windows // max(images, 1)
    return windows // ops.maximum(images, 1)


# === Chapter 1: Squeeze and excitation ===


class SqueezeAndExcitation(layers.Layer):
    def __init__(self, expansion=0.25, **kwargs):
        super().__init__(**kwargs)
        self.expansion = expansion

    def build(self, input_shape):
        dim = input_shape[-1]
        hidden_dim = int(dim * self.expansion)
        options = {"use_bias": False}
        self.fc = [
            layers.Dense(hidden_dim, activation="gelu", **options),
            layers.Dense(dim, activation="sigmoid", **options)]

    def call(self, inputs):
        x = ops.mean(inputs, axis=(1, 2), keepdims=True)  # (B, 1, 1, C)
        for layer in self.fc:
            x = layer(x)
        return x * inputs  # (B, H, W, C)


# === Chapter 2: Reduce size ===


def fused_mbconv(dim):
    # Channels last, whatever Keras's global image data format is.
    options = {"use_bias": False, "data_format": "channels_last"}
    branch = [
        layers.DepthwiseConv2D(
            3, padding="same", activation="gelu", **options),
        SqueezeAndExcitation(),
        layers.Conv2D(dim, 1, **options),
    ]
    for layer in branch:
        layer.build((None, None, None, dim))
    return branch


def add_fused_mbconv(x, branch):
    depthwise, squeeze_and_excitation, pointwise = branch
    y = squeeze_and_excitation(depthwise(x))
    rows = ops.reshape(y, (-1, y.shape[-1]))
    y = ops.reshape(ops.matmul(rows, pointwise.kernel[0, 0]), ops.shape(y))
    return x + y


class ReduceSize(layers.Layer):
    def __init__(self, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.keepdims = keepdims

    def build(self, input_shape):
        dim = input_shape[-1]
        output_dim = dim if self.keepdims else 2 * dim
        # PyTorch's epsilon; Keras's own is a hundred times larger.
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.conv = fused_mbconv(dim)
        self.reduction = layers.Conv2D(
            output_dim, 3, strides=2, use_bias=False,
            data_format="channels_last")
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)

    def call(self, inputs):
        x = add_fused_mbconv(self.norm1(inputs), self.conv)  # (B, H, W, C)
        # Not padding="same", which pads an even size on one side only.
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return self.norm2(self.reduction(x))  # (B, ⌈H/2⌉, ⌈W/2⌉, 2C)


# === Chapter 3: Patch embedding ===


class PatchEmbed(layers.Layer):
    def __init__(self, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim

    def build(self, input_shape):
        self.proj = layers.Conv2D(
            self.embed_dim, 3, strides=2, data_format="channels_last")
        self.conv_down = ReduceSize(keepdims=True)

    def call(self, inputs):
        # Keras casts floats to the layer's dtype, but not an image's bytes.
        x = ops.cast(inputs, self.compute_dtype)
        x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = self.proj(x)  # (B, ⌈H/2⌉, ⌈W/2⌉, embed_dim)
        return self.conv_down(x)  # (B, ⌈H/4⌉, ⌈W/4⌉, embed_dim)


# === Chapter 4: Feature extraction and the global query ===


class FeatureExtraction(layers.Layer):
    def __init__(self, keepdims=False, **kwargs):
        super().__init__(**kwargs)
        self.keepdims = keepdims

    def build(self, input_shape):
        self.conv = fused_mbconv(input_shape[-1])

    def call(self, inputs):
        x = add_fused_mbconv(inputs, self.conv)  # (B, H, W, C)
        if self.keepdims:
            return x
        # 3×3, stride 2. Zeros would win wherever the border is negative.
        x = ops.concatenate([x[:, :1], x, x[:, -1:]], axis=1)
        x = ops.concatenate([x[:, :, :1], x, x[:, :, -1:]], axis=2)
        return ops.max_pool(x, 3, strides=2, data_format="channels_last")


class GlobalQueryGenerator(layers.Layer):
    def __init__(self, keepdims, **kwargs):
        super().__init__(**kwargs)
        self.keepdims = keepdims

    def build(self, input_shape):
        self.to_q_global = [
            FeatureExtraction(keepdims) for keepdims in self.keepdims]

    def call(self, inputs):
        x = inputs
        for layer in self.to_q_global:
            x = layer(x)
        return x  # (B, h, w, C)


# === Chapter 5: Window attention ===


def relative_position_index(window_size):
    height, width = size_pair(window_size)
    rows, columns = np.indices((height, width)).reshape(2, -1)  # (N,), (N,)
    row_offset = rows[:, None] - rows + height - 1  # 0 … 2h - 2
    column_offset = columns[:, None] - columns + width - 1  # 0 … 2w - 2
    return row_offset * (2 * width - 1) + column_offset  # (N, N)


class WindowAttention(layers.Layer):
    def __init__(
            self, window_size, num_heads, global_query, qkv_bias=True,
            qk_scale=None, attention_dropout=0.0, projection_dropout=0.0,
            **kwargs):
        super().__init__(**kwargs)
        self.window_size = size_pair(window_size)
        self.num_heads, self.global_query = num_heads, global_query
        self.qkv_bias, self.qk_scale = qkv_bias, qk_scale
        self.attention_dropout = attention_dropout
        self.projection_dropout = projection_dropout

    def build(self, inputs_shape, q_global_shape=None):
        _, tokens, dim = inputs_shape
        head_dim = dim // self.num_heads
        self.scale = self.qk_scale or head_dim**-0.5
        height, width = self.window_size
        self.index = relative_position_index(self.window_size)
        self.relative_position_bias_table = self.add_weight(
            name="relative_position_bias_table",
            shape=((2 * height - 1) * (2 * width - 1), self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02))
        self.qkv = layers.Dense(
            dim * (2 if self.global_query else 3), use_bias=self.qkv_bias)
        self.attn_drop = layers.Dropout(self.attention_dropout)
        self.proj = layers.Dense(dim)
        self.proj_drop = layers.Dropout(self.projection_dropout)

    def split_heads(self, x, parts):
        height, width = self.window_size
        head_dim = x.shape[-1] // (parts * self.num_heads)
        shape = (-1, height * width, parts, self.num_heads, head_dim)
        return ops.transpose(ops.reshape(x, shape), (2, 0, 3, 1, 4))

    def relative_position_bias(self):
        bias = ops.take(self.relative_position_bias_table, self.index, axis=0)
        return ops.transpose(bias, (2, 0, 1))

    def call(
            self, inputs, q_global=None, return_attention_scores=False,
            windows=None, training=None):
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
        scores = scores + bias
        scores = ops.softmax(scores)
        # === Values: (B·M, N, C) ===
        x = ops.matmul(self.attn_drop(scores, training=training), v)
        x = ops.transpose(x, (0, 2, 1, 3))  # (B·M, N, heads, C / heads)
        x = self.proj(ops.reshape(x, (-1, dim)))  # (B·M·N, C)
        x = ops.reshape(x, (-1, *inputs.shape[1:]))
        x = self.proj_drop(x, training=training)
        return (x, scores) if return_attention_scores else x


# === Chapter 6: Block ===


def window_partition(x, window_size):
    rows, columns = windows_in(x.shape[1:3], window_size)
    h, w = size_pair(window_size)
    dim = x.shape[-1]
    x = ops.reshape(x, (-1, rows, h, columns, w, dim))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, h, w, dim))


def window_reverse(windows, window_size, height, width):
    rows, columns = windows_in((height, width), window_size)
    h, w = size_pair(window_size)
    dim = windows.shape[-1]
    x = ops.reshape(windows, (-1, rows, columns, h, w, dim))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, dim))


class DropPath(layers.Dropout):
    def __init__(self, rate, seed=None, **kwargs):
        one_per_image = (None, 1, 1, 1)
        super().__init__(
            rate, noise_shape=one_per_image, seed=seed, **kwargs)


class MLP(layers.Layer):
    def __init__(
            self, hidden_features=None, out_features=None, activation="gelu",
            dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.hidden_features, self.out_features = hidden_features, out_features
        self.activation, self.dropout = activation, dropout

    def build(self, input_shape):
        dim = input_shape[-1]
        hidden_features = self.hidden_features or dim
        output_dim = self.out_features or dim
        self.fc1 = layers.Dense(hidden_features, activation=self.activation)
        self.drop1 = layers.Dropout(self.dropout)
        self.fc2 = layers.Dense(output_dim)
        self.drop2 = layers.Dropout(self.dropout)

    def call(self, inputs, training=None):
        x = self.fc1(inputs)  # (…, hidden_features)
        x = self.drop1(x, training=training)
        x = self.fc2(x)  # (…, out_features)
        return self.drop2(x, training=training)


class Block(layers.Layer):
    def __init__(
            self, window_size, num_heads, global_query, mlp_ratio=4.0,
            qkv_bias=True, qk_scale=None, dropout=0.0, attention_dropout=0.0,
            path_drop=0.0, activation="gelu", layer_scale=None, **kwargs):
        super().__init__(**kwargs)
        self.window_size = size_pair(window_size)
        self.num_heads, self.global_query = num_heads, global_query
        self.mlp_ratio, self.qkv_bias = mlp_ratio, qkv_bias
        self.qk_scale, self.dropout = qk_scale, dropout
        self.attention_dropout, self.path_drop = attention_dropout, path_drop
        self.activation, self.layer_scale = activation, layer_scale

    def build(self, inputs_shape, q_global_shape=None):
        _, height, width, dim = inputs_shape
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attn = WindowAttention(
            self.window_size, self.num_heads, self.global_query,
            qkv_bias=self.qkv_bias, qk_scale=self.qk_scale,
            attention_dropout=self.attention_dropout,
            projection_dropout=self.dropout)
        self.drop_path1 = DropPath(self.path_drop)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.mlp = MLP(
            int(dim * self.mlp_ratio), activation=self.activation,
            dropout=self.dropout)
        self.drop_path2 = DropPath(self.path_drop)
        if self.layer_scale is not None:
            start = keras.initializers.Constant(self.layer_scale)
            self.gamma1 = self.add_weight((dim,), start, name="gamma1")
            self.gamma2 = self.add_weight((dim,), start, name="gamma2")

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


# === Chapter 7: Level ===


class Level(layers.Layer):
    def __init__(
            self, depth, num_heads, window_size, downsample=True,
            mlp_ratio=4.0, qkv_bias=True, qk_scale=None, dropout=0.0,
            attention_dropout=0.0, path_drop=0.0, layer_scale=None, **kwargs):
        super().__init__(**kwargs)
        self.depth, self.num_heads = depth, num_heads
        self.window_size = size_pair(window_size)
        self.downsample, self.mlp_ratio = downsample, mlp_ratio
        self.qkv_bias, self.qk_scale = qkv_bias, qk_scale
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.path_drop, self.layer_scale = path_drop, layer_scale

    def build(self, input_shape):
        count = check_map(input_shape[1:3], self.window_size)  # of halvings
        self.q_global_gen = GlobalQueryGenerator([False] * count or [True])
        path_drop = np.broadcast_to(self.path_drop, self.depth).tolist()
        self.blocks = [
            Block(
                self.window_size, self.num_heads, global_query=bool(i % 2),
                mlp_ratio=self.mlp_ratio, qkv_bias=self.qkv_bias,
                qk_scale=self.qk_scale, dropout=self.dropout,
                attention_dropout=self.attention_dropout,
                path_drop=path_drop[i], layer_scale=self.layer_scale)
            for i in range(self.depth)
        ]
        if self.downsample:
            self.down = ReduceSize()

    def refine(self, inputs, training=None):
        q_global = self.q_global_gen(inputs)  # (B, h, w, C)
        x = inputs
        for block in self.blocks:
            query = q_global if block.global_query else None
            x = block(x, query, training=training)
        return x  # (B, H, W, C)

    def call(self, inputs, training=None):
        x = self.refine(inputs, training)
        return self.down(x) if self.downsample else x


# === Chapter 8: Model ===


class GCViT(keras.Model):
    def __init__(
            self, window_size, embed_dim, depths, num_heads, drop_rate=0.0,
            mlp_ratio=3.0, qkv_bias=True, qk_scale=None, attention_dropout=0.0,
            path_drop=0.1, layer_scale=None, num_classes=1000,
            head_activation="softmax", **kwargs):
        super().__init__(**kwargs)
        self.window_size, self.embed_dim = window_size, embed_dim
        self.depths, self.num_heads = depths, num_heads
        self.drop_rate, self.mlp_ratio = drop_rate, mlp_ratio
        self.qkv_bias, self.qk_scale = qkv_bias, qk_scale
        self.attention_dropout, self.path_drop = attention_dropout, path_drop
        self.layer_scale, self.num_classes = layer_scale, num_classes
        self.head_activation = head_activation
        self.make_layers()

    def make_layers(self):
        rates = np.linspace(0, self.path_drop, sum(self.depths))
        rates = np.split(rates, np.cumsum(self.depths)[:-1])
        self.patch_embed = PatchEmbed(self.embed_dim)
        self.pos_drop = layers.Dropout(self.drop_rate)
        self.levels = [
            Level(
                depth, self.num_heads[i], self.window_size[i],
                downsample=i < len(self.depths) - 1, mlp_ratio=self.mlp_ratio,
                qkv_bias=self.qkv_bias, qk_scale=self.qk_scale,
                dropout=self.drop_rate,
                attention_dropout=self.attention_dropout, path_drop=rates[i],
                layer_scale=self.layer_scale)
            for i, depth in enumerate(self.depths)
        ]
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        pool = layers.GlobalAveragePooling2D
        self.pool = pool("channels_last")
        head = self.num_classes, self.head_activation
        # In float32 where the rest is in bfloat16: probabilities need it.
        self.head = layers.Dense(*head, name="head", dtype=self.variable_dtype)

    def call(self, inputs, training=None):
        x = self.pos_drop(self.patch_embed(inputs), training=training)
        for level in self.levels:  # (B, H / 4, W / 4, C) comes in
            x = level(x, training=training)
        return self.head(self.pool(self.norm(x)))  # (B, num_classes)


# === Use: XXTiny, for images of 224×224 pixels ===


XXTINY = {
    "window_size": (7, 7, 14, 7), "embed_dim": 64, "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 8, 16), "mlp_ratio": 3.0, "path_drop": 0.2}
if __name__ == "__main__":
    model = GCViT(**XXTINY)
    model(np.zeros((1, 224, 224, 3)))  # creates the variables
    print(f"{model.count_params():,} parameters")
