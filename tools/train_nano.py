"""Train `nano`, the checkpoint that comes with the package.

    make .venv-torch/ready
    KERAS_BACKEND=torch .venv-torch/bin/python tools/train_nano.py FOLDER

FOLDER keeps the state after each epoch: the same command goes on where it was
cut. At the end, the weights of the epoch with the best validation accuracy go
into `gcvit/data/nano.weights.h5`, and the settings, the log and the accuracy
on the test split into `gcvit/data/nano.json`.

TensorFlow's backend works too. PyTorch's is faster on a CPU that computes in
bfloat16.

The data is CIFAR-10, from `keras.datasets`, or from the folder that the
environment variable CIFAR10_DIR names; see `load_cifar10`.
"""

import io
import itertools
import json
import os
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops
from PIL import Image

from gcvit import GCViT, class_names, from_pretrained, preprocess, runs

DATA = Path(__file__).resolve().parents[1] / "gcvit" / "data"
IMAGE_SIZE = 64
VALIDATION_IMAGES = 5_000
EVALUATION_BATCH = 500
SETTINGS = {
    "seed": 0,
    "epochs": 64,
    "batch_size": 128,
    # A cosine from the highest rate to zero, after epochs of warming up.
    "learning_rate": 2e-3,
    "warmup_epochs": 2,
    "weight_decay": 0.05,
    "gradient_norm": 1.0,
    "label_smoothing": 0.1,
    "shift": 4,
    "colours_from": 17,
    "brightness": 51,
    "contrast": (0.6, 1.4),
    "saturation": (0.0, 1.4),
    "erasing_from": 25,
    "erased": 8,
}


# === Data ===


def load_cifar10(split):
    """Read CIFAR-10.

    If the environment variable CIFAR10_DIR is set, the images come from
    `cifar10_jpeg.npz` in that folder, an archive of three arrays per split:
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
        np.asarray(Image.open(io.BytesIO(data[start:end])))
        for start, end in itertools.pairwise(offsets)
    ]
    return np.stack(images), labels


def mirror_and_shift(images, random):
    """Mirror half of the images, and shift each by up to `shift` pixels.

    Args:
        images: `(B, H, W, 3)`.
        random: a NumPy generator.

    Returns:
        An array of the same shape; what comes in at a border is its mirror
        image.
    """
    count, height, width, _ = images.shape
    shift = SETTINGS["shift"]
    border = ((0, 0), (shift, shift), (shift, shift), (0, 0))
    padded = np.pad(images, border, mode="reflect")
    offsets = random.integers(0, 2 * shift + 1, (2, count, 1))
    rows = offsets[0] + np.arange(height)  # (B, H)
    columns = offsets[1] + np.arange(width)  # (B, W)
    is_mirrored = random.random(count) < 0.5
    columns[is_mirrored] = columns[is_mirrored, ::-1]
    numbers = np.arange(count)[:, None, None]
    return padded[numbers, rows[:, :, None], columns[:, None, :]]


def vary_colours(images, random):
    """Change brightness, contrast and saturation, down to grey.

    Photos vary more in colour than CIFAR-10 does.

    Args:
        images: `(B, H, W, 3)`, from 0 to 255.
        random: a NumPy generator.

    Returns:
        Floats of the same shape, from 0 to 255.
    """

    def draw(low, high):
        shape = (len(images), 1, 1, 1)
        return random.uniform(low, high, shape).astype("float32")

    images = images.astype("float32")
    grey = images.mean(axis=-1, keepdims=True)
    images = grey + draw(*SETTINGS["saturation"]) * (images - grey)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    images = mean + draw(*SETTINGS["contrast"]) * (images - mean)
    images += draw(-SETTINGS["brightness"], SETTINGS["brightness"])
    return np.clip(images, 0, 255)


def erase(images, random):
    """Make a square in each image grey, at a random place.

    Args:
        images: `(B, H, W, 3)`, floats from 0 to 255.
        random: a NumPy generator.

    Returns:
        An array of the same shape.
    """
    count, height, width, _ = images.shape
    size = SETTINGS["erased"]
    tops = random.integers(0, height - size + 1, (count, 1))
    lefts = random.integers(0, width - size + 1, (count, 1))
    rows = (tops <= np.arange(height)) & (np.arange(height) < tops + size)
    columns = (lefts <= np.arange(width)) & (np.arange(width) < lefts + size)
    square = rows[:, :, None] & columns[:, None, :]  # (B, H, W)
    return np.where(square[..., None], np.float32(127), images)


def prepare(images, labels):
    """Enlarge and normalise images, and make labels one-hot."""
    images = ops.convert_to_numpy(preprocess(images, IMAGE_SIZE))
    return images, np.eye(len(class_names("nano")), dtype="float32")[labels]


def training_batches(images, labels, epoch):
    """Give the batches of an epoch: the same ones whenever it is asked for."""
    random = np.random.default_rng((SETTINGS["seed"], epoch))
    order = random.permutation(len(images))
    size = SETTINGS["batch_size"]
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        batch = mirror_and_shift(images[chosen], random)
        if epoch + 1 >= SETTINGS["colours_from"]:
            batch = vary_colours(batch, random)
        if epoch + 1 >= SETTINGS["erasing_from"]:
            batch = erase(batch, random)
        yield prepare(batch, labels[chosen])


def batches(images, labels):
    """Give the batches of a validation or test split."""
    for start in range(0, len(images), EVALUATION_BATCH):
        end = start + EVALUATION_BATCH
        yield prepare(images[start:end], labels[start:end])


# === Training ===


def learning_rate(steps_per_epoch, settings):
    """Give the schedule of `settings`: warm up, then a cosine down to zero."""
    warmup = settings["warmup_epochs"]
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=(settings["epochs"] - warmup) * steps_per_epoch,
        warmup_target=settings["learning_rate"],
        warmup_steps=warmup * steps_per_epoch,
    )


def compile_model(model, steps_per_epoch, settings):
    """Compile a built model that gives logits, as `settings` say."""
    optimizer = keras.optimizers.AdamW(
        learning_rate(steps_per_epoch, settings),
        weight_decay=settings["weight_decay"],
        clipnorm=settings["gradient_norm"],
    )
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta"]  # the bias tables too
    )
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=settings["label_smoothing"]
    )
    # TensorFlow's graph, which a CPU runs faster without XLA.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    optimizer.build(model.trainable_variables)  # so that a state loads whole


def new_model(steps_per_epoch):
    """Make a `nano` to train, compiled."""
    keras.utils.set_random_seed(SETTINGS["seed"])
    model = GCViT.from_variant(
        "nano", head_activation=None, dtype="mixed_bfloat16"
    )
    model.build((None, IMAGE_SIZE, IMAGE_SIZE, 3))
    compile_model(model, steps_per_epoch, SETTINGS)
    return model


def train(folder):
    """Train, going on where an earlier run was cut.

    Args:
        folder: of the state after the last epoch, `last.npz`, of the weights
            with the best validation accuracy, `best.weights.h5`, of the log,
            `history.json`, and of the settings, `settings.json`.

    Raises:
        ValueError: if the folder holds a run with other settings. Otherwise
            the record would name settings that a part of it never had.
    """
    runs.check_settings(SETTINGS, folder)
    images, labels = load_cifar10("train")
    kept = len(images) - VALIDATION_IMAGES
    steps_per_epoch = kept // SETTINGS["batch_size"]
    model = new_model(steps_per_epoch)
    if (folder / "last.npz").exists():
        runs.load_state(model, folder / "last.npz")
    # A cut between the log and the state leaves the log one epoch ahead.
    finished = int(model.optimizer.iterations) // steps_per_epoch
    history = runs.read_history(folder, finished)
    for epoch in range(finished, SETTINGS["epochs"]):
        results = model.fit(
            training_batches(images[:kept], labels[:kept], epoch),
            validation_data=batches(images[kept:], labels[kept:]),
            initial_epoch=epoch,
            epochs=epoch + 1,
            steps_per_epoch=steps_per_epoch,
            validation_steps=VALIDATION_IMAGES // EVALUATION_BATCH,
            shuffle=False,  # the batches are
            verbose=2,
        ).history
        *before, accuracy = [
            *history.get("val_accuracy", []),
            *results["val_accuracy"],
        ]
        if accuracy > max(before, default=0.0):
            path = folder / "best.weights.h5"
            runs.save_whole(model.save_weights, path)
        for name, values in results.items():
            history.setdefault(name, []).append(float(values[0]))
        runs.write_json(history, folder / "history.json")
        runs.save_state(model, folder / "last.npz")


def measure_accuracy(model, images, labels):
    """Give the share of images that a model classifies correctly."""
    right = 0
    for batch, targets in batches(images, labels):
        answers = ops.convert_to_numpy(model(batch)).argmax(axis=-1)
        right += (answers == targets.argmax(axis=-1)).sum()
    return right / len(images)


def rows(history):
    """Turn lists of numbers into one dict for each epoch, rounded."""
    return [
        {"epoch": epoch + 1}
        | {name: round(value, 4) for name, value in zip(history, values)}
        for epoch, values in enumerate(zip(*history.values()))
    ]


def publish(folder):
    """Put the best weights into the package, and measure what they can do.

    Args:
        folder: as `train` leaves it.
    """
    model = GCViT.from_variant("nano", dtype="float16")  # half the bytes
    model.build((None, IMAGE_SIZE, IMAGE_SIZE, 3))
    model.load_weights(folder / "best.weights.h5")
    model.save_weights(DATA / "nano.weights.h5")
    model = from_pretrained("nano", weights_path=DATA / "nano.weights.h5")
    accuracy = measure_accuracy(model, *load_cifar10("test"))
    history = runs.read_history(folder, SETTINGS["epochs"])
    own = os.environ.get("CIFAR10_DIR")
    record = {
        "data": "cifar10_jpeg.npz" if own else "keras.datasets.cifar10",
        "settings": SETTINGS,
        "validation_images": VALIDATION_IMAGES,
        "validation_accuracy": round(max(history["val_accuracy"]), 4),
        "test_accuracy": round(accuracy, 4),
        "history": rows(history),
    }
    (DATA / "nano.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"test accuracy {accuracy:.4f}")


def main():
    folder = Path(sys.argv[1]).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        train(folder)
    except ValueError as error:  # such as a run with other settings
        sys.exit(str(error))
    publish(folder)


if __name__ == "__main__":
    main()
