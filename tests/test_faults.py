"""Faults: when one process fails, each ends, and says why.

Real processes on this machine. What does not end is killed by `finish`, and
then its code and its text are not those expected.
"""

import signal

import pytest
from launch import finish, start

pytest.importorskip("jax", reason="only JAX has several processes")

LOST = "lost another one, which was killed, or ended with an error"
JAX = "detected fatal errors"  # what JAX prints when it ends a process
# Processes that exchange texts, until something happens to one of them.
WORK = """
import signal, time
from gcvit import processes

processes.FAREWELL = 3
processes.PATIENCE = int(os.environ.get("PATIENCE", 600))
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


@pytest.mark.parametrize(
    "fault, expected",
    [
        (KILLED, [(1, LOST), (-signal.SIGKILL, "")]),
        (FAILS, [(1, LOST), (1, "\nOSError: no space left")]),
    ],
)
def test_all_end_when_one(fault, expected):
    results = finish(start(WORK, 2, FAULT=fault, FAULTY="1"), 50)
    for (code, text), (expected_code, words) in zip(results, expected):
        assert words in text and JAX not in text, text
        assert code == expected_code, text


@pytest.mark.parametrize("fault", [KILLED, FAILS])
def test_all_end_when_the_first(fault):
    """It has the service with which JAX ends the others.

    Which of the two is faster to speak is open.
    """
    first, other = finish(start(WORK, 2, FAULT=fault, FAULTY="0"), 50)
    if fault == FAILS:
        assert first[0] == 1 and "\nOSError: no space left" in first[1]
    assert other[0] in (1, -signal.SIGABRT), other
    assert LOST in other[1] or JAX in other[1], other


def test_all_end_when_one_hangs():
    started = start(WORK, 2, FAULT=HANGS, FAULTY="0", PATIENCE="5")
    for code, text in finish(started, 60):
        assert code == 1, text
        assert text.count("finished nothing for 5 s, and ends") == 1, text
        assert "The same call on all processes goes on" in text


def test_the_others_end_when_one_stops():
    other, stopped = start(WORK, 2, patience=10, FAULT=STOPPED, FAULTY="1")
    try:
        ((code, text),) = finish([other], 60)
    finally:
        finish([stopped], 0)  # it stands still, and cannot end
    assert code == -signal.SIGABRT, text
    assert "stopped sending heartbeats" in text


def test_all_end_when_one_never_starts():
    ((code, text),) = finish(start(WORK, 2, ranks=[1], patience=5), 60)
    assert code == -signal.SIGABRT, text
    assert JAX in text and "Deadline Exceeded" in text


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


def test_one_process_is_not_watched():
    alone = """
import threading
from gcvit import processes

processes.PATIENCE = 0
with processes.watched():
    assert threading.active_count() == 1
"""
    assert finish(start(alone)) == [(0, "")]
