"""Start several processes that JAX joins into one, on this machine."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = tempfile.TemporaryDirectory()


def quick():
    """Give the variables with which JAX, once imported, compiles quickly.

    In tests the time goes into compiling, not into computing: it optimises less,
    and compiles the same program only once, also in another model or another
    process: both of pytest-xdist's, and all of `.ci/run`, which names a folder.
    """
    flags = "--xla_backend_optimization_level=0"
    flags += " --xla_llvm_disable_expensive_passes=true"
    # An older way takes half as long. JAX 0.12 no longer knows it, and ends.
    if find_spec("jax") and version("jax").startswith("0.10."):
        flags += " --xla_cpu_use_fusion_emitters=false"
        flags += " --xla_cpu_parallel_codegen_split_count=1"
    return {
        "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": CACHE.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


# How a program joins the others.
JOIN = """\
import os
os.environ["KERAS_BACKEND"] = "jax"
import jax
address, *numbers = os.environ["TEST_PROCESSES"].split()
count, rank, patience = map(int, numbers)
if count > 1:
    jax.distributed.initialize(
        address, count, rank, initialization_timeout=patience,
        heartbeat_timeout_seconds=patience, shutdown_timeout_seconds=patience,
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


def environment(devices=1):
    """Give the variables of a process that compiles quickly, on JAX's devices."""
    variables = quick()
    count = f" --xla_force_host_platform_device_count={devices}"
    flags = {"XLA_FLAGS": variables["XLA_FLAGS"] + count}
    return variables | os.environ | flags | {"PYTHONPATH": str(ROOT)}


def start(program, count=1, devices=1, ranks=None, patience=60, **variables):
    """Start a program in several processes.

    Args:
        program: Python that runs after `JOIN`, a text.
        count: how many processes there are.
        devices: how many of JAX's virtual devices each of them has.
        ranks: which of them are started, if not all.
        patience: after how many seconds JAX takes one that is silent for lost.
        variables: more of the environment.

    Returns:
        A list of `subprocess.Popen`, their output and errors in one pipe.
    """
    address = free_address()
    return [
        subprocess.Popen(
            [sys.executable, "-c", JOIN + program],
            env=environment(devices)
            | {"TEST_PROCESSES": f"{address} {count} {rank} {patience}"}
            | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (range(count) if ranks is None else ranks)
    ]


def finish(processes, seconds=120):
    """Wait for processes; give pairs (exit code, what was printed).

    What has not ended by then is killed, and its text says so.
    """
    end = time.monotonic() + seconds
    texts = []
    for process in processes:
        late = ""
        try:
            process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            late = f"(still running after {seconds} s)"
            process.kill()
        texts.append(process.communicate()[0] + late)
    return [(x.returncode, text) for x, text in zip(processes, texts)]
