"""Fine-tuning: what it trains, what it keeps, and how it goes on after a cut."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")

import gcvit
from gcvit import flowers
from gcvit.flowers import fine_tune, tf

SMALL = {
    "window_size": (4,),
    "embed_dim": 4,
    "depths": (2,),
    "num_heads": (1,),
    "num_classes": 5,
}
EPOCHS = {"head_epochs": 2, "epochs": 3, "verbose": 0}


def small_model(**kwargs):
    keras.utils.set_random_seed(0)
    model = gcvit.GCViT(**(SMALL | kwargs))
    model.build((None, 32, 32, 3))
    return model


def small_data():
    """120 drawings to train on, four batches, and 30 to validate with."""
    with pytest.MonkeyPatch.context() as patch:
        drawings = flowers.draw_flowers(0, 120, 30)
        patch.setattr(flowers, "read", lambda source, seed: drawings)
        return flowers.load_flowers(image_size=32)[:2]


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    """A run without a cut: its folder, its model and its history."""
    folder = tmp_path_factory.mktemp("whole")
    model = small_model()
    return folder, model, fine_tune(model, *data, folder, **EPOCHS)


# === What it does ===


def test_the_history_is_returned_and_saved(whole_run):
    folder, _, history = whole_run
    assert set(history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    assert {len(values) for values in history.values()} == {5}
    assert json.loads((folder / "history.json").read_text()) == history
    assert history["loss"][-1] < history["loss"][0]


def test_the_best_weights_are_kept(whole_run, data):
    _, model, history = whole_run
    results = model.evaluate(data[1], return_dict=True, verbose=0)
    best = np.argmax(history["val_accuracy"][2:]) + 2
    for name, value in results.items():
        assert value == pytest.approx(history[f"val_{name}"][best], abs=1e-4)


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


# === Cuts ===

ROOT = Path(__file__).resolve().parents[1]
KILLED = """
import os, signal, sys
from collections import Counter
from keras.callbacks import LambdaCallback
from tests.test_fine_tune import EPOCHS, fine_tune, small_data, small_model

folder, moment, phase, steps = sys.argv[1:]
model, done = small_model(), Counter()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def on_train_batch_end(self, batch, logs=None):
    head_is_alone = len(model.trainable_weights) == len(model.head.weights)
    done["head" if head_is_alone else "all"] += 1
    if moment == "training" and done[phase] == int(steps):
        die()


def replace(part, path):
    if moment in path.name and done[phase] == int(steps):
        part.write_bytes(part.read_bytes()[:5000])
        die()
    os.rename(part, path)


os.replace = replace
LambdaCallback.on_train_batch_end = on_train_batch_end
fine_tune(model, *small_data(), folder, **EPOCHS)
"""


@pytest.mark.parametrize(
    ("moment", "phase", "steps"),
    [
        ("training", "head", 6),
        ("-head.npz", "head", 8),
        ("best.keras", "all", 4),
        ("-all.npz", "all", 8),
        ("training", "all", 10),
        ("history.json", "all", 12),
    ],
)
def test_a_run_that_was_killed_goes_on(
    whole_run, data, tmp_path, moment, phase, steps
):
    _, whole, expected = whole_run
    arguments = [str(tmp_path), moment, phase, str(steps)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], cwd=ROOT, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL
    steps_before = []
    model = small_model()
    train_step = model.fit

    def fit(*arguments, initial_epoch, **options):
        steps_before.append((initial_epoch, options["epochs"]))
        return train_step(*arguments, initial_epoch=initial_epoch, **options)

    model.fit = fit
    history = fine_tune(model, *data, tmp_path, **EPOCHS)
    finished = (steps - (moment != "training")) // 4
    starts = {"head": [(finished, 2), (2, 5)], "all": [(2 + finished, 5)]}
    if phase == "all" and not finished:
        starts["all"] = [(2, 2), (2, 5)]  # the head's state is loaded
    assert steps_before == starts[phase]
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-3)
    for one, other in zip(model.get_weights(), whole.get_weights()):
        np.testing.assert_allclose(one, other, atol=2e-3)
    assert not list(tmp_path.rglob("unfinished-*"))


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_float16"])
def test_a_state_in_another_precision_is_loaded_whole(tmp_path, policy):
    one, other = small_model(dtype=policy), small_model(dtype=policy)
    for model in (one, other):
        flowers.compile_model(model, 100, 1e-3, 0.1, False)
    for weight in one.weights:
        weight.assign(weight + 1)
    flowers.save_state(one, tmp_path / "state.npz")
    flowers.load_state(other, tmp_path / "state.npz")
    for weight, same in zip(one.variables, other.variables):
        np.testing.assert_array_equal(
            *map(keras.ops.convert_to_numpy, (weight, same))
        )


def test_other_files_in_the_folder_stay(data, tmp_path):
    notes = tmp_path / "2024-all.npz"
    notes.write_bytes(b"mine")
    fine_tune(small_model(), *data, tmp_path, epochs=1, verbose=0)
    assert notes.read_bytes() == b"mine"


def test_other_pictures_do_not_continue_a_run(whole_run, data, monkeypatch):
    monkeypatch.setattr(data[0], "contents", "other")
    with pytest.raises(ValueError, match="pictures was .*, now other"):
        fine_tune(small_model(), *data, whole_run[0], **EPOCHS)


def test_a_finished_run_is_not_trained_again(whole_run, data):
    folder, model, history = whole_run
    other = small_model()
    before = (folder / "history.json").stat().st_mtime_ns
    assert fine_tune(other, *data, folder, **EPOCHS) == history
    assert (folder / "history.json").stat().st_mtime_ns == before
    for one, another in zip(other.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(one, another)


def test_other_settings_do_not_continue_a_run(whole_run, data):
    folder, _, _ = whole_run
    files = sorted(folder.iterdir())
    with pytest.raises(ValueError, match="learning_rate was 0.001, now 0.1"):
        fine_tune(small_model(), *data, folder, learning_rate=0.1, **EPOCHS)
    assert sorted(folder.iterdir()) == files


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import keras
from tests.test_fine_tune import EPOCHS, fine_tune, small_data, small_model

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model, data, folder = small_model(), small_data(), Path(sys.argv[1])
fit = model.fit


def fill_the_disk(epoch, _):
    if epoch == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))


def fit_and_fill(*arguments, callbacks, **options):
    last = keras.callbacks.LambdaCallback(on_epoch_begin=fill_the_disk)
    return fit(*arguments, callbacks=[*callbacks, last], **options)


model.fit = fit_and_fill
try:
    fine_tune(model, *data, folder, **EPOCHS)
except OSError as error:
    print("refused:", error)
"""


def test_a_full_disk_leaves_the_state_before(data, tmp_path):
    arguments = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    run = subprocess.run(
        arguments, cwd=ROOT, timeout=300, capture_output=True, text=True
    )
    assert run.returncode == 0 and "refused:" in run.stdout, run.stderr
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == [
        "000003-all.npz",
        "best.keras",
        "history.json",
        "settings.json",
    ]
    history = fine_tune(small_model(), *data, tmp_path, **EPOCHS)
    assert len(history["loss"]) == 5


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


def test_a_share_of_the_labels_that_is_none_is_an_error(data):
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
