"""Measure what known mistakes cost a trained model: `nano`, on CIFAR-10.

    make .venv/ready
    .venv/bin/python tools/cost_of_mistakes.py

Each mistake is switched on alone, in every layer that can make it, and the
model classifies the 10,000 test images. What is right, and which answers the
mistake changes, goes into `gcvit/data/mistakes.json`. So do two mistakes in
preparing the images, which the chapter `live` defines.

The data is CIFAR-10, as for `tools/train_nano.py`. Its order and the size of
the batches count: with a tiled query, an image's answer depends on the other
images in its batch.
"""

import json
import os
import sys
from pathlib import Path

from keras import ops

from gcvit import check, from_pretrained, runs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools import live, train_nano

RECORD = train_nano.DATA / "mistakes.json"
# Slips that implementations were published with, and GELU by its approximation.
MISTAKES = ("flat_table", "zero_pooling", "same_pooling", "tile", "tanh_gelu")
# Slips before the model.
PREPARATIONS = ("unnormalised", "bilinear")


def classify(model, images):
    """Give the class that a model finds in each image, `(N,)`."""
    size = train_nano.EVALUATION_BATCH
    return model.predict(images, batch_size=size, verbose=0).argmax(axis=-1)


def classify_mistaken(images, names=MISTAKES):
    """Classify images with an exact `nano`, and with each mistake.

    Args:
        images: `(N, 32, 32, 3)`, uint8.
        names: keys of `gcvit.check.MISTAKES`.

    Returns:
        A dict: `"exact"` and each name to the classes, `(N,)`.
    """
    model = from_pretrained("nano")
    images, _ = train_nano.prepare(images, labels=[])
    answers = {"exact": classify(model, images)}
    for name in names:
        with check.mistaken(model, name):
            answers[name] = classify(model, images)
    return answers


def classify_prepared(images, exact):
    """Classify images that are prepared otherwise.

    Args:
        images: `(N, 32, 32, 3)`, uint8.
        exact: the classes of an exact `nano`, `(N,)`.

    Returns:
        A dict: `"exact"` and each of `PREPARATIONS` to the classes, `(N,)`.
    """
    model = from_pretrained("nano")
    chapter = live.chapter()
    ways = {
        "unnormalised": lambda x: chapter["unnormalised"](enlarged(x)),
        "bilinear": lambda x: chapter["normalised"](chapter["bilinear"](x)),
    }
    answers = {"exact": exact}
    for name in PREPARATIONS:
        prepared = ops.convert_to_numpy(ways[name](images))
        answers[name] = classify(model, prepared)
    return answers


def enlarged(images):
    """Enlarge images as `gcvit.preprocess` does, without normalising them."""
    size = (train_nano.IMAGE_SIZE, train_nano.IMAGE_SIZE)
    images = ops.image.resize(
        images, size, interpolation="bicubic", antialias=True
    )
    return ops.clip(images, 0, 255)


def figures(answers, labels):
    """Compare answers with labels, and with the exact model's.

    Args:
        answers: what `classify_mistaken` gives.
        labels: the right classes, `(N,)`.

    Returns:
        A dict: the number of images, the share of right answers for each
        name, and for each mistake the share of answers that it changes.
    """
    accuracy = {
        name: round(float((classes == labels).mean()), 4)
        for name, classes in answers.items()
    }
    changed = {
        name: round(float((classes != answers["exact"]).mean()), 4)
        for name, classes in answers.items()
        if name != "exact"
    }
    return {"images": len(labels), "accuracy": accuracy, "changed": changed}


def main():
    images, labels = train_nano.load_cifar10("test")
    answers = classify_mistaken(images)
    prepared = classify_prepared(images, answers["exact"])
    first = {name: classes[:1000] for name, classes in answers.items()}
    own = os.environ.get("CIFAR10_DIR")
    record = {
        "data": "cifar10_jpeg.npz" if own else "keras.datasets.cifar10",
        "batch_size": train_nano.EVALUATION_BATCH,
        **figures(answers, labels),
        "preparation": figures(prepared, labels),
        # Few enough for a test to classify them again.
        "first_thousand": figures(first, labels[:1000]),
    }
    runs.write_json(record, RECORD)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
