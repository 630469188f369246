"""The checkpoint that comes with the package recognises what it should."""

import json
from pathlib import Path

import numpy as np
import pytest
from skimage.data import chelsea

import gcvit
from gcvit import (
    class_names,
    decode_predictions,
    from_pretrained,
    load_checkpoint,
    preprocess,
)
from gcvit.variants import VARIANTS
from tools import train_nano

PATH = Path(gcvit.__file__).parent / "data" / "nano.weights.h5"


@pytest.fixture(scope="module")
def nano():
    """The model with its weights; neither a cache nor a mirror is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCVIT_WEIGHTS", "http://127.0.0.1:9")
        patch.setenv("KERAS_HOME", "/nowhere")
        return from_pretrained("nano")


def test_it_is_small_and_whole(nano):
    assert PATH.stat().st_size < 6_000_000
    model = gcvit.GCViT.from_variant("nano")
    assert load_checkpoint(model, PATH) == len(model.weights)
    assert model.image_shape == (64, 64, 3)
    for weight, same in zip(model.weights, nano.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), same.numpy())


def test_chelsea_is_a_cat(nano):
    probabilities = nano(preprocess(chelsea(), 64))
    ((best, *_),) = decode_predictions(probabilities, class_names("nano"))
    assert best[0] == "cat"


@pytest.mark.needs_cifar10
def test_accuracy_on_the_first_thousand_test_images(nano):
    images, labels = train_nano.load_cifar10("test")
    images, labels = images[:1000], labels[:1000]
    assert train_nano.measure_accuracy(nano, images, labels) >= 0.85


# === The record of the training, and what it was trained with ===


def test_the_record_is_of_this_training():
    record = json.loads(PATH.with_name("nano.json").read_text())
    settings = json.loads(json.dumps(train_nano.SETTINGS))
    assert record["settings"] == settings
    assert len(record["history"]) == settings["epochs"]
    assert record["test_accuracy"] >= 0.86


SHORT = {"epochs": 2, "warmup_epochs": 1, "batch_size": 8}
# One level for as many pixels: TensorFlow makes a graph of it in a fifth of
# the time.
LITTLE = {"window_size": (16,), "embed_dim": 4, "depths": (2,)}
LITTLE |= {"num_heads": (1,), "num_classes": 10}


def few_images(split):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 32, 32, 3), dtype="uint8")
    return images, np.arange(24) % 10


@pytest.fixture
def short(monkeypatch):
    """Two epochs of a little model: sixteen images, eight to validate."""
    monkeypatch.setitem(VARIANTS, "nano", LITTLE)
    for name, value in SHORT.items():
        monkeypatch.setitem(train_nano.SETTINGS, name, value)
    monkeypatch.setattr(train_nano, "load_cifar10", few_images)
    monkeypatch.setattr(train_nano, "VALIDATION_IMAGES", 8)
    monkeypatch.setattr(train_nano, "EVALUATION_BATCH", 8)


@pytest.mark.weekly
def test_a_run_that_was_cut_goes_on(short, tmp_path, monkeypatch):
    save_state = train_nano.runs.save_state

    def cut(model, path):
        save_state(model, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_nano.runs, "save_state", cut)
    with pytest.raises(KeyboardInterrupt):
        train_nano.train(tmp_path)
    monkeypatch.setattr(train_nano.runs, "save_state", save_state)
    before = json.loads((tmp_path / "history.json").read_text())
    train_nano.train(tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert {len(values) for values in history.values()} == {2}
    assert {name: values[:1] for name, values in history.items()} == before
    assert (tmp_path / "best.weights.h5").exists()
    monkeypatch.setattr(train_nano, "DATA", tmp_path)
    train_nano.publish(tmp_path)
    record = json.loads((tmp_path / "nano.json").read_text())
    assert [row["epoch"] for row in record["history"]] == [1, 2]
    stored = json.loads(PATH.with_name("nano.json").read_text())
    assert record.keys() == stored.keys()
    assert record["history"][0].keys() == stored["history"][0].keys()


def test_other_settings_do_not_continue_a_run(short, tmp_path, monkeypatch):
    train_nano.runs.check_settings({"epochs": 1000}, tmp_path)
    (tmp_path / "last.npz").touch()
    monkeypatch.setattr(train_nano, "DATA", tmp_path)  # never the package's
    monkeypatch.setattr(train_nano.sys, "argv", ["", str(tmp_path)])
    with pytest.raises(SystemExit, match="epochs was 1000, now 2"):
        train_nano.main()


def gradient_images(count):
    """Images in which each pixel says where it is: red down, green across."""
    images = np.full((count, 32, 32, 3), 100, "uint8")
    images[..., 0] = np.arange(32)[:, None] * 2
    images[..., 1] = np.arange(32) * 2
    return images


def test_images_are_mirrored_and_shifted():
    images = gradient_images(500)
    random = np.random.default_rng(0)
    changed = train_nano.mirror_and_shift(images, random).astype(int)
    rows = changed[:, 16, 16, 0] // 2 - 16
    assert set(rows) == set(range(-4, 5))
    # A mirrored image runs the other way, about the middle of the columns.
    directions = changed[:, 16, 17, 1] - changed[:, 16, 16, 1]
    assert set(directions) == {-2, 2}
    assert 200 < (directions < 0).sum() < 300
    columns = changed[directions > 0, 16, 16, 1] // 2 - 16
    assert set(columns) == set(range(-4, 5))
    # Every pixel of an image moves together, and the border is mirrored.
    down = np.diff(changed[:, 4:28, :, 0], axis=1)
    assert (down == 2).all()
    assert changed[..., :2].max() <= 62


def test_colours_vary_down_to_grey():
    images = np.broadcast_to([200, 100, 60], (500, 4, 4, 3)).astype("uint8")
    random = np.random.default_rng(0)
    changed = train_nano.vary_colours(images, random)
    assert changed.min() >= 0 and changed.max() <= 255
    means = changed.mean(axis=(1, 2, 3))
    assert 69 <= means.min() < 75 and 165 < means.max() <= 171
    spread = np.ptp(changed.mean(axis=(1, 2)), axis=-1)
    assert spread.min() < 10 and spread.max() > 160


def test_one_square_of_an_image_is_erased():
    images = np.zeros((50, 32, 32, 3), "float32")
    erased = train_nano.erase(images, np.random.default_rng(0))
    assert ((erased == 127).sum(axis=(1, 2, 3)) == 8 * 8 * 3).all()
    rows = (erased == 127).any(axis=(2, 3))
    assert (rows.sum(axis=1) == 8).all()
    assert len(np.unique(rows, axis=0)) > 10


def test_an_epoch_is_the_same_whenever_it_is_asked_for():
    images = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3))
    images, labels = images.astype("uint8"), np.arange(300) % 10

    def first_batch(epoch):
        return next(train_nano.training_batches(images, labels, epoch))

    for again, before in zip(first_batch(3), first_batch(3)):
        np.testing.assert_array_equal(again, before)
    assert not np.array_equal(first_batch(3)[0], first_batch(4)[0])
    assert len(list(train_nano.training_batches(images, labels, 0))) == 2


def test_changes_begin_when_the_settings_say():
    images = np.zeros((128, 32, 32, 3), "uint8")
    labels = np.zeros(128, int)

    def changes(epoch):
        """Whether black images differ, and whether one has a square."""
        ((batch, _),) = train_nano.training_batches(images, labels, epoch - 1)
        return np.ptp(batch[..., 0].max((1, 2))) > 0, np.ptp(batch[0]) > 1

    batches = {epoch: changes(epoch) for epoch in (16, 17, 24, 25)}
    assert batches[16] == (False, False)
    assert batches[17] == batches[24] == (True, False)
    assert batches[25][1]


def test_the_rate_warms_up_and_falls_to_zero():
    schedule = train_nano.learning_rate(10, train_nano.SETTINGS)
    epochs = [1, 2, 3, 34, 65]  # the last one is the end
    rates = [float(schedule((epoch - 1) * 10)) for epoch in epochs]
    expected = [0, 1e-3, 2e-3, 1e-3, 0]
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-9)
