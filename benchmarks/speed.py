"""Compare the speed of GCViT's implementations, side by side in one run.

    make benchmark

Measures XXTiny at 224 pixels in float32, a forward pass and a training step:
this package on three backends, timm (eager and compiled),
keras_cv_attention_models, and ONNX Runtime and OpenVINO with the file that this
package exports. Where there is a GPU, a batch of 256 in bfloat16 comes on top.
Writes `benchmarks/speed.md` and `benchmarks/speed.svg`, which the book shows.

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
import tempfile
import time
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from unittest.mock import MagicMock

TABLES = Path(__file__).with_name("speed.md")
BARS = Path(__file__).with_name("speed.svg")
REPETITIONS = 11
# A repetition lasts at least this long, in seconds.
DURATION = 0.5
TASKS = ("forward", "training")
# Task, batch and dtype of each table.
SETTINGS = [("forward", 1, "float32"), ("forward", 8, "float32")]
SETTINGS += [("training", 8, "float32")]
GPU_SETTINGS = [(task, 256, "bfloat16") for task in TASKS]
# Multiplications, each with an addition, of one image's forward pass. Papers
# call them FLOPs, but each is two floating-point operations. A training step has
# three times as many: the gradient of one product is two products.
MULTIPLICATIONS = 2.1e9
# The side of the square matrices whose product is the ceiling.
SIDE = 2048
PACKAGES = ("keras", "tensorflow", "torch", "jax", "timm")
PACKAGES += ("keras_cv_attention_models", "onnxruntime", "openvino")


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


def xxtiny(dtype, backend):
    """Keras's module and this package's model, on a backend."""
    os.environ["KERAS_BACKEND"] = backend
    import keras

    from gcvit import GCViT

    if dtype != "float32":
        keras.config.set_dtype_policy(f"mixed_{dtype}")
    model = GCViT.from_variant("xxtiny", head_activation=None)
    model.build((None, 224, 224, 3))
    return keras, model


def this_package(task, batch, dtype, backend, jit_compile, saves_memory=False):
    keras, model = xxtiny(dtype, backend)
    if saves_memory:
        from gcvit import recompute

        recompute(model)
    return keras_step(model, keras, task, batch, jit_compile)


def traced(task, batch, dtype):
    """The forward pass on PyTorch, recorded once."""
    import torch

    keras, model = xxtiny(dtype, "torch")
    images = keras.ops.convert_to_tensor(arrays(batch)[0])  # on the device
    with torch.no_grad():
        call = torch.jit.trace(model.eval(), images, check_trace=False)

    def forward():
        with torch.inference_mode():
            return call(images).float().cpu().numpy()

    return forward


def exported(task, batch, dtype, run):
    """The forward pass in a runtime that knows nothing of Keras."""
    _, model = xxtiny(dtype, "tensorflow")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/xxtiny.onnx"
        model.export(path, format="onnx", verbose=False)
        return run(path, arrays(batch)[0])


def onnx_runtime(path, images):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(path, options)
    (name,) = (one.name for one in session.get_inputs())
    return lambda: session.run(None, {name: images})


def openvino(path, images):
    import openvino

    model = openvino.compile_model(path, "CPU")
    return lambda: model(images)


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


@dataclass
class Row:
    """A row of the tables.

    Attributes:
        make: makes the step that is timed.
        options: what `make` takes besides task, batch and dtype.
        environment: variables of the row's process.
        tasks: those that it has.
    """

    make: callable
    options: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    tasks: tuple = TASKS


TENSORFLOW = {"backend": "tensorflow", "jit_compile": False}
NO_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
TORCH = {"backend": "torch", "jit_compile": False}
JAX = {"backend": "jax", "jit_compile": True}
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
FORWARD = ("forward",)
CEILINGS = {
    "matrix product, TensorFlow": Row(product_tensorflow),
    "matrix product, PyTorch": Row(product_torch),
}
TIMM = {
    "timm, eager": Row(timm, {"compiled": False}),
    "timm, compiled": Row(timm, {"compiled": True}),
}
PEERS = TIMM | {
    "keras_cv_attention_models": Row(keras_cv_attention_models),
}
OURS = {
    "this package, TensorFlow": Row(this_package, TENSORFLOW, NO_ONEDNN),
    "this package, TensorFlow, oneDNN": Row(this_package, TENSORFLOW, ONEDNN),
    "this package, TensorFlow, XLA": Row(
        this_package, TENSORFLOW | {"jit_compile": True}, tasks=FORWARD
    ),
    "this package, TensorFlow, oneDNN, recompute": Row(
        this_package,
        TENSORFLOW | {"saves_memory": True},
        ONEDNN | {"MALLOC_ARENA_MAX": "1"},
        ("training",),
    ),
    "this package, PyTorch": Row(this_package, TORCH),
    "this package, PyTorch, traced": Row(traced, tasks=FORWARD),
    "this package, JAX": Row(this_package, JAX),
    "this package, JAX, large pages": Row(this_package, JAX, LARGE_PAGES),
}
EXPORTED = {
    "this package in ONNX Runtime": Row(
        exported, {"run": onnx_runtime}, tasks=FORWARD
    ),
    "this package in OpenVINO": Row(
        exported, {"run": openvino}, tasks=FORWARD
    ),
}
ROWS = CEILINGS | PEERS | OURS | EXPORTED


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

    row = ROWS[name]
    try:
        step = row.make(task, int(batch), dtype, **row.options)
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
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ROWS[name].environment,
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
    for name in (
        name for name, row in ROWS.items() if setting[0] in row.tasks
    ):
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


def against_timm(workers):
    """How many times as fast as the faster of timm's two, for each name."""
    timms = [workers[name] for name in TIMM if workers[name].seconds]
    faster = min(timms, key=seconds, default=None)
    if not faster:
        return {}
    return {
        name: statistics.median(
            a / b for a, b in zip(faster.seconds, worker.seconds)
        )
        for name, worker in workers.items()
        if worker.seconds
    }


def table(setting, workers):
    """The lines of one table."""
    task, batch, dtype = setting
    operations = 2 * MULTIPLICATIONS * (3 if task == "training" else 1)
    products = [workers[name] for name in CEILINGS]
    ceiling = max(2 * SIDE**3 / seconds(x) for x in products if x.seconds)
    times = against_timm(workers)
    heads = "speed", "middle half", "× timm", "of the ceiling"
    heads += "first step", "peak memory"
    lines = [
        f"### {task.capitalize()}, batch {batch}, {dtype}",
        "",
        f"Ceiling: {ceiling / 1e9:.0f} billion floating-point operations per "
        f"second, or {ceiling / operations:.0f} images/s of "
        f"{operations / 1e9:.1f} billion each.",
        "",
        f"| implementation | {' | '.join(heads)} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in PEERS | OURS | EXPORTED:
        worker = workers.get(name)
        if worker is None:
            continue
        if isinstance(worker.first, str):
            lines.append(f"| {name} | {worker.first} | | | | | |")
            continue
        low, middle, high = statistics.quantiles(
            [batch / step for step in worker.seconds], n=4
        )
        ratio = f"{times[name]:.2f}×" if times else "–"
        lines.append(
            f"| {name} | {middle:.1f} images/s | {low:.1f} to {high:.1f} "
            f"images/s | {ratio} | {operations * middle / ceiling:.0%} | "
            f"{worker.first:.0f} s | {worker.memory:.1f} GiB |"
        )
    return [*lines, ""]


def fastest(workers):
    """This package's fastest way, and how many times as fast as timm it is."""
    times = against_timm(workers)
    name = max(OURS.keys() & times.keys(), key=times.get)
    return name, times[name]


def draw(ways):
    """Draw the three bars of the headline.

    Args:
        ways: for each label what `fastest` returned.
    """
    from gcvit import plots

    plots.use_style()
    figure, axis = plots.plt.subplots(figsize=(6, 2), layout="constrained")
    for y, (label, (name, times)) in enumerate(ways.items()):
        axis.barh(y, times, color=plots.HERE, edgecolor=plots.INK)
        way = name.removeprefix("this package, ")
        axis.text(0.03, y, f"{label}: {times:.2f}× ({way})", va="center")
    axis.axvline(1, color=plots.INK, linestyle="--")
    axis.set_xlabel("times as fast as the faster of timm's two")
    axis.set_yticks([])
    axis.invert_yaxis()
    figure.savefig(BARS, metadata={"Date": None})


def installed(package):
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def processor():
    """The processor's name and its vector instructions, as Linux gives them."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return [platform.processor()]
    names = [line.split(": ")[1] for line in lines if "model name" in line]
    flags = {
        flag
        for line in lines
        if line.startswith("flags")
        for flag in line.split()
    }
    known = {"avx2": "AVX2", "avx512f": "AVX-512", "amx_tile": "AMX"}
    found = [label for flag, label in known.items() if flag in flags]
    missing = [label for label in known.values() if label not in found]
    return [
        names[0] if names else platform.machine(),
        f"with {' and '.join(found) or 'no vector instructions'}",
        f"without {' or '.join(missing)}",
    ]


def graphics():
    """The GPU's name; an empty text where there is none."""
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.check_output(command, text=True).strip()


def main():
    gpu = graphics()
    settings = SETTINGS + (GPU_SETTINGS if gpu else [])
    machine = [*processor(), f"{os.cpu_count()} cores", *gpu.splitlines()]
    versions = [f"Python {platform.python_version()}"]
    versions += [installed(package) for package in PACKAGES]
    lines = [
        "<!-- Written by benchmarks/speed.py: make benchmark -->",
        f"{date.today()}: {', '.join(machine + versions)}.",
        "",
    ]
    ways = {}
    for setting in settings:
        workers = measure(setting)
        lines += table(setting, workers)
        print("\n".join(lines), flush=True)
        if setting in SETTINGS:
            ways[f"{setting[0]}, batch {setting[1]}"] = fastest(workers)
    TABLES.write_text("\n".join(lines), "utf-8")
    draw(ways)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        work(*sys.argv[1:])
