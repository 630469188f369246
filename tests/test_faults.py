"""Faults: when one process fails, each ends, and says why.

Real processes on this machine. What does not end is killed by `finish`, and
then its code and its text are not those expected.
"""

import itertools
import json
import re
import signal
import threading
import zipfile

import numpy as np
import pytest
from launch import finish, start
from PIL import Image

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

TRAIN = """
import signal, sys
import gcvit

folder = os.environ["RUN"]


class Killer(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2 and str(rank) == os.environ.get("KILLED"):
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder, epochs=3, batch_size=8):
    keras.utils.set_random_seed(0)
    data = gcvit.load_pictures(os.environ["PICTURES"], 32, batch_size)[:2]
    model = gcvit.GCViT(
        window_size=(4,), embed_dim=4, depths=(2,), num_heads=(1,),
        drop_rate=0.1, path_drop=0.2, num_classes=2,
    )
    model.build((None, 32, 32, 3))
    options = {"head_epochs": 0, "epochs": epochs, "verbose": 0}
    gcvit.fine_tune(model, *data, folder, callbacks=[Killer()], **options)
"""
MISTAKES = """
def refused(*arguments):
    try:
        train(*arguments)
    except ValueError as error:
        print("refused:", error)


refused(f"{folder}-{rank}")
refused(folder, 3 + rank)
refused(folder, 3, 9)
sys.exit(1)
"""
REASONS = [
    "folder=.* of process 1 is not that of process 0",
    "do not agree in epochs: 3 in process 0, 4 in process 1",
    "batch_size=9 cannot be shared by 2 devices; 8 and 10 would",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Noise, dark or bright: a folder of 12 pictures for each of two classes."""
    pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, brightness in [("dark", 60), ("bright", 180)]:
        (folder / name).mkdir()
        for number in range(12):
            noise = random.integers(0, brightness, (34, 34, 3), "uint8")
            Image.fromarray(noise).save(folder / name / f"{number}.png")
    return folder


def train(pictures, folder, program="train(folder)", **variables):
    """Train on two processes; give what `finish` gives."""
    places = {"PICTURES": str(pictures), "RUN": str(folder)}
    return finish(start(TRAIN + program, 2, **places, **variables), 240)


def contents(folder):
    """Load all files of a run; give the arrays and the text that decide."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    (state,) = (path for path in files if path.suffix == ".npz")
    with zipfile.ZipFile(folder / "best.keras") as best:
        assert best.testzip() is None
    json.loads((folder / "settings.json").read_text())
    with np.load(state) as arrays:
        values = [array.tobytes() for array in arrays.values()]
    unfinished = [path for path in files if "unfinished" in path.name]
    assert not unfinished
    return state.name, values, (folder / "history.json").read_text()


def test_a_killed_training_goes_on(pictures, tmp_path):
    for code, text in train(pictures, tmp_path / "whole"):
        assert code == 0, text
    results = train(pictures, tmp_path / "cut", KILLED="1")
    assert results[0][0] == 1 and LOST in results[0][1], results
    assert contents(tmp_path / "cut")[0] == "000002-all.npz"
    for code, text in train(pictures, tmp_path / "cut"):
        assert code == 0, text
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_what_does_not_go_together_is_refused_by_all(pictures, tmp_path):
    for code, text in train(pictures, tmp_path / "run", MISTAKES):
        lines = [x for x in text.splitlines() if x.startswith("refused:")]
        assert len(lines) == len(REASONS), text
        for line, reason in zip(lines, REASONS):
            assert re.search(reason, line), text
        assert code == 1, text
    assert not list(tmp_path.rglob("*.npz"))
    assert not list(tmp_path.rglob("unfinished-*"))
