"""Train the variants that the chapter `evidence` compares.

    make .venv/ready
    .venv/bin/python tools/train_evidence.py FOLDER

FOLDER keeps the state of each run after each epoch: the same command goes on
where it was cut. After the last run the settings, all curves and the accuracy
on the test images go into `gcvit/data/evidence.json`. Seeds after FOLDER train
these only, so that several processes can share the work.

The data is CIFAR-10, as for `tools/train_nano.py`.
"""

import json
import math
import os
import sys
from pathlib import Path

import keras
import numpy as np

from gcvit import evidence, preprocess, runs

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools import train_nano

RECORD = train_nano.DATA / "evidence.json"
IMAGE_SIZE = 32
CLASSES = 10
SEEDS = (0, 1, 2)
# The first three levels of `nano`, at half its width and half its image size:
# as many windows for each map as there.
MODEL = {
    "window_size": (2, 2, 2),
    "embed_dim": 16,
    "depths": (2, 2, 2),
    "num_heads": (1, 2, 4),
    "mlp_ratio": 3.0,
    "path_drop": 0.0,
    "num_classes": CLASSES,
    "head_activation": None,
}
SETTINGS = {
    "epochs": 4,
    "batch_size": 128,
    "learning_rate": 2e-3,
    "warmup_epochs": 1,
    "weight_decay": 0.05,
    "gradient_norm": 1.0,
    "label_smoothing": 0.1,
    "shift": train_nano.SETTINGS["shift"],
}


# === Data ===


def load(split):
    """Read CIFAR-10, normalised, with one-hot labels."""
    images, labels = train_nano.load_cifar10(split)
    images = keras.ops.convert_to_numpy(preprocess(images, IMAGE_SIZE))
    return images, np.eye(CLASSES, dtype="float32")[labels]


def training_images(images, labels, seed, epoch):
    """Give the images of an epoch: the same ones for each variant."""
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(images))
    return train_nano.mirror_and_shift(images[order], random), labels[order]


# === Training ===


def train(name, seed, data, folder):
    """Train a variant, going on where an earlier run was cut.

    Args:
        name: one of `evidence.ABLATIONS`.
        seed: of the first weights and of the order of the images, an int.
        data: images and labels, to train and to validate with.
        folder: of the state after the last epoch, `last.npz`, of the log,
            `history.json`, and of the settings, `settings.json`.

    Returns:
        The model.

    Raises:
        ValueError: if the folder holds a run with other settings.
    """
    runs.check_settings({"model": MODEL} | SETTINGS, folder)
    images, labels, *validation = data
    steps_per_epoch = math.ceil(len(images) / SETTINGS["batch_size"])
    keras.utils.set_random_seed(seed)
    changes = evidence.ABLATIONS[name]
    model = evidence.build_variant(changes, IMAGE_SIZE, **MODEL)
    train_nano.compile_model(model, steps_per_epoch, SETTINGS)
    if (folder / "last.npz").exists():
        runs.load_state(model, folder / "last.npz")
    finished = int(model.optimizer.iterations) // steps_per_epoch
    history = runs.read_history(folder, finished)
    for epoch in range(finished, SETTINGS["epochs"]):
        print(f"{name}, seed {seed}")
        results = model.fit(
            *training_images(images, labels, seed, epoch),
            batch_size=SETTINGS["batch_size"],
            validation_data=tuple(validation),
            validation_batch_size=train_nano.EVALUATION_BATCH,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,  # the images are
            verbose=2,
        ).history
        for key, values in results.items():
            history.setdefault(key, []).append(float(values[0]))
        runs.write_json(history, folder / "history.json")
        runs.save_state(model, folder / "last.npz")
    return model


def folder_of(name, seed, parent):
    """Name the folder of a run."""
    return parent / f"{name.replace(' ', '_')}-{seed}"


def train_all(seeds, parent):
    """Train each variant with each seed.

    Raises:
        ValueError: as `train`.
    """
    images, labels = load("train")
    kept = len(images) - train_nano.VALIDATION_IMAGES
    data = images[:kept], labels[:kept], images[kept:], labels[kept:]
    test = load("test")
    for seed in seeds:
        for name in evidence.ABLATIONS:
            folder = folder_of(name, seed, parent)
            if (folder / "result.json").exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            model = train(name, seed, data, folder)
            _, accuracy = model.evaluate(
                *test, batch_size=train_nano.EVALUATION_BATCH, verbose=0
            )
            result = {
                "parameters": model.count_params(),
                "test_accuracy": accuracy,
            }
            runs.write_json(result, folder / "result.json")


def publish(parent):
    """Put what the runs measured into the package, rounded.

    Seeds with which a variant has not finished are left out.
    """
    seeds = [
        seed
        for seed in SEEDS
        if all(
            (folder_of(name, seed, parent) / "result.json").exists()
            for name in evidence.ABLATIONS
        )
    ]
    own = os.environ.get("CIFAR10_DIR")
    record = {
        "data": "cifar10_jpeg.npz" if own else "keras.datasets.cifar10",
        "model": MODEL,
        "settings": SETTINGS,
        "seeds": seeds,
        "variants": {
            name: summary([folder_of(name, seed, parent) for seed in seeds])
            for name in evidence.ABLATIONS
        },
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


def summary(folders):
    """Gather the runs of a variant: one entry for each seed."""
    results = [
        json.loads((folder / "result.json").read_text()) for folder in folders
    ]
    curves = [
        runs.read_history(folder, SETTINGS["epochs"])["val_accuracy"]
        for folder in folders
    ]
    return {
        "parameters": results[0]["parameters"],
        "test_accuracy": [round(run["test_accuracy"], 4) for run in results],
        "val_accuracy": [[round(x, 4) for x in curve] for curve in curves],
    }


def main():
    parent, *seeds = sys.argv[1:]
    parent = Path(parent).expanduser()
    try:
        train_all([int(seed) for seed in seeds] or SEEDS, parent)
    except ValueError as error:  # such as a run with other settings
        sys.exit(str(error))
    if not seeds:
        publish(parent)


if __name__ == "__main__":
    main()
