"""Start several processes that JAX joins into one, on this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# How a program joins the others; faults are to be seen within seconds.
JOIN = """\
import os
os.environ["KERAS_BACKEND"] = "jax"
import jax
address, count, rank = os.environ["TEST_PROCESSES"].split()
if int(count) > 1:
    jax.distributed.initialize(
        address, int(count), int(rank), initialization_timeout=10,
        heartbeat_timeout_seconds=10, shutdown_timeout_seconds=10,
    )
import keras
if jax.device_count() > 1:
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
"""


def free_address():
    """Find a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def start(program, count=1, devices=1, ranks=None, **variables):
    """Start a program in several processes.

    Args:
        program: Python that runs after `JOIN`, a text.
        count: how many processes there are.
        devices: how many of JAX's virtual devices each of them has.
        ranks: which of them are started, if not all.
        variables: more of the environment.

    Returns:
        A list of `subprocess.Popen`, their output and errors in one pipe.
    """
    address = free_address()
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", JOIN + program],
            env=environment
            | {"TEST_PROCESSES": f"{address} {count} {rank}"}
            | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (range(count) if ranks is None else ranks)
    ]


def finish(processes, seconds=120):
    """Wait for processes; give pairs (exit code, what was printed)."""
    try:
        texts = [x.communicate(timeout=seconds)[0] for x in processes]
    finally:
        for process in processes:
            process.kill()
    return [(x.returncode, text) for x, text in zip(processes, texts)]
