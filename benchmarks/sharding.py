"""What cutting the weights of `large` leaves on each of four devices.

    .venv-jax/bin/python benchmarks/sharding.py

Prints the table that `benchmarks/sharding.md` keeps: the bytes of weights and of
AdamW's averages on each device, counted in JAX's arrays, and how far the answers
are from those of one device. The devices are virtual, parts of one CPU, and the
weights are random; neither changes a byte. It takes minutes and 6 GB.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path

DEVICES = 4
os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import distribution  # noqa: E402

from gcvit import GCViT  # noqa: E402
from gcvit.scale import layout_map  # noqa: E402


def built():
    """Give `large`, for two images of its size, with logits."""
    model = GCViT.from_variant("large", head_activation=None)
    model.build((None, 224, 224, 3))
    return model


def held(variables):
    """Count the bytes on each device; give a list."""
    sizes = dict.fromkeys(range(DEVICES), 0)
    for variable in variables:
        for shard in variable.value.addressable_shards:
            sizes[shard.device.id] += shard.data.nbytes
    return list(sizes.values())


def row(name, model):
    """Print a row: the most that a device holds of weights and averages."""
    optimizer = keras.optimizers.AdamW()
    optimizer.build(model.trainable_variables)
    sizes = max(held(model.weights)), max(held(optimizer.variables))
    print(f"| {name} |", " | ".join(f"{x:,}" for x in sizes), end=" | ")


def main():
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    images = random.normal(size=(2, 224, 224, 3)).astype("float32")
    print(
        "| `large` | weights, bytes | AdamW's averages, bytes | max Δ / std |"
    )
    print("| --- | --- | --- | --- |")
    model = built()
    row("whole, on one device", model)
    print("– |", flush=True)
    expected = model.predict(images, verbose=0)
    weights = model.get_weights()
    del model
    mesh = distribution.DeviceMesh((1, DEVICES), ("batch", "model"))
    distribution.set_distribution(
        distribution.ModelParallel(layout_map=layout_map(mesh))
    )
    model = built()
    model.set_weights(weights)
    row(f"cut, on each of {DEVICES} devices", model)
    answers = model.predict(images, verbose=0)
    print(f"{abs(answers - expected).max() / expected.std():.1e} |")
    print(f"\nkeras {version('keras')}, jax {version('jax')}, two images.")


if __name__ == "__main__":
    main()
