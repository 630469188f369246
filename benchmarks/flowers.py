"""Measure fine-tuning on tf_flowers: accuracy over seeds, speed and memory.

    make .venv/ready
    .venv/bin/python benchmarks/flowers.py

Prints the tables that `benchmarks/flowers.md` keeps. Each measurement runs in
a process of its own, so that its peak memory is its own. TFDS_DATA_DIR can
name a folder in which tf_flowers is prepared.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import date

SEEDS = (0, 1, 2)
# As in the chapter: epochs for the head alone, and for everything.
EPOCHS = {"pretrained": (1, 8), "scratch": (0, 9)}


def accuracy(seed, weights):
    """Fine-tune `nano` as the chapter does.

    Args:
        seed: of the data's order, the head and the dropouts, an int.
        weights: `"pretrained"` or `"scratch"`.

    Returns:
        A dict: the best validation accuracy, and the seconds of training.
    """
    import keras

    from gcvit import GCViT, from_pretrained
    from gcvit.flowers import fine_tune, load_flowers

    keras.utils.set_random_seed(int(seed))
    train, validation, names = load_flowers("tf_flowers", seed=int(seed))
    if weights == "pretrained":
        model = from_pretrained("nano", num_classes=len(names))
    else:
        model = GCViT.from_variant("nano", num_classes=len(names))
    start = time.perf_counter()
    head_epochs, epochs = EPOCHS[weights]
    history = fine_tune(
        model,
        train,
        validation,
        head_epochs=head_epochs,
        epochs=epochs,
        verbose=0,
    )
    seconds = time.perf_counter() - start
    return {"accuracy": max(history["val_accuracy"]), "seconds": seconds}


def compile_alike(model):
    """Compile a model as `fine_tune` does, for 1000 steps."""
    import numpy as np

    from gcvit import tasks
    from gcvit.flowers import compile_model

    labels = np.eye(model.num_classes, dtype="float32")
    task = tasks.task_of(model, labels, 0.1)
    compile_model(model, task, 1000, 1e-3, jit_compile=False)


def pipeline():
    """Compare what the pipeline gives with what training `nano` consumes.

    Returns:
        A dict of images per second, medians of interleaved passes.
    """
    import statistics

    import numpy as np
    import tensorflow as tf

    from gcvit import GCViT
    from gcvit.flowers import load_flowers

    train, _, names = load_flowers("tf_flowers")
    images, labels = next(iter(train))
    count = sum(len(batch) for batch, _ in train)
    same = tf.data.Dataset.from_tensors((images, labels)).repeat(50)
    model = GCViT.from_variant("nano", num_classes=len(names))
    model.build(images.shape)
    compile_alike(model)
    model.fit(same, verbose=0)  # traces
    given, consumed = [], []
    for _ in range(5):
        start = time.perf_counter()
        for _ in train:
            pass
        given.append(count / (time.perf_counter() - start))
        start = time.perf_counter()
        model.fit(same, verbose=0)
        consumed.append(50 * len(images) / (time.perf_counter() - start))
    ratio = np.median(np.divide(given, consumed))
    return {
        "pipeline": statistics.median(given),
        "training": statistics.median(consumed),
        "ratio": float(ratio),
    }


def xxtiny():
    """Time training steps of XXTiny at 224 pixels, batches of 32.

    Returns:
        A dict: the median seconds of each step.
    """
    import statistics

    import numpy as np

    from gcvit import GCViT

    model = GCViT.from_variant("xxtiny", num_classes=5)
    model.build((None, 224, 224, 3))
    compile_alike(model)
    images = np.random.default_rng(0).normal(size=(32, 224, 224, 3))
    images, labels = images.astype("float32"), np.eye(5)[np.arange(32) % 5]
    model.train_on_batch(images, labels)  # traces
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        seconds.append(time.perf_counter() - start)
    return {"seconds a step": statistics.median(seconds)}


def measure(*arguments):
    """Run one of the functions above in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(run.stdout.splitlines()[-1])


def main():
    from importlib.metadata import version

    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores,")
    print(f"Keras {version('keras')}, TensorFlow {version('tensorflow')}\n")
    print("| seed | pretrained | from scratch | seconds | peak memory, GiB |")
    print("| --- | --- | --- | --- | --- |")
    for seed in SEEDS:
        fine = measure("accuracy", seed, "pretrained")
        raw = measure("accuracy", seed, "scratch")
        print(
            f"| {seed} | {fine['accuracy']:.3f} | {raw['accuracy']:.3f} "
            f"| {fine['seconds']:.0f}, {raw['seconds']:.0f} "
            f"| {fine['peak']:.1f} |",
            flush=True,
        )
    for name in ("pipeline", "xxtiny"):
        numbers = measure(name)
        print(f"\n{name}: " + json.dumps(numbers), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        name, *arguments = sys.argv[1:]
        result = globals()[name](*arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(result | {"peak": peak}))
