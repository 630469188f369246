"""Runs: what a training keeps, and how it goes on after a cut."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")

from training import EPOCHS, compiled, small_data, small_model

from gcvit import runs
from gcvit.flowers import fine_tune


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    """A run without a cut: its folder, its model and its history."""
    folder = tmp_path_factory.mktemp("whole")
    model = small_model()
    return folder, model, fine_tune(model, *data, folder, **EPOCHS)


# === Files saved whole ===


def test_what_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "notes.txt"
    runs.save_whole(lambda part: part.write_text("before"), path)

    def fail(part):
        part.write_text("half of")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        runs.save_whole(fail, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_keeps_its_settings(tmp_path):
    runs.check_settings({"epochs": 3, "rate": 0.1}, tmp_path)
    runs.check_settings({"epochs": 3, "rate": 0.1}, tmp_path)
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "000001-all.npz").touch()
    with pytest.raises(ValueError, match="epochs was 3, now 4"):
        runs.check_settings({"epochs": 4, "rate": 0.1}, tmp_path)
    before = json.loads((tmp_path / "settings.json").read_text())
    assert before == {"epochs": 3, "rate": 0.1}


def test_settings_of_which_nothing_came_can_change(tmp_path):
    runs.check_settings({"epochs": 3}, tmp_path)
    runs.check_settings({"epochs": 4}, tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text())["epochs"] == 4


def test_a_folder_is_kept_if_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with runs.opened("~/run", {}) as folder:
        assert folder == tmp_path / "run"
    assert (folder / "settings.json").exists()
    with runs.opened(None, {}) as folder:
        assert folder.exists()
    assert not folder.exists()
    with pytest.raises(ValueError, match="folder=3 is not a path"):
        with runs.opened(3, {}):
            pass


# === A whole run ===


def test_the_history_is_returned_and_saved(whole_run):
    folder, _, history = whole_run
    names = {"accuracy", "balanced_accuracy", "loss"}
    names |= {f"val_{name}" for name in names}
    assert set(history) == names | {"val_recalls"}
    assert {len(values) for values in history.values()} == {5}
    assert json.loads((folder / "history.json").read_text()) == history
    assert history["loss"][-1] < history["loss"][0]


def test_the_best_weights_are_kept(whole_run, data):
    _, model, history = whole_run
    results = model.evaluate(data[1], return_dict=True, verbose=0)
    best = np.argmax(history["val_balanced_accuracy"][2:]) + 2
    for name, value in results.items():
        assert value == pytest.approx(history[f"val_{name}"][best], abs=1e-4)


# === Cuts ===


ROOT = Path(__file__).resolve().parents[1]
KILLED = """
import os, signal, sys
from collections import Counter
from gcvit.runs import Keeper
from gcvit.flowers import fine_tune
from tests.training import EPOCHS, small_data, small_model

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
Keeper.on_train_batch_end = on_train_batch_end
fine_tune(model, *small_data(), folder, **EPOCHS)
"""


@pytest.mark.parametrize(
    ("moment", "phase", "steps"),
    [
        ("training", "head", 6),
        pytest.param("history.json", "all", 12, marks=pytest.mark.weekly),
        pytest.param("-head.npz", "head", 8, marks=pytest.mark.weekly),
        pytest.param("best.keras", "all", 4, marks=pytest.mark.weekly),
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
    one, other = (
        compiled(small_model(dtype=policy), jit_compile=False)
        for _ in range(2)
    )
    for weight in one.weights:
        weight.assign(weight + 1)
    runs.save_state(one, tmp_path / "state.npz")
    runs.load_state(other, tmp_path / "state.npz")
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
from gcvit.flowers import fine_tune
from tests.training import EPOCHS, small_data, small_model

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
