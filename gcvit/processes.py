"""Processes: several of them, on one machine or on many, work as one.

They are JAX's: `keras.distribution.initialize` joins them. Without it, and with
the other backends, there is one process, the first.

When something goes wrong in one of them, all end, each with an error, and the
same call on all processes then goes on from the last whole epoch:

    what goes wrong          what the others see                  within
    -------------------------------------------------------------------------
    one is killed            `watched`: it is lost                at once
    the first is killed      that, or JAX: UNAVAILABLE            at once
    an error, in `together`  `together`: its text                 at once
    an error elsewhere       as if it were killed                 FAREWELL
    one hangs                `watched`: nothing is finished       PATIENCE
    one stands still         JAX: it stopped sending heartbeats   100 s
    one never starts         JAX: DEADLINE_EXCEEDED               300 s

So it is on CPUs. GPUs may hang where a CPU sees the loss at once; then it takes
100 s, too. JAX's times are those that `jax.distributed.initialize` has by
default. An error before `watched` keeps the others waiting for 300 s.
"""

import contextlib
import os
import sys
import threading
import time
import traceback

import keras
import numpy as np

# Seconds without a sign of life, after which a process ends. A large model's
# first step is compiled for minutes, and gives none before it is done.
PATIENCE = 600
# Seconds that a process with an error waits at its exit for the others to come
# to theirs. JAX would wait for 300.
FAREWELL = 5
AGAIN = "The same call on all processes goes on from the last whole epoch."
last_sign = [time.monotonic()]


def count():
    """Give the number of processes that work as one, an int."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def rank():
    """Give this process's number, from 0; the first one writes files."""
    if keras.backend.backend() != "jax":
        return 0
    import jax

    return jax.process_index()


# === Agreeing ===


def gather(text):
    """Give every process the texts of all; each of them must call it.

    Args:
        text: this process's.

    Returns:
        A list of texts, one for each process, in their order.
    """
    if count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    alive()
    content = np.frombuffer(text.encode(), "uint8")
    sizes = multihost_utils.process_allgather(np.array(len(content)))
    padded = np.pad(content, (0, int(sizes.max()) - len(content)))
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:n]).decode() for row, n in zip(rows, sizes)]


def wait(name):
    """Wait until every process has come to the same place.

    Args:
        name: of the place, a text, the same for all.
    """
    if count() > 1:
        from jax.experimental import multihost_utils

        alive()
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def together():
    """End what every process does together: with no error, or all with one.

    Each of them must come to it. The process with the error raises it.

    Raises:
        RuntimeError: on the others, with the error's text.
    """
    error = None
    try:
        yield
    except Exception as raised:  # otherwise the others would wait
        error = raised
    texts = gather(f"{type(error).__name__}: {error}" if error else "")
    if error is not None:
        raise error
    for number, text in enumerate(texts):
        if text:
            raise RuntimeError(f"process {number} ended with {text}")


# === Faults ===


def alive():
    """Give a sign of life; see `watched`."""
    last_sign[:] = [time.monotonic()]


def watch(thread, over):
    """End this process when it gives no sign of life for too long.

    Args:
        thread: the identifier of the thread that works.
        over: an event, set when there is no more to watch.
    """
    while time.monotonic() - last_sign[0] <= PATIENCE:
        if over.wait(1):
            return
    place = traceback.extract_stack(sys._current_frames()[thread])[-1]
    print(
        f"process {rank()} of {count()} has finished nothing for {PATIENCE} s, "
        "and ends: it hangs, or waits for another one that does. It is in "
        f"{place.filename}, line {place.lineno}, in {place.name}. {AGAIN} If it "
        "was only slow, give it more seconds: gcvit.processes.PATIENCE.",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    if rank() == 0:  # with it, JAX ends the others: they speak first
        time.sleep(FAREWELL)
    os._exit(1)  # what hangs cannot be told to end


def leave():
    """End this process if others keep it from ending; it has had an error."""
    threading.main_thread().join()
    time.sleep(FAREWELL)
    os._exit(1)


@contextlib.contextmanager
def watched():
    """Watch this process as long as the context lasts, and end it if it hangs.

    One that gives no sign of life for `PATIENCE` seconds prints what it is in,
    and ends. `alive` gives one, and so do `gather`, `wait` and `together`. A
    single process is not watched.

    Raises:
        RuntimeError: if another process has ended while this one needed it.
    """
    if count() == 1:
        yield
        return
    alive()
    over = threading.Event()
    arguments = threading.get_ident(), over
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    try:
        yield
    except BaseException as error:
        threading.Thread(target=leave, daemon=True).start()
        # What carries numbers between processes, on CPUs and on GPUs.
        if "Gloo" in str(error) or "NCCL" in str(error):
            raise RuntimeError(
                f"process {rank()} of {count()} lost another one, which was "
                f"killed, or ended with an error that it has printed. {AGAIN}"
            ) from None
        raise
    finally:
        over.set()
