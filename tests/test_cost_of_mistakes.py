"""What known mistakes cost `nano` is measured, and recorded as measured."""

import json

import keras
import numpy as np
import pytest

from gcvit import check, from_pretrained
from tools import cost_of_mistakes, train_nano

MISTAKES = cost_of_mistakes.MISTAKES


@pytest.fixture(scope="module")
def record():
    return json.loads(cost_of_mistakes.RECORD.read_text("utf-8"))


@pytest.fixture(scope="module")
def nano():
    return from_pretrained("nano")


def test_the_record_is_of_these_mistakes(record):
    assert record["images"] == 10_000
    assert record["batch_size"] == train_nano.EVALUATION_BATCH
    first = record["first_thousand"]
    assert first["images"] == 1000
    for figures in (record, first):
        accuracy, changed = figures["accuracy"], figures["changed"]
        assert tuple(accuracy) == ("exact", *MISTAKES)
        assert tuple(changed) == MISTAKES
        for name, share in changed.items():
            # An answer that stays is as right as it was.
            lost = abs(accuracy["exact"] - accuracy[name])
            assert lost <= share + 1e-4, name


def test_the_record_is_of_these_preparations(record):
    measured = record["preparation"]
    names = cost_of_mistakes.PREPARATIONS
    assert tuple(measured["accuracy"]) == ("exact", *names)
    assert tuple(measured["changed"]) == names
    assert measured["accuracy"]["exact"] == record["accuracy"]["exact"]
    assert measured["images"] == record["images"]


def test_the_exact_model_is_the_published_one(record):
    path = train_nano.DATA / "nano.json"
    published = json.loads(path.read_text("utf-8"))["test_accuracy"]
    assert record["accuracy"]["exact"] == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_changes_the_model(name, nano):
    random = np.random.default_rng(0)
    images = random.normal(size=(4, 64, 64, 3)).astype("float32")
    exact = keras.ops.convert_to_numpy(nano(images))
    with check.mistaken(nano, name):
        far = check.difference(nano(images), exact)
    assert far > 10 * check.TOLERANCE
    assert check.difference(nano(images), exact) < check.TOLERANCE


def test_figures():
    labels = np.array([0, 1, 2])
    answers = {
        "exact": np.array([0, 1, 1]),
        "tile": np.array([0, 0, 2]),
        "flat_table": np.array([0, 1, 1]),
    }
    assert cost_of_mistakes.figures(answers, labels) == {
        "images": 3,
        "accuracy": {"exact": 0.6667, "tile": 0.6667, "flat_table": 0.6667},
        "changed": {"tile": 0.6667, "flat_table": 0.0},
    }


@pytest.mark.needs_cifar10
def test_the_first_thousand_images_again(record):
    images, labels = train_nano.load_cifar10("test")
    # The two that change the most answers: the others take as long.
    names = ("flat_table", "tile")
    answers = cost_of_mistakes.classify_mistaken(images[:1000], names)
    figures = cost_of_mistakes.figures(answers, labels[:1000])
    stored = record["first_thousand"]
    for measure in ("accuracy", "changed"):
        for name, value in figures[measure].items():
            expected = pytest.approx(stored[measure][name], abs=0.002)
            assert value == expected, name
