"""Compare ways to write a part of the model.

    make benchmark

Writes `benchmarks/parts.md`: how many times as fast the other way is, on each
backend, for the forward pass and for the gradients. Batches of 8, float32,
shapes of XXTiny at 224 pixels. The two ways take turns in one process.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TABLE = Path(__file__).with_name("parts.md")
REPETITIONS = 9
# Column of the table: Keras's backend, and whether TensorFlow uses XLA.
COLUMNS = {
    "TensorFlow": ("tensorflow", False),
    "TensorFlow, XLA": ("tensorflow", True),
    "PyTorch": ("torch", False),
    "JAX": ("jax", True),
}
LAST = {"data_format": "channels_last"}


def parts():
    """Each part: its name, both ways to write it, and its inputs' shapes."""
    from keras import ops

    from gcvit import fast_ops

    def depthwise(x, kernel):
        kernel = kernel[..., None]
        return ops.depthwise_conv(x, kernel, padding="same", **LAST)

    def pointwise(x, kernel):
        return ops.matmul(x, kernel[0, 0])

    def pointwise_convolution(x, kernel):
        return ops.conv(x, kernel, **LAST)

    def halving(x, kernel):
        return ops.conv(x, kernel, strides=2, **LAST)

    def pooling(x):
        return ops.max_pool(x, 3, strides=2, **LAST)

    def attention(qkv, bias):
        qkv = ops.reshape(qkv, (-1, 49, 3, 2, 32))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3)
        scores = ops.matmul(q * 32**-0.5, ops.swapaxes(k, -2, -1)) + bias
        x = ops.matmul(ops.softmax(scores), v)
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, 49, 64))

    def attention_by_keras(qkv, bias):
        q, k, v = ops.unstack(ops.reshape(qkv, (-1, 49, 3, 2, 32)), 3, axis=2)
        x = ops.dot_product_attention(q, k, v, bias=bias[None], scale=32**-0.5)
        return ops.reshape(x, (-1, 49, 64))

    def mlp_of_a_map(x, kernel1, bias1, kernel2, bias2):
        # As keras.layers.Dense does it.
        x = ops.add(ops.matmul(x, kernel1), bias1)
        x = ops.gelu(x, approximate=False)
        return ops.add(ops.matmul(x, kernel2), bias2)

    def mlp(x, *weights):
        rows = ops.reshape(x, (-1, 64))
        return ops.reshape(mlp_of_a_map(rows, *weights), x.shape)

    def gelu(x):
        return ops.gelu(x, approximate=False)

    level_0, padded = (8, 56, 56, 64), (8, 58, 58, 64)
    weights = ((64, 192), (192,), (192, 64), (64,))
    return (
        (
            "depthwise convolution → nine shifted products",
            (depthwise, fast_ops.depthwise_conv),
            (level_0, (3, 3, 64)),
        ),
        (
            "1×1 convolution as a product → as a convolution",
            (pointwise, pointwise_convolution),
            (level_0, (1, 1, 64, 64)),
        ),
        (
            "convolution with stride 2 → with a gradient by products",
            (halving, fast_ops.halving_conv),
            (padded, (3, 3, 64, 128)),
        ),
        (
            "max-pooling → maxima of nine views",
            (pooling, fast_ops.maxima_of_views),
            (padded,),
        ),
        (
            "attention → `ops.dot_product_attention`",
            (attention, attention_by_keras),
            ((512, 49, 192), (2, 49, 49)),
        ),
        (
            "MLP of a matrix → of a map",
            (mlp, mlp_of_a_map),
            (level_0, *weights),
        ),
        (
            "GELU of Keras → by the error function",
            (gelu, fast_ops.gelu),
            ((8, 56, 56, 192),),
        ),
    )


def compiled(function, backend, with_xla):
    """Two functions of arrays: the result, and the gradients, both computed."""
    if backend == "tensorflow":
        import tensorflow as tf

        def gradients(*inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(function(*inputs) ** 2)
            return tape.gradient(loss, inputs)

        return [
            tf.function(call, autograph=False, jit_compile=with_xla)
            for call in (function, gradients)
        ]
    if backend == "jax":
        import jax

        def loss(inputs):
            return (function(*inputs) ** 2).sum()

        result, gradient = jax.jit(function), jax.jit(jax.grad(loss))
        return [
            lambda *inputs: jax.block_until_ready(result(*inputs)),
            lambda *inputs: jax.block_until_ready(gradient(inputs)),
        ]
    import torch

    def no_gradients(*inputs):
        with torch.no_grad():
            return function(*inputs)

    def gradients(*inputs):
        inputs = [x.clone().requires_grad_() for x in inputs]
        (function(*inputs) ** 2).sum().backward()

    return [no_gradients, gradients]


def ratios(column):
    """How many times as fast the other ways are: pairs, one a part."""
    backend, with_xla = COLUMNS[column]
    os.environ["KERAS_BACKEND"] = backend
    import numpy as np
    from keras import ops

    generator = np.random.default_rng(0)
    found = []
    for _, ways, shapes in parts():
        inputs = [
            ops.convert_to_tensor(
                generator.normal(size=shape, scale=0.2).astype("float32")
            )
            for shape in shapes
        ]
        steps = [compiled(way, backend, with_xla) for way in ways]
        found.append([ratio(*pair, inputs) for pair in zip(*steps)])
    return found


def ratio(here, there, inputs):
    """The median of how often `there` runs while `here` runs once."""

    def seconds(step):
        start = time.perf_counter()
        step(*inputs)
        return time.perf_counter() - start

    for step in (here, there) * 2:
        step(*inputs)
    pairs = [(seconds(here), seconds(there)) for _ in range(REPETITIONS)]
    return statistics.median(a / b for a, b in pairs)


def main():
    columns = []
    for column in COLUMNS:
        command = [sys.executable, __file__, column]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        columns.append(json.loads(run.stdout.splitlines()[-1]))
    lines = [
        "<!-- Written by benchmarks/parts.py: make benchmark -->",
        f"| one way → another way | {' | '.join(COLUMNS)} |",
        "| --- |" + " --- |" * len(COLUMNS),
    ]
    for (name, *_), row in zip(parts(), zip(*columns)):
        cells = [f"{forward:.2f}, {back:.2f}" for forward, back in row]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    TABLE.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(ratios(sys.argv[1])))
