"""The Python in the README and on the front page runs as it stands."""

import ast
import re
import socket
import subprocess
import sys
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest
from launch import environment, finish, free_address

import gcvit
from gcvit import dense, downloads, flowers, variants

PIL = pytest.importorskip("PIL.Image", reason="the snippets read pictures")
ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "book/intro.md"]


def snippets(page):
    path = ROOT / page
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    else:
        text = path.read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.M)


def write_pictures(folder):
    """A folder of pictures, one sub-folder per class."""
    random = np.random.default_rng(0)
    for name in ("daisies", "roses", "tulips"):
        (folder / name).mkdir(parents=True)
        for number in range(14):
            pixels = random.integers(0, 256, (80, 80, 3), "uint8")
            path = folder / name / f"{number}.png"
            PIL.fromarray(pixels).save(path)
    PIL.fromarray(pixels).save(folder.parent / "my photo.jpg")


@pytest.fixture
def readers_folder(tmp_path, monkeypatch):
    """An empty folder with pictures, no network, and a published file.

    The file has the published name and random weights: what a reader downloads
    is NVIDIA's, and is not part of this repository. One epoch is enough to see
    that a training runs.
    """

    def refuse(*arguments):
        raise OSError("a snippet asked for the network")

    def download(address, path):
        assert address.startswith("https://")
        path.parent.mkdir(parents=True, exist_ok=True)
        model = gcvit.GCViT.from_variant("xxtiny")
        model.build((None, 224, 224, 3))
        model.save(path)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(downloads, "download", download)
    monkeypatch.setattr(downloads, "BYTES", {})
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("GCVIT_WEIGHTS", raising=False)
    shorter = {"head_epochs": 0, "epochs": 1}
    for name, value in shorter.items():
        monkeypatch.setitem(flowers.fine_tune.__kwdefaults__, name, value)
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "my pictures")
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_snippets_run_one_after_the_other(page, readers_folder, capsys):
    names = {}
    found = snippets(page)
    assert found
    for snippet in found:
        if "keras.distribution" in snippet:  # for several processes, below
            continue
        exec(compile(snippet, page, "exec"), names)
        # What a comment says that a line prints, it prints.
        printed = capsys.readouterr().out.splitlines()
        for line in re.findall(r"^print\(.*\)  # (.+)$", snippet, re.M):
            assert line in printed


def test_the_readme_checks_a_layer_and_trains_a_model():
    code = "\n".join(snippets("README.md"))
    assert "gcvit.check.layer(yours" in code
    assert "gcvit.fine_tune(" in code


@pytest.fixture
def little_nano(readers_folder, monkeypatch):
    """One level in place of `nano`: the README's test trains the real one."""
    settings = {"window_size": (16,), "embed_dim": 4, "depths": (2,)}
    settings |= {"num_heads": (1,), "num_classes": 10}
    monkeypatch.setitem(variants.VARIANTS, "nano", settings)
    model = gcvit.GCViT(**settings)
    model.build((None, 64, 64, 3))
    path = readers_folder / "little.weights.h5"
    model.save_weights(path)
    monkeypatch.setattr(downloads, "find", lambda address: path)


def test_the_recipe_trains_and_another_process_classifies(little_nano):
    train, ask = snippets("book/flowers.ipynb")
    assert len((train + ask).splitlines()) <= 15
    exec(compile(train, "flowers", "exec"), {})
    said = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True
    )
    (answers,) = ast.literal_eval(said.stdout.splitlines()[-1])
    assert {name for name, _ in answers} == {"daisies", "roses", "tulips"}
    assert sum(share for _, share in answers) == pytest.approx(1, abs=1e-4)


LITTLE = """
from pathlib import Path

import gcvit
from gcvit import downloads, flowers, variants

variants.VARIANTS["nano"] = {settings}
downloads.find = lambda address: Path("little.weights.h5")
flowers.fine_tune.__kwdefaults__ |= {{"head_epochs": 0, "epochs": 1}}
"""


@pytest.mark.weekly  # the chapter `scale` trains in two on each push
def test_the_readme_trains_in_one_process_and_in_two(
    little_nano, readers_folder
):
    pytest.importorskip("jax", reason="only JAX has several processes")
    (recipe,) = (x for x in snippets("README.md") if "load_pictures" in x)
    (three,) = (x for x in snippets("README.md") if "initialize()" in x)
    little = LITTLE.format(settings=variants.VARIANTS["nano"])
    # Its first weights are the same, with one device or with more.
    seeded = "import keras\nkeras.utils.set_random_seed(0)\n"
    address = free_address()
    runs = {"one": (1, little + seeded + recipe)}
    runs["two"] = 2, little + three + seeded + recipe
    started = []
    for name, (count, program) in runs.items():
        program = program.replace("my run", name)
        for rank in range(count):
            variables = {"KERAS_BACKEND": "jax"}
            if count > 1:
                variables["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = address
                variables["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(count)
                variables["KERAS_DISTRIBUTION_PROCESS_ID"] = str(rank)
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", program],
                    env=environment() | variables,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
    for code, text in finish(started, 300):
        assert code == 0, text
    models = [
        keras.saving.load_model(readers_folder / name / "best.keras")
        for name in runs
    ]
    for one, two in zip(*(model.weights for model in models)):
        np.testing.assert_allclose(
            *map(keras.ops.convert_to_numpy, (one, two)), rtol=1e-3, atol=1e-5
        )


def test_the_pets_of_oxford_would_train_a_segmenter(monkeypatch):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    random = np.random.default_rng(0)
    sizes = [(50, 40), (30, 60), (128, 128)]  # as pets come, at any size
    pets = [
        {
            "image": random.integers(0, 256, (*size, 3), "uint8"),
            "segmentation_mask": random.integers(1, 4, (*size, 1), "uint8"),
        }
        for size in sizes
    ]
    spec = {
        name: tf.TensorSpec((None, None, channels), "uint8")
        for name, channels in (("image", 3), ("segmentation_mask", 1))
    }
    data = tf.data.Dataset.from_generator(lambda: pets, output_signature=spec)
    monkeypatch.setattr(tfds, "load", lambda name, split: data)
    names = {}
    (snippet,) = snippets("book/dense.ipynb")
    exec(compile(snippet, "dense", "exec"), names)
    backbone = gcvit.from_pretrained("nano")
    model = dense.Segmenter(backbone, num_classes=3)
    images, masks = next(iter(names["pets"]))
    assert images.shape == (3, 128, 128, 3) and masks.shape == (3, 128, 128)
    assert {0, 1, 2} == set(np.unique(masks))
    scores = model(images)
    assert scores.shape == (3, 128, 128, 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert np.isfinite(loss(masks, scores))
