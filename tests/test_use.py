"""What users do with a model besides calling it: train, freeze, load, err."""

import json

import keras
import numpy as np
import pytest

import gcvit

SMALL = {
    "window_size": (2, 4),
    "embed_dim": 4,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "num_classes": 3,
}
IMAGES = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 0])


def small_model(**kwargs):
    return gcvit.GCViT(**(SMALL | kwargs))


def compiled(model, learning_rate=0.0):
    model.compile(
        keras.optimizers.SGD(learning_rate), "sparse_categorical_crossentropy"
    )
    return model


@pytest.mark.parametrize("rate", ["drop_rate", "path_drop"])
def test_training_drops_out_and_testing_does_not(rate):
    model = compiled(small_model(**{rate: 0.5}))
    losses = {float(model.train_on_batch(IMAGES, LABELS)) for _ in range(5)}
    assert len(losses) > 1
    losses = {model.evaluate(IMAGES, LABELS, verbose=0) for _ in range(3)}
    assert len(losses) == 1


def test_feature_maps_can_drop_out():
    model = small_model(drop_rate=0.5)
    plain, again, dropped = (
        keras.ops.convert_to_numpy(model.feature_maps(IMAGES, mode)["stem"])
        for mode in (False, None, True)
    )
    np.testing.assert_array_equal(plain, again)
    assert (dropped == 0).mean() > 0.25 > (plain == 0).mean()


@pytest.mark.skipif(
    not hasattr(keras, "RematScope"), reason="this Keras has no RematScope"
)
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "activations"},
        {"mode": "list_of_layers", "layer_names": ["patch_embed"]},
    ],
)
def test_recomputing_to_save_memory_keeps_the_gradients(options):
    after = []
    for scope in ({"mode": None}, options):
        keras.utils.set_random_seed(0)
        with keras.RematScope(**scope):
            model = small_model(path_drop=0.5)
            model.build((None, 32, 32, 3))
        compiled(model, learning_rate=1.0).train_on_batch(IMAGES, LABELS)
        after.append(model.get_weights())
    for plain, recomputed in zip(*after, strict=True):
        np.testing.assert_allclose(recomputed, plain, atol=1e-6)


def test_parts_frozen_before_the_build_stay_frozen():
    model = small_model()
    model.patch_embed.trainable = False
    model.levels[1].trainable = False
    model.build((None, 32, 32, 3))
    frozen = model.patch_embed.get_weights() + model.levels[1].get_weights()
    free = model.levels[0].get_weights()
    compiled(model, learning_rate=1.0).train_on_batch(IMAGES, LABELS)
    after = model.patch_embed.get_weights() + model.levels[1].get_weights()
    assert all(map(np.array_equal, frozen, after))
    assert not all(map(np.array_equal, free, model.levels[0].get_weights()))


def test_bytes_are_images_too():
    model = small_model()
    images = np.arange(32 * 32 * 3, dtype="uint8").reshape(1, 32, 32, 3)
    expected = keras.ops.convert_to_numpy(model(images.astype("float32")))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(model(images)), expected
    )


def test_numbers_from_numpy_are_saved_and_loaded(tmp_path):
    model = small_model(
        embed_dim=np.int64(4),
        depths=np.array([2, 2]),
        num_heads=np.array([1, 2]),
        window_size=np.array([2, 4]),
        num_classes=np.int32(3),
        path_drop=np.float32(0.25),
    )
    json.dumps(model.get_config())
    expected = keras.ops.convert_to_numpy(model(IMAGES))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(loaded(IMAGES)), expected
    )


def test_a_trained_model_with_dropout_loads_strictly(tmp_path):
    model = compiled(small_model(drop_rate=0.1, path_drop=0.1), 0.1)
    model.train_on_batch(IMAGES, LABELS)
    for name in ("model.keras", "model.weights.h5"):
        path = tmp_path / name
        model.save(path) if name == "model.keras" else model.save_weights(path)
        other = small_model()
        other.build((None, 32, 32, 3))
        other.load_weights(path)
        assert all(
            map(np.array_equal, other.get_weights(), model.get_weights())
        )


def test_turned_windows_are_another_configuration(tmp_path):
    model = small_model(window_size=((2, 3), (4, 6)))
    model.build((None, 32, 48, 3))
    model.save(tmp_path / "model.keras")
    other = small_model(window_size=((3, 2), (6, 4)))
    other.build((None, 48, 32, 3))
    with pytest.raises(ValueError, match="windows of .*(2, 3)"):
        other.load_weights(tmp_path / "model.keras")


def test_other_files_are_named_for_what_they_are(tmp_path):
    model = small_model()
    model.build((None, 32, 32, 3))
    path = tmp_path / "weights.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"weights\.json is no \.keras"):
        model.load_weights(path)


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("embed_dim", 2, "embed_dim=2"),
        ("embed_dim", 8.0, "embed_dim=8.0"),
        ("embed_dim", None, "embed_dim=None"),
        ("depths", 2, "depths=2"),
        ("depths", (2, 0), "depths=0"),
        ("depths", (2, 1.5), "depths=1.5"),
        ("num_heads", (0, 2), "num_heads=0"),
        ("window_size", 7, "window_size=7"),
        ("window_size", (2, 2.5), "window_size=2.5"),
        ("window_size", ((2, 2, 2), 4), "window_size=(2, 2, 2)"),
        ("mlp_ratio", 0, "mlp_ratio=0"),
        ("mlp_ratio", None, "mlp_ratio=None"),
        ("drop_rate", "0.1", "drop_rate='0.1'"),
        ("attention_dropout", 1.0, "attention_dropout=1.0"),
        ("path_drop", -0.1, "path_drop=-0.1"),
        ("num_classes", 0, "num_classes=0"),
        ("num_classes", None, "num_classes=None"),
    ],
)
def test_an_argument_that_cannot_work_is_named(name, value, seen):
    with pytest.raises(ValueError) as error:
        small_model(**{name: value})
    assert seen in str(error.value)


def test_channels_first_images_are_recognised():
    with pytest.raises(ValueError, match="channels first"):
        small_model().build((None, 3, 32, 32))


def test_layers_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="4 tokens.*5"):
        gcvit.WindowAttention(2, 1, False).build((None, 5, 8))
    with pytest.raises(ValueError, match="num_heads=0"):
        gcvit.WindowAttention(2, 0, False).build((None, 4, 8))
    with pytest.raises(ValueError, match="depth=0"):
        gcvit.Level(0, 1, 2)
    with pytest.raises(ValueError, match="map_size"):
        gcvit.Level(2, 1, 2).build((None, None, None, 8))
    with pytest.raises(ValueError, match="does not divide a map of 8×8"):
        gcvit.window_partition(keras.ops.ones((1, 8, 8, 2)), 3)


def test_a_scale_of_zero_is_a_scale():
    attention = gcvit.WindowAttention(2, 1, False, qk_scale=0.0)
    attention.build((None, 4, 8))
    assert attention.scale == 0
