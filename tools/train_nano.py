"""Train `nano`, the checkpoint that comes with the package.

    python tools/train_nano.py FOLDER

FOLDER keeps the state after each epoch: the same command goes on where it was
cut. At the end, the weights of the epoch with the best validation accuracy go
into `gcvit/data/nano.weights.h5`, and the settings, the log and the accuracy
on the test split into `gcvit/data/nano.json`.

The data is CIFAR-10, from `keras.datasets`, or from the folder that the
environment variable CIFAR10_DIR names; see `load_cifar10`.
"""

import csv
import itertools
import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # Products of matrices in bfloat16, sums in float32: a sixth faster on
    # CPUs that can, the same elsewhere. TensorFlow reads it when imported.
    os.environ.setdefault("TF_SET_ONEDNN_FPMATH_MODE", "BF16")

import keras
import numpy as np
import tensorflow as tf

from gcvit import GCViT
from gcvit.pretrained import CIFAR10, from_pretrained, preprocess

DATA = Path(__file__).resolve().parents[1] / "gcvit" / "data"
IMAGE_SIZE = 64
VALIDATION_IMAGES = 5_000
SETTINGS = {
    "seed": 0,
    "epochs": 36,
    "batch_size": 128,
    # A cosine over 32 epochs; it was cut after 26, too low to go on learning.
    # Another one, from a higher rate, goes on from there to the end.
    "learning_rate": 2e-3,
    "warmup_epochs": 2,
    "cosine_epochs": 32,
    "second_learning_rate": 8e-4,
    "second_from_epoch": 27,
    "weight_decay": 0.05,
    "gradient_norm": 1.0,
    "label_smoothing": 0.1,
    "shift": 4,
    # Added half way: photos vary more in colour than CIFAR-10 does.
    "first_epoch_with_colours": 17,
    "brightness": 0.2,
    "contrast": (0.6, 1.4),
    "saturation": (0.0, 1.4),
}


# === Data ===


def load_cifar10(split):
    """Read CIFAR-10.

    If the environment variable CIFAR10_DIR is set, the images come from
    `cifar10_jpeg.npz` in that folder, an archive of three arrays a split:
    `{split}_jpeg`, the bytes of all JPEG files end to end, `{split}_offsets`,
    where each starts and the last ends, and `{split}_labels`. Otherwise Keras
    downloads them.

    Args:
        split: `"train"`, 50,000 images, or `"test"`, 10,000.

    Returns:
        Images `(N, 32, 32, 3)` and labels `(N,)`, both uint8.
    """
    folder = os.environ.get("CIFAR10_DIR")
    if not folder:
        train, test = keras.datasets.cifar10.load_data()
        images, labels = train if split == "train" else test
        return images, labels[:, 0]
    with np.load(Path(folder) / "cifar10_jpeg.npz") as archive:
        data = archive[f"{split}_jpeg"].tobytes()
        offsets = archive[f"{split}_offsets"]
        labels = archive[f"{split}_labels"]
    images = [
        tf.io.decode_jpeg(data[start:end]).numpy()
        for start, end in itertools.pairwise(offsets)
    ]
    return np.stack(images), labels


def augment(image, number):
    """Mirror half of the images, and shift each by up to 4 pixels.

    Args:
        image: `(32, 32, 3)`, uint8.
        number: of this image in this epoch, an int tensor.

    Returns:
        An image of the same shape.
    """
    seed = tf.stack([SETTINGS["seed"], number])
    image = tf.image.stateless_random_flip_left_right(image, seed)
    shift = SETTINGS["shift"]
    border = [[shift, shift], [shift, shift], [0, 0]]
    image = tf.pad(image, border, "REFLECT")
    return tf.image.stateless_random_crop(image, (32, 32, 3), seed)


def vary_colours(image, number):
    """Change brightness, contrast and saturation, down to grey.

    Args:
        image: `(H, W, 3)`, uint8.
        number: of this image in this epoch, an int tensor.

    Returns:
        An image of the same shape.
    """
    seeds = tf.random.split(tf.stack([SETTINGS["seed"], number]), 3)
    image = tf.image.stateless_random_brightness(
        image, SETTINGS["brightness"], seeds[0]
    )
    image = tf.image.stateless_random_contrast(
        image, *SETTINGS["contrast"], seeds[1]
    )
    return tf.image.stateless_random_saturation(
        image, *SETTINGS["saturation"], seeds[2]
    )


def prepare(images, labels):
    """Enlarge and normalise images, and make labels one-hot."""
    return preprocess(images, IMAGE_SIZE), tf.one_hot(labels, len(CIFAR10))


def training_batches(images, labels, epoch):
    """Give the batches of an epoch: the same ones whenever it is asked for."""
    random = np.random.default_rng((SETTINGS["seed"], epoch))
    order = random.permutation(len(images))
    numbers = epoch * len(images) + np.arange(len(images), dtype="int32")
    colours = epoch + 1 >= SETTINGS["first_epoch_with_colours"]

    def example(i, number):
        image = augment(images[i], number)
        if colours:
            image = vary_colours(image, number)
        return image, labels[i]

    return (
        tf.data.Dataset.from_tensor_slices((order, numbers))
        .map(example)
        .batch(SETTINGS["batch_size"], drop_remainder=True)
        .map(prepare)
        .prefetch(2)
    )


def batches(images, labels):
    """Give the batches of a validation or test split."""
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    return dataset.batch(500).map(prepare).prefetch(2)


# === Training ===


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up and a cosine, cut off, then a second cosine to zero.

    Args:
        steps_an_epoch: an int.
    """

    def __init__(self, steps_an_epoch):
        warmup = SETTINGS["warmup_epochs"]
        first_epochs = SETTINGS["second_from_epoch"] - 1
        self.cut = first_epochs * steps_an_epoch
        self.first = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            decay_steps=(SETTINGS["cosine_epochs"] - warmup) * steps_an_epoch,
            warmup_target=SETTINGS["learning_rate"],
            warmup_steps=warmup * steps_an_epoch,
        )
        self.second = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=SETTINGS["second_learning_rate"],
            decay_steps=(SETTINGS["epochs"] - first_epochs) * steps_an_epoch,
        )

    def __call__(self, step):
        later = keras.ops.maximum(step - self.cut, 0)
        return keras.ops.where(
            step < self.cut, self.first(step), self.second(later)
        )


def new_model(steps_an_epoch):
    """Make a model to train, compiled."""
    keras.utils.set_random_seed(SETTINGS["seed"])
    model = GCViT.from_variant("nano", head_activation=None)
    model.build((None, IMAGE_SIZE, IMAGE_SIZE, 3))
    optimizer = keras.optimizers.AdamW(
        LearningRate(steps_an_epoch),
        weight_decay=SETTINGS["weight_decay"],
        clipnorm=SETTINGS["gradient_norm"],
    )
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta"]  # the bias tables too
    )
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=SETTINGS["label_smoothing"]
    )
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    optimizer.build(model.trainable_variables)  # so that a state loads whole
    return model


def save(model, path):
    """Save weights, and never half of them under this name."""
    part = path.with_name("part.weights.h5")
    model.save_weights(part)
    os.replace(part, path)


def read_history(path):
    """List the finished epochs: dicts of numbers, the first one first."""
    if not path.exists():
        return []
    with path.open() as file:
        return [
            {key: float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def write_history(path, history):
    """Write the finished epochs to a CSV file, and never half of them."""
    part = path.with_name("part.csv")
    with part.open("w") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)
    os.replace(part, path)


def best(history):
    """Give the best validation accuracy so far."""
    return max((row["val_accuracy"] for row in history), default=0.0)


def train(folder):
    """Train, going on where an earlier run was cut.

    Args:
        folder: of the state after the last epoch, `last.weights.h5`, of the
            weights with the best validation accuracy, `best.weights.h5`, and
            of the log, `history.csv`.
    """
    images, labels = load_cifar10("train")
    kept = len(images) - VALIDATION_IMAGES
    validation = batches(images[kept:], labels[kept:])
    images, labels = tf.constant(images[:kept]), tf.constant(labels[:kept])
    steps_an_epoch = kept // SETTINGS["batch_size"]
    model = new_model(steps_an_epoch)
    if (folder / "last.weights.h5").exists():
        model.load_weights(folder / "last.weights.h5")
    # A cut between the log and the state leaves the log one epoch ahead.
    finished = int(model.optimizer.iterations) // steps_an_epoch
    history = read_history(folder / "history.csv")[:finished]
    for epoch in range(finished, SETTINGS["epochs"]):
        results = model.fit(
            training_batches(images, labels, epoch),
            validation_data=validation,
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=2,
        ).history
        row = {key: values[0] for key, values in results.items()}
        if row["val_accuracy"] > best(history):
            save(model, folder / "best.weights.h5")
        history.append({"epoch": epoch + 1} | row)
        write_history(folder / "history.csv", history)
        save(model, folder / "last.weights.h5")


def publish(folder):
    """Put the best weights into the package, and measure what they can do.

    Args:
        folder: as `train` leaves it.
    """
    model = GCViT.from_variant("nano", dtype="float16")  # half the bytes
    model.build((None, IMAGE_SIZE, IMAGE_SIZE, 3))
    model.load_weights(folder / "best.weights.h5")
    model.save_weights(DATA / "nano.weights.h5")
    model = from_pretrained("nano")
    model.compile(
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    test = batches(*load_cifar10("test"))
    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    history = read_history(folder / "history.csv")
    record = {
        "settings": SETTINGS,
        "validation_images": VALIDATION_IMAGES,
        "validation_accuracy": round(best(history), 4),
        "test_accuracy": round(accuracy, 4),
        "history": [
            {key: round(value, 4) for key, value in row.items()}
            for row in history
        ],
    }
    (DATA / "nano.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    train(folder)
    publish(folder)
