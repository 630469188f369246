"""Compare XXTiny with the official code, on four photographs.

    git clone https://github.com/NVlabs/GCVit CLONE
    make .venv/ready .venv-jax/ready .venv-torch/ready
    .venv/bin/python benchmarks/exactness.py CLONE

Prints the table that `benchmarks/exactness.md` keeps: this package on each
backend, and the official code itself, all in float32, against the official
code in float64. The weights are random, and the same for all. Each row runs in
a process of its own, with the Python of the environment that has its backend.
"""

import copy
import os
import pickle
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
# In skimage.data, and in its wheel, so that nothing is downloaded.
PHOTOS = ("chelsea", "astronaut", "coffee", "rocket")
# Backend: its environment, and its name.
BACKENDS = {
    "tensorflow": (".venv", "TensorFlow"),
    "jax": (".venv-jax", "JAX"),
    "torch": (".venv-torch", "PyTorch"),
}
# The official XXTiny, in the official code's words.
CONFIG = {
    "dim": 64,
    "depths": [2, 2, 6, 2],
    "num_heads": [2, 4, 8, 16],
    "window_size": [7, 7, 14, 7],
    "mlp_ratio": 3,
    "drop_path_rate": 0.2,
}


# === In the processes ===


def stack(backend):
    """A backend's name and version, as in `PyTorch 2.13.0`."""
    number = version(backend).partition("+")[0]  # of +cpu
    return f"{BACKENDS[backend][1]} {number}"


def prepare(folder):
    """Write the photographs, and a checkpoint with random weights.

    Args:
        folder: where `photos.npy` and `model.keras` go, a path.
    """
    from official_arrays import random_values
    from skimage import data

    from gcvit import GCViT, preprocess
    from gcvit.pretrained import named_weights

    photos = [preprocess(getattr(data, name)(), 224) for name in PHOTOS]
    np.save(folder / "photos.npy", np.concatenate(photos))
    model = GCViT.from_variant("xxtiny", head_activation=None)
    model.build((None, 224, 224, 3))
    random = np.random.default_rng(0)
    for name, weight in named_weights(model).items():
        weight.assign(random_values(name, tuple(weight.shape), random))
    model.save(folder / "model.keras")


def ours(folder):
    """Answer with this package.

    Args:
        folder: as `prepare` leaves it.

    Returns:
        A dict from a name to the logits, one photo's and four photos'.
    """
    import keras

    from gcvit import GCViT, load_checkpoint

    model = GCViT.from_variant("xxtiny", head_activation=None)
    load_checkpoint(model, folder / "model.keras")
    photos = np.load(folder / "photos.npy")
    backend = keras.backend.backend()
    return {
        f"this book, Keras {keras.__version__}, {stack(backend)}": [
            model.predict(batch, verbose=0) for batch in (photos[:1], photos)
        ]
    }


def official(folder, clone):
    """Answer with the official code, in float64 and in float32.

    Args:
        folder: as `prepare` leaves it.
        clone: the folder of a clone of NVlabs/GCVit.

    Returns:
        As `ours`.
    """
    import official_arrays as tool

    model = tool.import_official(clone).GCViT(**CONFIG)
    arrays = tool.read_keras(folder / "model.keras")
    names = tool.map_names(tool.weight_names(model), arrays)
    tool.load(model, tool.official_weights(names, arrays))
    photos = np.load(folder / "photos.npy")
    return {
        f"official code, {numbers}, {stack('torch')}": [
            tool.observe(model, batch, [""])[""][1]
            for batch in (photos[:1], photos)
        ]
        for numbers, model in (
            ("float64", model),
            ("float32", copy.deepcopy(model).float()),
        )
    }


# === All together ===


def run(backend, function, folder, *arguments):
    """Run one of the functions above in a process of its own.

    Args:
        backend: a key of `BACKENDS`.
        function: the function's name.
        folder: its folder.
        arguments: its other arguments, texts.

    Returns:
        What it returns.
    """
    python = ROOT / BACKENDS[backend][0] / "bin" / "python"
    if not python.exists():
        sys.exit(f"{python} is not there: make {BACKENDS[backend][0]}/ready")
    subprocess.run(
        [python, __file__, function, folder, *arguments],
        check=True,
        env=os.environ | {"KERAS_BACKEND": backend},
    )
    return pickle.loads((folder / "answers").read_bytes())


def main(clone):
    from gcvit.check import difference

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run("tensorflow", "prepare", folder)
        answers = run("torch", "official", folder, clone)
        exact = answers.pop(next(iter(answers)))  # in float64
        for backend in BACKENDS:
            answers |= run(backend, "ours", folder)
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores\n")
    print("| float32 | one photo | four photos in a batch |")
    print("| --- | --- | --- |")
    for name, logits in answers.items():
        one, four = map(difference, logits, exact)
        print(f"| {name} | {one:.1e} | {four:.1e} |")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(sys.argv[1])
    elif len(sys.argv) > 2:
        function, folder, *arguments = sys.argv[1:]
        answers = globals()[function](Path(folder), *arguments)
        Path(folder, "answers").write_bytes(pickle.dumps(answers))
    else:
        sys.exit(__doc__)
