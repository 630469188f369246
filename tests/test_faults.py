"""Faults: when one process fails, each ends, and says why.

Real processes on this machine. What does not end is killed by `finish`, and
then its code and its text are not those expected. What they do not agree in is
in `test_many_devices.py`.
"""

import itertools
import json
import signal
import threading
import zipfile

import numpy as np
import pytest
from launch import finish, start

from gcvit import processes

pytest.importorskip("jax", reason="only JAX has several processes")

LOST = "lost another one, which was killed, or ended with an error"
JAX = "detected fatal errors"  # what JAX prints when it ends a process
# Processes that exchange texts, until something happens to one of them.
WORK = """
import signal, time
from gcvit import processes

processes.FAREWELL, processes.PATIENCE = map(int, os.environ["TIMES"].split())
with processes.watched():
    for step in range(2000):
        processes.gather(f"step {step}")
        if step == 3 and processes.rank() == int(os.environ["FAULTY"]):
            exec(os.environ["FAULT"])
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
STOPPED = "os.kill(os.getpid(), signal.SIGSTOP)"
FAILS = "raise OSError('no space left')"
HANGS = "time.sleep(1000)"


def work(fault, faulty, times="1 600", **options):
    """Start two processes, one of which is faulty."""
    return start(
        WORK, 2, FAULT=fault, FAULTY=str(faulty), TIMES=times, **options
    )


@pytest.fixture(scope="module")
def waiting():
    """Those of which the others notice after some seconds, at the same time."""
    started = {
        "hangs": work(HANGS, 0, "3 5"),
        "stops": work(STOPPED, 1, patience=10),
        "never starts": work("", 1, ranks=[1], patience=5),
    }
    yield started
    for process in itertools.chain(*started.values()):
        process.kill()


def test_all_end_when_one_hangs(waiting):
    for code, text in finish(waiting["hangs"]):
        assert code == 1, text
        assert text.count("finished nothing for 5 s, and ends") == 1, text
        assert "The same call on all processes goes on" in text


def test_the_others_end_when_one_stops(waiting):
    other, stopped = waiting["stops"]
    ((code, text),) = finish([other])
    assert code == -signal.SIGABRT, text
    assert "stopped sending heartbeats" in text
    assert stopped.poll() is None  # it stands still, and cannot end


def test_all_end_when_one_never_starts(waiting):
    ((code, text),) = finish(waiting["never starts"])
    assert code == -signal.SIGABRT, text
    assert JAX in text and "Deadline Exceeded" in text


@pytest.mark.parametrize(
    "fault, expected",
    [
        (KILLED, [(1, LOST), (-signal.SIGKILL, "")]),
        (FAILS, [(1, LOST), (1, "\nOSError: no space left")]),
    ],
)
def test_all_end_when_one(fault, expected):
    results = finish(work(fault, 1))
    for (code, text), (expected_code, words) in zip(results, expected):
        assert words in text and JAX not in text, text
        assert code == expected_code, text


@pytest.mark.weekly
@pytest.mark.parametrize("fault", [KILLED, FAILS])
def test_all_end_when_the_first(fault):
    """It has the service with which JAX ends the others.

    Which of the two is faster to speak is open.
    """
    first, other = finish(work(fault, 0))
    if fault == FAILS:
        assert first[0] == 1 and "\nOSError: no space left" in first[1]
    assert other[0] in (1, -signal.SIGABRT), other
    assert LOST in other[1] or JAX in other[1], other


TOGETHER = """
from gcvit import processes

with processes.watched():
    for step in range(3):
        with processes.together():
            if step == 1 and processes.rank() == 0:
                raise OSError("no space left")
        print("after step", step)
"""


def test_what_is_done_together_fails_on_all():
    texts = finish(start(TOGETHER, 2), 60)
    assert [code for code, _ in texts] == [1, 1], texts
    assert "\nOSError: no space left" in texts[0][1]
    others = "RuntimeError: process 0 ended with OSError: no space left"
    assert others in texts[1][1]
    for _, text in texts:
        assert "after step 0" in text and "after step 1" not in text
        assert JAX not in text


def test_one_process_is_not_watched(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0)
    before = threading.active_count()
    with processes.watched():
        assert threading.active_count() == before


# === In training ===

# What `fine_tune` does, with a model that is compiled in a second.
TRAIN = """
import signal
import numpy as np
from gcvit import processes, runs

processes.FAREWELL = 1


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        images = np.random.default_rng(index).normal(size=(8, 4))
        return images.astype("float32"), images[:, :1].astype("float32")


class Killer(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if str((self.epoch, batch, rank)) == os.environ.get("KILLED"):
            os.kill(os.getpid(), signal.SIGKILL)


keras.utils.set_random_seed(0)
model = keras.Sequential(
    [keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
)
model.compile("adam", "mse")
model.optimizer.build(model.trainable_variables)
with runs.opened(os.environ["RUN"], {}) as run:
    runs.fit(
        model, (Batches(), Batches()), run, "all", (0, 3), ("val_loss", -1),
        {}, callbacks=[Killer()], verbose=0,
    )
"""


def contents(folder):
    """Load all files of a run; give what must be alike."""
    assert not list(folder.rglob("unfinished-*"))
    with zipfile.ZipFile(folder / "best.keras") as best:
        assert best.testzip() is None
    assert json.loads((folder / "settings.json").read_text()) == {}
    (state,) = folder.glob("states/*")
    with np.load(state) as arrays:
        values = [array.tobytes() for array in arrays.values()]
    return (
        state.name,
        values,
        json.loads((folder / "history.json").read_text()),
    )


@pytest.mark.weekly  # the chapter `scale` does the same on each push
def test_a_killed_training_goes_on(tmp_path):
    def train(name, **variables):
        return finish(start(TRAIN, 2, RUN=str(tmp_path / name), **variables))

    for code, text in train("whole"):
        assert code == 0, text
    (code, text), _ = train("cut", KILLED="(1, 2, 1)")
    assert code == 1 and LOST in text, text
    assert contents(tmp_path / "cut")[0] == "000001-all.npz"
    for code, text in train("cut"):
        assert code == 0, text
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
