"""Files of a model: saved and loaded whole, or an error and nothing loaded."""

import json
import re

import h5py
import keras
import numpy as np
import pytest
from helpers import (
    SHAPE,
    SMALL,
    numpy,
    random_images,
    same_arrays,
    same_weights,
    small_model,
    stored_arrays,
)

import gcvit

# === What is saved ===


OTHER = {
    "layer_scale": 0.5,
    "qkv_bias": False,
    "qk_scale": 0.2,
    "drop_rate": 0.1,
    "path_drop": 0.0,
    "head_activation": None,
}


@pytest.mark.parametrize(
    ("policy", "another", "changes"),
    [("mixed_bfloat16", "float32", {}), ("float32", "mixed_bfloat16", OTHER)],
)
def test_saved_model(policy, another, changes, tmp_path, keras_settings, run):
    """Bit by bit the same, whatever the policy is where it is loaded."""
    keras.config.set_dtype_policy(policy)
    model = small_model(**changes)
    expected = numpy(run(model, random_images()))
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy(another)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is gcvit.GCViT
    assert loaded.dtype_policy.name == policy
    assert loaded.get_config() == model.get_config()
    assert same_weights(loaded, model)
    np.testing.assert_array_equal(
        numpy(run(loaded, random_images())), expected
    )


def test_saved_weights(tmp_path):
    model, other = small_model(), gcvit.GCViT(**SMALL)
    model.save_weights(tmp_path / "model.weights.h5")
    other.build(SHAPE)
    other.load_weights(tmp_path / "model.weights.h5")
    assert same_weights(other, model)


def test_checkpoint_is_used_to_the_last_tensor(reference, tmp_path):
    """Every array of the file is in the model, under the same path."""
    official = stored_arrays(reference.checkpoint)
    reference.model.save_weights(tmp_path / "own.weights.h5")
    own = stored_arrays(tmp_path / "own.weights.h5")
    assert len(official) == len(reference.model.weights)
    assert set(own) == set(official)
    for path, array in official.items():
        np.testing.assert_array_equal(own[path], array, err_msg=path)


def test_numbers_from_numpy_are_saved_and_loaded(tmp_path):
    model = small_model(
        embed_dim=np.int64(8),
        depths=np.array([2, 2]),
        num_heads=np.array([1, 2]),
        window_size=np.array([4, 4]),
        num_classes=np.int32(5),
        path_drop=np.float32(0.25),
    )
    json.dumps(model.get_config())  # would raise
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert same_weights(loaded, model)
    assert loaded.get_config() == model.get_config()


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_a_trained_model_with_dropout_loads_strictly(name, tmp_path):
    """An optimizer's state and the seeds of dropouts are not weights."""
    model = small_model(drop_rate=0.1, path_drop=0.1)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    path = tmp_path / name
    model.save(path) if name == "model.keras" else model.save_weights(path)
    assert len(stored_arrays(path)) > len(model.weights)
    other = gcvit.GCViT(**SMALL)
    other.build(SHAPE)
    other.load_weights(path)
    assert same_weights(other, model)


# === Files of other models ===


# What the file's model has, and what the message must name.
DIFFERENCES = [
    ({"embed_dim": 16}, "layers/layer_normalization/vars/0"),
    ({"depths": (1, 2)}, "level/blocks/block_1"),
    ({"depths": (2, 3)}, "level_1/blocks/block_2"),
    (
        {
            "depths": (2, 2, 1),
            "num_heads": (1, 2, 4),
            "window_size": (4, 4, 2),
        },
        "head/vars/0",
    ),
    ({"num_heads": (2, 2)}, "level/blocks/block/attn"),
    ({"window_size": (2, 4)}, "level/blocks/block/attn"),
    ({"layer_scale": 0.1}, "level/blocks/block/vars"),
    ({"qkv_bias": False}, "level/blocks/block/attn/qkv"),
    ({"mlp_ratio": 4.0}, "level/blocks/block/mlp"),
    ({"num_classes": 7}, "head"),
]


@pytest.fixture(scope="module")
def first():
    return small_model()


@pytest.mark.parametrize(("changes", "path"), DIFFERENCES, ids=str)
def test_weights_of_another_configuration(first, changes, path, tmp_path):
    """In both directions: the file has more, or it has less."""
    models = [first, small_model(**changes)]
    for model, other in (models, models[::-1]):
        other.save_weights(tmp_path / "other.weights.h5", overwrite=True)
        # Values that the file does not have.
        model.set_weights([weight + 1 for weight in model.get_weights()])
        before = model.get_weights()
        with pytest.raises(ValueError, match=path):
            model.load_weights(tmp_path / "other.weights.h5")
        assert same_arrays(model.get_weights(), before)


def test_whole_model_of_another_configuration(tmp_path):
    small_model(num_classes=7).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match=r"head/vars/0 \(16, 7\)"):
        small_model().load_weights(tmp_path / "other.keras")


def assert_nothing_is_loaded(model, path, match):
    """`load_weights` raises, and every variable stays as it is."""
    model.set_weights([weight + 1 for weight in model.get_weights()])
    before = model.get_weights()
    with pytest.raises(ValueError, match=match) as error:
        model.load_weights(path)
    assert "Nothing was loaded" in str(error.value)
    assert same_arrays(model.get_weights(), before)


def test_weights_of_the_functional_graph(first, tmp_path):
    """Only the head has another name there, and Keras finds it by both."""
    path = tmp_path / "graph.weights.h5"
    model = small_model()
    model.build_graph().save_weights(path)
    assert "head/vars/0" not in stored_arrays(path)
    first.set_weights([weight + 1 for weight in model.get_weights()])
    first.load_weights(path)
    assert same_weights(first, model)


@pytest.mark.parametrize(
    "name",
    [
        "layers/patch_embed/proj",
        "layers/level/q_global_gen",
        "layers/level_1/blocks/block_1/mlp/fc2",
    ],
)
def test_one_part_under_another_name(first, name, tmp_path):
    path = tmp_path / "renamed.weights.h5"
    small_model().save_weights(path)
    with h5py.File(path, "r+") as file:
        file.move(name, f"{name}_old")
    match = rf"Only in the file: {name}_old/.*Only in the model: {name}/"
    assert_nothing_is_loaded(first, path, match)


def test_turned_windows_are_another_configuration(tmp_path):
    model = small_model((None, 32, 48, 3), window_size=((2, 3), (4, 6)))
    model.save(tmp_path / "model.keras")
    other = small_model((None, 48, 32, 3), window_size=((3, 2), (6, 4)))
    match = r"windows of .*\(2, 3\)"
    assert_nothing_is_loaded(other, tmp_path / "model.keras", match)


# === Loading that is interrupted ===


class Interrupted:
    """Lets a variable's `assign` fail once, at a call of a given number."""

    def __init__(self, monkeypatch, variable):
        self.count, self.at, self.error = 0, None, None
        original = type(variable).assign

        def assign(variable, value):
            self.count += 1
            if self.count == self.at:
                raise self.error
            return original(variable, value)

        monkeypatch.setattr(type(variable), "assign", assign)


def with_optimizer(seed):
    """A small model and its optimizer, every variable with a value."""
    model = small_model()
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
    )
    model.optimizer.build(model.trainable_variables)
    generator = np.random.default_rng(seed)
    for variable in (*model.weights, *model.optimizer.variables):
        if len(variable.shape):
            variable.assign(generator.normal(size=variable.shape))
    return model


def values_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(numpy(variable)) for variable in variables]


@pytest.mark.parametrize(
    "error", [RuntimeError("a disk"), KeyboardInterrupt(), ValueError("odd")]
)
def test_interrupted_loading_changes_nothing(error, tmp_path, monkeypatch):
    path = tmp_path / "model.weights.h5"
    stored = with_optimizer(1)
    stored.save_weights(path)
    model = with_optimizer(2)
    before = values_of(model)
    assigned = Interrupted(monkeypatch, model.weights[0])
    for place in (5, "last"):
        assigned.count, assigned.at = 0, None
        if place == "last":
            model.load_weights(path)  # counts
            assert not same_arrays(values_of(model), before)
            place = assigned.count
            for variable, value in zip(
                [*model.variables, *model.optimizer.variables], before
            ):
                variable.assign(value)
        assigned.count, assigned.at, assigned.error = 0, place, error
        # Keras makes a ValueError of its own of many errors.
        with pytest.raises((type(error), ValueError)):
            model.load_weights(path)
        assert assigned.count > place
        assert same_arrays(values_of(model), before)


# === What is not a file to load ===


def test_load_weights_before_build(tmp_path):
    path = tmp_path / "model.weights.h5"
    small_model().save_weights(path)
    for skip_mismatch in (False, True):
        model = gcvit.GCViT(**SMALL)
        with pytest.raises(ValueError, match=r"model\.build\("):
            model.load_weights(path, skip_mismatch=skip_mismatch)
        assert not model.built


def test_home_folder_is_found(tmp_path, monkeypatch, first):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    model = small_model()
    model.save_weights(tmp_path / "model.weights.h5")
    first.set_weights([weight + 1 for weight in model.get_weights()])
    first.load_weights("~/model.weights.h5")
    assert same_weights(first, model)


@pytest.mark.parametrize("path", [None, 3, ("model.weights.h5",)])
@pytest.mark.parametrize("skip_mismatch", [False, True])
def test_what_is_no_path_is_named(path, skip_mismatch, first):
    with pytest.raises(ValueError, match=re.escape(f"filepath={path!r}")):
        first.load_weights(path, skip_mismatch=skip_mismatch)


def test_other_files_are_named_for_what_they_are(tmp_path, first):
    path = tmp_path / "weights.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"weights\.json is neither a \.keras"):
        first.load_weights(path)


# === The published example's files ===


def test_published_fine_tuning(tmp_path):
    """Another number of classes: everything but the head is loaded."""
    path = tmp_path / "published.keras"
    published = small_model()
    published.save(path)
    stored = published.get_weights()
    model = gcvit.GCViT(**{**SMALL, "num_classes": 104})
    model.build(SHAPE)
    before = model.get_weights()
    with pytest.warns(UserWarning):
        model.load_weights(path, skip_mismatch=True)
    heads = {id(weight) for weight in model.head.weights}
    expected = [
        old if id(weight) in heads else new
        for weight, old, new in zip(model.weights, before, stored)
    ]
    assert same_arrays(model.get_weights(), expected)
