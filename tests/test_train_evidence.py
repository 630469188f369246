"""The variants of GCViT are what they say, and so is the record of theirs."""

import json

import keras
import numpy as np
import pytest

from gcvit import block, evidence
from tools import train_evidence

NAMES = list(evidence.ABLATIONS)


@pytest.fixture(scope="module")
def record():
    return json.loads(train_evidence.RECORD.read_text("utf-8"))


def build(name):
    keras.utils.set_random_seed(0)
    return evidence.build_variant(
        evidence.ABLATIONS[name],
        train_evidence.IMAGE_SIZE,
        **train_evidence.MODEL,
    )


def test_the_record_is_of_these_trainings(record):
    settings = json.loads(json.dumps(train_evidence.SETTINGS))
    assert record["settings"] == settings
    assert record["model"] == json.loads(json.dumps(train_evidence.MODEL))
    assert set(record["seeds"]) <= set(train_evidence.SEEDS)
    assert list(record["variants"]) == NAMES
    for runs in record["variants"].values():
        assert len(runs["test_accuracy"]) == len(record["seeds"]) >= 2
        for curve in runs["val_accuracy"]:
            assert len(curve) == settings["epochs"]
            assert 0.3 < curve[0] < curve[-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_has_the_recorded_parameters(name, record):
    model = build(name)
    assert model.count_params() == record["variants"][name]["parameters"]
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3))
    both = keras.ops.convert_to_numpy(model(images.astype("float32")))
    alone = keras.ops.convert_to_numpy(model(images[:1].astype("float32")))
    np.testing.assert_allclose(both[:1], alone, atol=1e-5)


def test_every_second_block_is_what_differs():
    def kinds(name):
        return [
            (part.global_query, getattr(part, "shift", (0, 0)))
            for part in build(name).levels[0].blocks
        ]

    assert kinds("global query") == [(False, (0, 0)), (True, (0, 0))]
    assert kinds("local only") == [(False, (0, 0)), (False, (0, 0))]
    assert kinds("shifted windows") == [(False, (0, 0)), (False, (1, 1))]


def test_a_window_that_is_the_whole_map_is_not_shifted():
    blocks = build("shifted windows").levels[2].blocks
    assert [part.shift for part in blocks] == [(0, 0), (0, 0)]


def test_the_average_is_that_of_the_map():
    generator = build("average as query").levels[0].q_global_gen
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 16)).astype("float32")
    expected = x.reshape(2, 2, 4, 2, 4, 16).mean(axis=(2, 4))
    query = keras.ops.convert_to_numpy(generator(x))
    np.testing.assert_allclose(query, expected, atol=1e-6)


def test_the_classes_are_put_back():
    before = block.WindowAttention
    with pytest.raises(ValueError, match="32"):
        changes = evidence.ABLATIONS["shifted windows"]
        evidence.build_variant(changes, 24, **train_evidence.MODEL)
    assert block.WindowAttention is before


@pytest.mark.weekly
def test_a_run_that_was_cut_goes_on(tmp_path, monkeypatch):
    short = {"epochs": 2, "batch_size": 8, "warmup_epochs": 1}
    for key, value in short.items():
        monkeypatch.setitem(train_evidence.SETTINGS, key, value)
    little = {"window_size": (2,), "depths": (2,), "num_heads": (1,)}
    for key, value in little.items():
        monkeypatch.setitem(train_evidence.MODEL, key, value)
    random = np.random.default_rng(0)
    images = random.normal(size=(24, 32, 32, 3)).astype("float32")
    labels = np.eye(10, dtype="float32")[np.arange(24) % 10]
    data = images[:16], labels[:16], images[16:], labels[16:]
    save_state = train_evidence.runs.save_state

    def cut(model, path):
        save_state(model, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_evidence.runs, "save_state", cut)
    with pytest.raises(KeyboardInterrupt):
        train_evidence.train("local only", 0, data, tmp_path)
    monkeypatch.setattr(train_evidence.runs, "save_state", save_state)
    train_evidence.train("local only", 0, data, tmp_path)
    history = train_evidence.runs.read_history(tmp_path, 10)
    assert {len(values) for values in history.values()} == {2}
    monkeypatch.setitem(train_evidence.SETTINGS, "epochs", 3)
    with pytest.raises(ValueError, match="epochs was 2, now 3"):
        train_evidence.train("local only", 0, data, tmp_path)
