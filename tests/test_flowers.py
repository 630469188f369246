"""Flowers: the three sources, and fine-tuning."""

import importlib.util
import subprocess
import sys
import urllib.request

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")

from picture_files import fill
from training import EPOCHS, SMALL, compiled, small_data, small_model

import gcvit
from gcvit import devices, drawn_flowers, flower_sources, flowers
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


@pytest.mark.needs_tf_flowers
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is None,
    reason="tf_flowers takes TensorFlow Datasets",
)
def test_tf_flowers_has_its_published_splits():
    train, validation, names = flower_sources.read_tf_flowers()
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
    model = compiled(small_model())
    rates = []
    for step in (0, 5, 10, 55, 100):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, 5e-4, 0], atol=1e-9)


def test_labels_are_smoothed():
    model = compiled(small_model(head_activation=None))
    label, logits = np.eye(5)[:1], np.array([[5.0, 0, 0, 0, 0]])
    exponentials = np.exp(logits)
    expected = -np.log(exponentials / exponentials.sum())
    loss = float(model.compute_loss(None, label, logits))
    smooth = 0.9 * label + 0.1 / 5
    assert loss == pytest.approx((smooth * expected).sum(), rel=1e-5)


def test_the_device_at_hand_decides(monkeypatch):
    backend = keras.backend.backend()
    assert isinstance(devices.has_gpu(), bool)
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    assert devices.fast_dtype_policy() == "float32"
    assert devices.fast_jit_compile() == (backend == "jax")
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    assert devices.fast_dtype_policy() == "mixed_float16"
    assert devices.fast_jit_compile() == (backend != "torch")


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
    with pytest.raises(ValueError, match="4 classes.*num_classes=5"):
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
            "not one-hot",
        ),
        (
            lambda data: data.map(lambda image, label: (image, label[:, :4])),
            "5 classes.*num_classes=4",
        ),
        (
            lambda data: data.map(lambda image, label: image),
            "pairs of images and labels",
        ),
        (lambda data: data.repeat(), "number of batches"),
        (lambda data: data.take(0), "number of batches"),
    ],
    ids=["numbers", "other classes", "no labels", "endless", "empty"],
)
def test_data_that_does_not_fit_is_an_error(data, split, change, message):
    changed = list(data)
    changed[split] = change(changed[split])
    with pytest.raises(ValueError, match=message):
        fine_tune(small_model(), *changed)


def test_a_quantised_model_is_an_error(data):
    model = small_model()
    model.head.quantize("int8")
    with pytest.raises(ValueError, match="quantised to int8, and fine_tune"):
        fine_tune(model, *data)


@pytest.mark.parametrize("epochs", [0, 1.5, None])
def test_epochs_that_are_no_number_are_an_error(data, epochs):
    with pytest.raises(ValueError, match=f"epochs={epochs} is not an int"):
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


# === Few pictures, uneven ones, other labels ===


def dataset(images, *rest, batch=8):
    """A pipeline of arrays that knows how many batches it has."""
    return tf.data.Dataset.from_tensor_slices((images, *rest)).batch(batch)


def shades(counts, seed=0):
    """Images that are dark or bright, and the numbers of their classes."""
    random = np.random.default_rng(seed)
    numbers = np.repeat(range(len(counts)), counts)
    images = random.normal(0, 0.3, (len(numbers), 32, 32, 3))
    images += 2 * numbers[:, None, None, None] - 1
    order = random.permutation(len(numbers))
    return images[order].astype("float32"), numbers[order]


def train_small(data, validation=None, folder=None, count=2, **options):
    head = options.pop("head_activation", "softmax")
    heads = {"num_classes": count, "head_activation": head}
    model = small_model(path_drop=0.0, **heads)
    settings = {"head_epochs": 0, "epochs": 1, "verbose": 0} | options
    history = fine_tune(model, data, validation or data, folder, **settings)
    return model, history


@pytest.mark.parametrize("steps", [1, 2, 9, 10])
def test_a_short_phase_learns_from_each_step_but_a_first_of_ten(steps):
    schedule = compiled(small_model(), steps).optimizer
    rates = []
    for step in range(steps):
        schedule.iterations.assign(step)
        rates.append(float(schedule.learning_rate))
    assert np.argmax(rates) == (steps == 10)
    assert max(rates) == pytest.approx(1e-3)
    assert [rate for rate in rates if rate == 0] == [0] * (steps == 10)


@pytest.mark.parametrize("count", [7, 15])
def test_two_classes_of_few_pictures_train(tmp_path, count):
    folder = fill(tmp_path / "mine", {"a": count, "b": count})
    data = gcvit.load_pictures(folder, image_size=32)
    model, history = train_small(*data[:2], tmp_path / "run", head_epochs=1)
    assert len(history["loss"]) == 2 and np.isfinite(history["loss"]).all()
    assert model.class_names == ("a", "b")


def test_the_best_epoch_is_not_the_one_that_names_the_large_class(tmp_path):
    images, numbers = shades([60, 3])
    data = dataset(images, np.eye(2, dtype="float32")[numbers])
    _, history = train_small(data, folder=tmp_path, epochs=4)
    balanced = history["val_balanced_accuracy"]
    for recalls, mean in zip(history["val_recalls"], balanced):
        assert np.mean(recalls) == pytest.approx(mean, abs=1e-6)
    best = keras.saving.load_model(tmp_path / "best.keras")
    seen = best.evaluate(data, return_dict=True, verbose=0)
    assert seen["balanced_accuracy"] == pytest.approx(max(balanced))


def test_weights_of_classes_and_of_pictures_count_alike():
    images, numbers = shades([24, 8])
    labels = np.eye(2, dtype="float32")[numbers]
    weights = np.where(numbers == 1, 3.0, 1.0).astype("float32")
    plain = dataset(images, labels)
    still = {"learning_rate": 0.0, "label_smoothing": 0.0}
    model, one = train_small(plain, class_weight={0: 1.0, 1: 3.0}, **still)
    weighted = dataset(images, labels, weights)
    _, other = train_small(weighted, plain, **still)
    right = model.predict(images, verbose=0)[np.arange(32), numbers]
    expected = (-np.log(right) * weights).mean()
    for history in (one, other):
        assert history["loss"] == [pytest.approx(expected, rel=1e-4)]


@pytest.mark.parametrize("weights", [{0: 1.0}, {0: 1, 1: 1, 2: 1}])
def test_a_weight_for_each_class_is_needed(weights):
    images, numbers = shades([4, 4])
    data = dataset(images, np.eye(2, dtype="float32")[numbers])
    with pytest.raises(ValueError, match="classes 0 to 1"):
        train_small(data, class_weight=weights)


def test_several_labels_yes_or_no_and_numbers_are_learned():
    images, numbers = shades([12, 12])
    several = np.eye(2, dtype="float32")[numbers] + [[1, 0]]
    several = np.minimum(several, 1).astype("float32")
    for labels, count, head, measure in [
        (several, 2, "sigmoid", "val_accuracy"),
        (numbers.astype("float32"), 1, "sigmoid", "val_balanced_accuracy"),
        (numbers * 3.0 - 1, 1, None, "val_mean_absolute_error"),
    ]:
        data = dataset(images, labels.astype("float32"))
        options = {"head_activation": head, "epochs": 6}
        _, history = train_small(data, count=count, **options)
        assert measure in history and history["loss"][-1] < history["loss"][0]


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_callbacks_and_metrics_of_ones_own_are_used(tmp_path):
    images, numbers = shades([8, 8])
    data = dataset(images, np.eye(2, dtype="float32")[numbers])
    options = {"epochs": 5, "metrics": ["mean_squared_error"]}
    _, history = train_small(
        data, None, tmp_path, callbacks=[Stop()], **options
    )
    assert len(history["mean_squared_error"]) == 1
    _, again = train_small(data, None, tmp_path, **options)
    assert again == history  # it was stopped, so it is finished


# === Numbers that are none ===


def finite(model):
    return all(np.isfinite(weight).all() for weight in model.get_weights())


def files_of(folder):
    return sorted(x.name for x in folder.rglob("*") if x.is_file())


def test_a_run_that_diverges_stops_and_keeps_the_last_good_state(tmp_path):
    images, numbers = shades([12, 12])
    labels = np.eye(2, dtype="float32")[numbers]
    good, bad = dataset(images, labels), images.copy()
    bad[-1, 0, 0, 0] = np.nan  # in the third batch
    model, data = small_model(num_classes=2), dataset(bad, labels)
    options = {"head_epochs": 1, "epochs": 1, "verbose": 0}
    with pytest.raises(FloatingPointError, match="nan in epoch 1, step 3"):
        fine_tune(model, data, good, tmp_path, **options)
    for weight, same in zip(
        model.get_weights(), small_model(num_classes=2).get_weights()
    ):
        np.testing.assert_array_equal(weight, same)
    assert files_of(tmp_path) == ["settings.json"]
    history = fine_tune(model, good, good, tmp_path, **options)
    assert len(history["loss"]) == 2 and finite(model)


def test_a_state_before_a_nan_is_gone_on_from(tmp_path):
    images, numbers = shades([12, 12])
    good = dataset(images, np.eye(2, dtype="float32")[numbers])
    factor = tf.Variable(1.0)  # NaN after the first epoch
    spoiled = good.map(lambda image, label: (image * factor, label))
    spoil = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: factor.assign(np.nan)
    )
    model = small_model(num_classes=2)
    options = {"head_epochs": 0, "epochs": 3, "verbose": 0}
    with pytest.raises(FloatingPointError, match="in epoch 2, step 1"):
        fine_tune(model, spoiled, good, tmp_path, callbacks=[spoil], **options)
    assert finite(model) and "000001-all.npz" in files_of(tmp_path)
    assert finite(keras.saving.load_model(tmp_path / "best.keras"))
    history = fine_tune(model, good, good, tmp_path, **options)
    assert len(history["loss"]) == 3 and finite(model)


def test_a_rate_that_is_far_too_high_ends_without_a_nan(tmp_path):
    images, numbers = shades([12, 12])
    data = dataset(images, np.eye(2, dtype="float32")[numbers], batch=2)
    model = small_model(num_classes=2)
    options = {"head_epochs": 0, "epochs": 2, "verbose": 0}
    try:
        fine_tune(model, data, data, tmp_path, learning_rate=1e30, **options)
    except FloatingPointError as error:
        assert "A lower learning_rate may work" in str(error)
    else:
        pytest.fail("a rate of 1e30 trained")
    assert finite(model) and "best.keras" not in files_of(tmp_path)


def test_a_nan_to_validate_with_is_named():
    images, numbers = shades([4, 4])
    labels = np.eye(2, dtype="float32")[numbers]
    bad = np.where(np.arange(8)[:, None, None, None] == 3, np.nan, images)
    with pytest.raises(FloatingPointError, match="val_loss is nan after ep"):
        train_small(dataset(images, labels), dataset(bad, labels))


def test_a_schedule_is_no_rate(data):
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    with pytest.raises(ValueError, match="learning_rate=.*is not a finite num"):
        fine_tune(small_model(), *data, learning_rate=schedule)
