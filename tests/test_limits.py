"""What a stranger's file asks for is bounded, and what it names is refused."""

import json
import os
import subprocess
import sys
import zipfile

import bombs
import keras
import numpy as np
import pytest
from checkpoint_files import NEEDS_PYTORCH
from helpers import small_model

import gcvit
from gcvit import checkpoints, limits

MIB = 2**20
# The reader, in a process of its own, with Keras's lightest backend: what it
# prints is the error, and the most memory before and after, in KiB.
READ = """
import resource, sys
from pathlib import Path
from gcvit import checkpoints
if sys.argv[2] == "torch":
    import torch
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    checkpoints.read(Path(sys.argv[1]))
except ValueError as error:
    print(error)
else:
    sys.exit("it was read")
print(before, peak())
"""


def peak_of(script, *arguments):
    """Run a script; give what it says, and its peaks of memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=os.environ | {"KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said, _, peaks = done.stdout.rstrip().rpartition("\n")
    before, after = (int(peak) / 1024 for peak in peaks.split())
    return said, before, after


def cases():
    return [
        pytest.param(
            name,
            marks=[NEEDS_PYTORCH] if ".pth" in ending else [],
        )
        for name, (ending, _) in bombs.BOMBS.items()
    ]


@pytest.mark.parametrize("name", cases())
def test_a_bomb_is_refused_in_little_memory(name, tmp_path):
    ending, write = bombs.BOMBS[name]
    path = tmp_path / f"bomb{ending}"
    write(path)
    kind = "torch" if ".pth" in ending else "other"
    said, before, after = peak_of(READ, path, kind)
    print(f"{name}: {path.stat().st_size / MIB:.2f} MiB on the disk;", end=" ")
    print(f"peak {after:.0f} MiB, {before:.0f} of them imports; {said}")
    assert str(path) in said
    assert after - before < 150
    assert after < 500 or before > 350  # imports alone take that
