"""Measure `predict_folder`: 100,000 small pictures, and what `nano` loses.

    make .venv/ready
    .venv/bin/python benchmarks/answers.py

Prints the figures that `benchmarks/answers.md` keeps. Each measurement runs in
a process of its own, so that its peak memory is its own. Pictures are drawn by
NumPy, into a folder that is deleted.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

BACKENDS = ("tensorflow", "jax")
BATCH = 32
REPETITIONS = 3


def draw(folder, count, sides):
    """Write JPEG files of random colours, a thousand in each sub-folder.

    Args:
        folder: where they go, a path.
        count: how many, an int.
        sides: the shortest and the longest side, two ints.
    """
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for i in range(count):
        place = folder / f"{i // 1000:03}"
        place.mkdir(exist_ok=True)
        small = generator.integers(0, 256, (8, 8, 3), "uint8")
        size = generator.integers(*sides, 2, endpoint=True).tolist()
        Image.fromarray(small).resize(size).save(place / f"{i:06}.jpg")


def answer(model, folder):
    """Answer a folder; give the seconds and the number of rows."""
    import csv

    import gcvit

    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        file = gcvit.predict_folder(
            model, folder, f"{place}/answers.csv", batch_size=BATCH
        )
        seconds = time.perf_counter() - start
        with file.open(encoding="utf-8", newline="") as opened:
            rows = [row["file"] for row in csv.DictReader(opened)]
    assert len(set(rows)) == len(rows)
    return seconds, len(rows)


def many(folder):
    """Answer 100,000 small pictures with the smallest model."""
    import gcvit

    model = gcvit.GCViT(
        window_size=(4,),
        embed_dim=4,
        depths=(1,),
        num_heads=(1,),
        num_classes=10,
    )
    model.build((None, 32, 32, 3))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds, rows = answer(model, folder)
    return {"seconds": seconds, "rows": rows, "peak before": start}


def nano(folder):
    """Compare `nano` on photographs' sizes with `nano` on one batch.

    Returns:
        A dict of pictures per second, medians of runs that take turns.
    """
    import numpy as np

    import gcvit

    model = gcvit.from_pretrained("nano")
    images = np.zeros((BATCH, 64, 64, 3), "float32")
    images += np.random.default_rng(0).normal(size=images.shape)
    model.predict_on_batch(images)  # compiles
    alone, whole = [], []
    for _ in range(REPETITIONS):
        seconds, rows = answer(model, folder)
        whole.append(rows / seconds)
        start = time.perf_counter()
        for _ in range(rows // BATCH):
            model.predict_on_batch(images)
        alone.append(rows // BATCH * BATCH / (time.perf_counter() - start))
    ratios = [one / other for one, other in zip(whole, alone)]
    return {
        "folder": statistics.median(whole),
        "alone": statistics.median(alone),
        "share": statistics.median(ratios),
    }


def measure(name, folder, backend):
    """Run one of the functions above in a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, name, folder],
        env=os.environ | {"KERAS_BACKEND": backend},
        check=True,
        stdout=subprocess.PIPE,
    )
    return json.loads(run.stdout.splitlines()[-1])


def main():
    from importlib.metadata import version

    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores,")
    print(", ".join(f"{x} {version(x)}" for x in ("keras", *BACKENDS)), "\n")
    for name, count, sides in (
        ("nano", 2_000, (300, 500)),
        ("many", 100_000, (32, 64)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            draw(Path(folder), count, sides)
            for backend in BACKENDS:
                numbers = measure(name, folder, backend)
                print(f"{name}, {backend}: {json.dumps(numbers)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        name, folder = sys.argv[1:]
        result = globals()[name](folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(result | {"peak": peak}))
