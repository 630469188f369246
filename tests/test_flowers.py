"""Flowers: the three sources, and fine-tuning."""

import os
import subprocess
import sys
import urllib.request

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")

from picture_files import fill
from training import EPOCHS, SMALL, small_data, small_model

import gcvit
from gcvit import drawn_flowers, flowers
from gcvit.flowers import fine_tune


@pytest.fixture(scope="module")
def data():
    return small_data()


# === The three sources ===


def test_the_package_does_not_need_what_the_pipelines_need():
    code = "import gcvit, sys; assert 'gcvit.flowers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_environment_can_name_the_source(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GCVIT_FLOWERS", str(fill(tmp_path, {"a": 2, "b": 2})))
    assert flowers.load_flowers()[2] == ["a", "b"]
    assert "stand-in" not in capsys.readouterr().out
    monkeypatch.setenv("GCVIT_FLOWERS", "drawn")
    assert flowers.load_flowers()[2] == list(drawn_flowers.SPECIES)
    assert "stand-in" in capsys.readouterr().out


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    pytest.importorskip(
        "tensorflow_datasets", reason="tf_flowers takes TensorFlow Datasets"
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("GCVIT_FLOWERS", raising=False)

    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", fail)


def test_without_a_network_drawn_flowers_stand_in(no_network, capsys):
    train, _, names = flowers.load_flowers()
    assert names == list(drawn_flowers.SPECIES)
    printed = capsys.readouterr().out
    assert "no route to host" in printed and "stand-in" in printed


def test_tf_flowers_by_name_never_has_a_stand_in(no_network):
    with pytest.raises(OSError, match="TFDS_DATA_DIR.*folder.*'drawn'"):
        flowers.load_flowers("tf_flowers")


@pytest.mark.skipif(
    "TFDS_DATA_DIR" not in os.environ,
    reason="set TFDS_DATA_DIR to a folder with tf_flowers prepared",
)
def test_tf_flowers_has_its_published_splits():
    pytest.importorskip(
        "tensorflow_datasets", reason="tf_flowers takes TensorFlow Datasets"
    )
    train, validation, names = flowers.read_tf_flowers()
    assert names == ["dandelion", "daisy", "tulips", "sunflowers", "roses"]
    assert (len(train), len(validation)) == (3303, 367)
    assert not {file for file, _ in train} & {file for file, _ in validation}
    counts = np.bincount([label for _, label in train + validation])
    assert counts.tolist() == [898, 633, 799, 699, 641]


def test_what_needs_more_is_reached_by_name():
    assert gcvit.fine_tune is flowers.fine_tune
    assert gcvit.load_flowers is flowers.load_flowers
    assert {"fine_tune", "load_flowers", "load_pictures"} <= set(dir(gcvit))
    with pytest.raises(AttributeError, match="load_trees"):
        gcvit.load_trees


# === What is trained ===


def test_the_rate_warms_up_and_falls_to_zero():
    model = small_model()
    flowers.compile_model(model, 100, 1e-3, 0.1, False)
    rates = []
    for step in (0, 5, 10, 55, 100):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, 5e-4, 0], atol=1e-9)


def test_labels_are_smoothed():
    model = small_model(head_activation=None)
    flowers.compile_model(model, 100, 1e-3, 0.1, False)
    label, logits = np.eye(5)[:1], np.array([[5.0, 0, 0, 0, 0]])
    exponentials = np.exp(logits)
    expected = -np.log(exponentials / exponentials.sum())
    loss = float(model.compute_loss(None, label, logits))
    smooth = 0.9 * label + 0.1 / 5
    assert loss == pytest.approx((smooth * expected).sum(), rel=1e-5)


def test_the_device_at_hand_decides(monkeypatch):
    backend = keras.backend.backend()
    assert isinstance(flowers.has_gpu(), bool)
    monkeypatch.setattr(flowers, "has_gpu", lambda: False)
    assert flowers.fast_dtype_policy() == "float32"
    assert flowers.fast_jit_compile() == (backend == "jax")
    monkeypatch.setattr(flowers, "has_gpu", lambda: True)
    assert flowers.fast_dtype_policy() == "mixed_float16"
    assert flowers.fast_jit_compile() == (backend != "torch")


def test_mixed_precision_trains(data):
    model = small_model(dtype="mixed_float16")
    history = fine_tune(model, *data, head_epochs=0, epochs=5, verbose=0)
    assert history["loss"][-1] < history["loss"][0]


def test_the_head_is_trained_first_then_everything(data, monkeypatch):
    model = small_model()
    model.levels[0].blocks[1].trainable = False  # by whoever calls
    trained = []

    def fit(self, *_, epochs, **__):
        names = {weight.path for weight in self.trainable_weights}
        trained.append((epochs, names))

    monkeypatch.setattr(gcvit.GCViT, "fit", fit)
    with pytest.raises(OSError, match="best"):  # as nothing was trained
        fine_tune(model, *data, **EPOCHS)
    (_, first), (_, then) = trained
    assert first == {weight.path for weight in model.head.weights}
    frozen = {weight.path for weight in model.levels[0].blocks[1].weights}
    assert then == {weight.path for weight in model.weights} - frozen
    assert [epochs for epochs, _ in trained] == [2, 5]


def test_everything_at_once(data):
    model = small_model()
    before = model.patch_embed.get_weights()[0]
    history = fine_tune(model, *data, head_epochs=0, epochs=1, verbose=0)
    assert {len(values) for values in history.values()} == {1}
    assert not np.array_equal(before, model.patch_embed.get_weights()[0])


# === Mistakes ===


def test_a_model_for_other_classes_is_an_error(data):
    model = small_model(num_classes=4)
    with pytest.raises(ValueError, match="4 classes.*has 5.*num_classes=5"):
        fine_tune(model, *data)


def test_a_model_for_another_size_is_an_error(data):
    model = gcvit.GCViT(**SMALL)
    model.build((None, 64, 64, 3))
    with pytest.raises(ValueError, match=r"built for images of \(64, 64, 3\)"):
        fine_tune(model, *data)


@pytest.mark.parametrize("split", [0, 1], ids=["train", "validation"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data.map(lambda image, label: (image, label[:, 0])),
            "not images and one-hot labels",
        ),
        (
            lambda data: data.map(lambda image, label: (image, label[:, :4])),
            "5 classes.*has 4",
        ),
        (
            lambda data: data.map(lambda image, label: (image, label, 1.0)),
            "not images and one-hot labels",
        ),
        (lambda data: data.repeat(), "number of batches"),
        (lambda data: data.take(0), "number of batches"),
    ],
    ids=["numbers", "other classes", "sample weights", "endless", "empty"],
)
def test_data_that_does_not_fit_is_an_error(data, split, change, message):
    changed = list(data)
    changed[split] = change(changed[split])
    with pytest.raises(ValueError, match=message):
        fine_tune(small_model(), *changed)


@pytest.mark.parametrize("epochs", [0, 1.5, None])
def test_epochs_that_are_no_number_are_an_error(data, epochs):
    with pytest.raises(ValueError, match=f"epochs={epochs} is no int"):
        fine_tune(small_model(), *data, epochs=epochs)


def test_an_impossible_share_of_the_labels_is_an_error(data):
    with pytest.raises(ValueError, match="label_smoothing=1.5"):
        fine_tune(small_model(), *data, label_smoothing=1.5)


def test_a_model_that_is_always_wrong_has_best_weights_too(data):
    model = small_model()
    model.head.bias.assign([100, 0, 0, 0, 0])
    roses = data[1].map(lambda image, label: (image, label * [0, 0, 0, 0, 1]))
    roses = roses.unbatch().filter(lambda image, label: label[4] > 0).batch(8)
    roses = roses.apply(tf.data.experimental.assert_cardinality(1))
    history = fine_tune(
        model, data[0], roses, head_epochs=0, epochs=1, learning_rate=0.0
    )
    assert history["val_accuracy"] == [0]


def test_another_pipeline_works(data):
    train = data[0].take(2)
    history = fine_tune(
        small_model(), train, data[1], head_epochs=0, epochs=1, verbose=0
    )
    assert len(history["loss"]) == 1


@pytest.mark.parametrize("rate", [float("nan"), -1.0, "0.1", None])
def test_a_learning_rate_that_is_no_number_is_an_error(data, rate):
    with pytest.raises(ValueError, match="learning_rate="):
        fine_tune(small_model(), *data, learning_rate=rate)
