"""Compare the speed of GCViT's implementations, side by side in one run.

    make benchmark

Measures XXTiny at 224 pixels in float32, a forward pass and a training step:
this package on three backends, timm (eager and compiled), and
keras_cv_attention_models. Where there is a GPU, a batch of 256 in bfloat16
comes on top. Writes `benchmarks/speed.md`, which the book shows.

Machines are noisy. So each implementation has a process of its own, all of
them stay loaded, and they take turns: what slows one repetition slows all.
Compare ratios within a table, not numbers across runs.
"""

import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from unittest.mock import MagicMock

TABLES = Path(__file__).with_name("speed.md")
REPETITIONS = 15
# A repetition lasts at least this long, in seconds.
DURATION = 0.5
TASKS = ("forward", "training")
# Task, batch and dtype of each table.
SETTINGS = [(task, batch, "float32") for batch in (1, 8) for task in TASKS]
GPU_SETTINGS = [(task, 256, "bfloat16") for task in TASKS]
# Floating-point operations of a forward pass, an image. A training step has
# three times as many: the gradient of one product is two products.
OPERATIONS = 4.2e9
# The side of the square matrices whose product is the ceiling.
SIDE = 2048
PACKAGES = ("keras", "tensorflow", "torch", "jax", "timm")
PACKAGES += ("keras_cv_attention_models",)


# === What is measured: each returns a function that runs one step ===


def arrays(batch):
    """Random images, channels last, and one-hot labels."""
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.normal(size=(batch, 224, 224, 3)).astype("float32")
    return images, np.eye(1000, dtype="float32")[:batch]


def keras_step(model, keras, task, batch, jit_compile):
    """A step of any Keras model whose head gives logits."""
    images, labels = arrays(batch)
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-4),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    if task == "forward":
        return lambda: model.predict_on_batch(images)
    return lambda: model.train_on_batch(images, labels)


def this_package(task, batch, dtype, backend, jit_compile, recompute=None):
    os.environ["KERAS_BACKEND"] = backend
    import keras

    from gcvit import GCViT

    if dtype != "float32":
        keras.config.set_dtype_policy(f"mixed_{dtype}")
    with keras.RematScope(recompute):
        model = GCViT.from_variant("xxtiny", head_activation=None)
        model.build((None, 224, 224, 3))
    return keras_step(model, keras, task, batch, jit_compile)


def keras_cv_attention_models(task, batch, dtype):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tf_keras
    from keras_cv_attention_models import gcvit

    if dtype != "float32":
        tf_keras.mixed_precision.set_global_policy(f"mixed_{dtype}")
    model = gcvit.GCViT_XXTiny(pretrained=None, classifier_activation=None)
    return keras_step(model, tf_keras, task, batch, None)


def timm(task, batch, dtype, compiled):
    without_torchvision()
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = timm.create_model("gcvit_xxtiny", drop_path_rate=0.2).to(device)
    model.train(task == "training")
    call = torch.compile(model) if compiled else model
    images, labels = (torch.from_numpy(x).to(device) for x in arrays(batch))
    images = images.permute(0, 3, 1, 2).contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def logits():
        with torch.autocast(device, torch.bfloat16, dtype == "bfloat16"):
            return call(images)

    def forward():
        with torch.inference_mode():
            return logits().float().cpu().numpy()

    def training():
        loss = torch.nn.functional.cross_entropy(logits(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return forward if task == "forward" else training


def without_torchvision():
    """Let timm be imported: it wants torchvision, for reading data only.

    torchvision has no build for each build of PyTorch, so it is not required.
    """

    names = ("", ".datasets", ".transforms", ".transforms.functional", ".ops")
    names += (".ops.misc", ".models", ".models.feature_extraction")
    for name in names:
        sys.modules[f"torchvision{name}"] = MagicMock()


def product_tensorflow(task, batch, dtype):
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((SIDE, SIDE)), dtype)
    return lambda: tf.matmul(matrix, matrix)[0, 0].numpy()


def product_torch(task, batch, dtype):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    matrix = torch.randn(SIDE, SIDE, device=device)
    matrix = matrix.to(getattr(torch, dtype))
    return lambda: (matrix @ matrix)[0, 0].item()


# Row of the table: what makes its step, with which options.
CEILINGS = {
    "matrix product, TensorFlow": (product_tensorflow, {}),
    "matrix product, PyTorch": (product_torch, {}),
}
PEERS = {
    "timm, eager": (timm, {"compiled": False}),
    "timm, compiled": (timm, {"compiled": True}),
    "keras_cv_attention_models": (keras_cv_attention_models, {}),
}
OURS = {
    "this package, TensorFlow": (
        this_package,
        {"backend": "tensorflow", "jit_compile": False},
    ),
    "this package, TensorFlow, XLA": (
        this_package,
        {"backend": "tensorflow", "jit_compile": True},
    ),
    "this package, TensorFlow, RematScope": (
        this_package,
        {
            "backend": "tensorflow",
            "jit_compile": False,
            "recompute": "activations",
        },
    ),
    "this package, PyTorch": (
        this_package,
        {"backend": "torch", "jit_compile": False},
    ),
    "this package, JAX": (
        this_package,
        {"backend": "jax", "jit_compile": True},
    ),
}
ROWS = CEILINGS | PEERS | OURS


# === A process for each implementation ===


def work(name, task, batch, dtype):
    """Make one implementation's step, then run it whenever a line comes in.

    Answers with lines of JSON: how long the first step took; then, for each
    line read, the seconds of a step; at the end, the peak memory.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print there, too

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    make, options = ROWS[name]
    try:
        step = make(task, int(batch), dtype, **options)
    except ModuleNotFoundError as error:
        return answer(f"{error.name} is not installed")
    start = time.perf_counter()
    step()
    answer(time.perf_counter() - start)
    step()
    start = time.perf_counter()
    step()
    steps = max(1, round(DURATION / (time.perf_counter() - start)))
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        answer((time.perf_counter() - start) / steps)
    answer(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


class Worker:
    """A process with one implementation loaded."""

    def __init__(self, name, setting):
        command = [sys.executable, __file__, name, *map(str, setting)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.seconds = []
        # Seconds of the first step, or why there is none.
        self.first = self.read()

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else "it failed; see above"

    def run(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(self.read())

    def stop(self):
        self.process.stdin.close()
        self.memory = self.read()
        self.process.wait()


def measure(setting):
    """Run all implementations in turn; a dict of stopped workers by name."""
    workers = {}
    for name in ROWS:
        print(f"{setting}: loading {name}", file=sys.stderr, flush=True)
        workers[name] = Worker(name, setting)
    running = [
        worker
        for worker in workers.values()
        if not isinstance(worker.first, str)
    ]
    for _ in range(REPETITIONS):
        for worker in running:
            worker.run()
    for worker in running:
        worker.stop()
    return workers


# === The tables ===


def seconds(worker):
    """The median seconds of a worker's step."""
    return statistics.median(worker.seconds)


def table(setting, workers):
    """The lines of one table."""
    task, batch, dtype = setting
    operations = OPERATIONS * batch * (3 if task == "training" else 1)
    products = [workers[name] for name in CEILINGS]
    ceiling = max(2 * SIDE**3 / seconds(x) for x in products if x.seconds)
    timms = [workers[name] for name in PEERS if name.startswith("timm")]
    timms = [worker for worker in timms if worker.seconds]
    faster = min(timms, key=seconds, default=None)
    heads = "images/s", "middle half", "× timm", "of the ceiling"
    heads += "first step, s", "peak, GiB"
    fastest = ceiling / operations * batch
    lines = [
        f"### {task.capitalize()}, batch {batch}, {dtype}",
        "",
        f"Ceiling: {ceiling / 1e9:.0f} GFLOP/s, or {fastest:.0f} images/s.",
        "",
        f"| implementation | {' | '.join(heads)} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in PEERS | OURS:
        worker = workers[name]
        if isinstance(worker.first, str):
            lines.append(f"| {name} | {worker.first} | | | | | |")
            continue
        low, middle, high = statistics.quantiles(
            [batch / step for step in worker.seconds], n=4
        )
        ratio = "–"
        if faster:
            pairs = zip(faster.seconds, worker.seconds)
            ratio = f"{statistics.median(a / b for a, b in pairs):.2f}"
        share = operations / batch * middle / ceiling
        lines.append(
            f"| {name} | {middle:.1f} | {low:.1f} to {high:.1f} | {ratio} "
            f"| {share:.0%} | {worker.first:.0f} | {worker.memory:.1f} |"
        )
    return [*lines, ""]


def installed(package):
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def processor():
    """The processor's name, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(": ")[1] for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def graphics():
    """The GPU's name; an empty text where there is none."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.check_output(command, text=True).strip()


def main():
    gpu = graphics()
    settings = SETTINGS + (GPU_SETTINGS if gpu else [])
    machine = [processor(), f"{os.cpu_count()} cores", *gpu.splitlines()]
    versions = [f"Python {platform.python_version()}"]
    versions += [installed(package) for package in PACKAGES]
    lines = [
        "<!-- Written by benchmarks/speed.py: make benchmark -->",
        f"{date.today()}: {', '.join(machine + versions)}.",
        "",
    ]
    for setting in settings:
        lines += table(setting, measure(setting))
        print("\n".join(lines), flush=True)
    TABLES.write_text("\n".join(lines), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        work(*sys.argv[1:])
