"""What smaller numbers cost and save: `nano` in float32, bfloat16 and int8.

    make .venv-benchmarks/ready
    .venv-benchmarks/bin/python benchmarks/small_numbers.py

Prints the table that `benchmarks/small_numbers.md` keeps: the size of the
file, the accuracy on CIFAR-10's 10,000 test images, and the speed, by runtime. The speeds are taken in turn, in one process, as multiples of that of
Keras on TensorFlow in float32. The data is that of `tools/train_nano.py`.
"""

import os
import statistics
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import openvino  # noqa: E402
import tensorflow as tf  # noqa: E402
from onnxruntime import quantization  # noqa: E402
from train_nano import load_cifar10  # noqa: E402

from gcvit import from_pretrained, preprocess  # noqa: E402

BATCH, ROUNDS, CALIBRATION = 25, 11, 200
PACKAGES = "keras", "tensorflow", "onnxruntime", "openvino"


def in_keras(path, policy, mode=None):
    """Save a model in a precision, and give its forward pass."""
    keras.config.set_dtype_policy(policy)
    model = from_pretrained("nano")
    if mode:
        model.quantize(mode)
    model.save(path)
    call = tf.function(lambda images: model(images, training=False))
    return lambda images: keras.ops.convert_to_numpy(
        keras.ops.cast(call(images), "float32")
    )


class Calibration(quantization.CalibrationDataReader):
    """Hands out training images, as ONNX Runtime asks for them."""

    def __init__(self, images):
        self.rest = iter(np.split(images, len(images) // BATCH))

    def get_next(self):
        images = next(self.rest, None)
        return None if images is None else {"images": images}


def in_int8(path, target, images):
    """Quantise an ONNX file statically: weights and activations are int8."""
    prepared = target.with_name("prepared.onnx")
    quantization.shape_inference.quant_pre_process(path, prepared)
    quantization.quantize_static(
        prepared,
        target,
        Calibration(images),
        per_channel=True,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
    )


def in_onnx_runtime(path):
    session = onnxruntime.InferenceSession(path)
    return lambda images: session.run(None, {"images": images})[0]


def in_openvino(path, precision):
    hint = {"INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.compile_model(path, "CPU", hint)
    return lambda images: compiled(images)[0]


def make_all(folder):
    """Give each row's name, its file and its forward pass."""
    exact, small = folder / "float32.onnx", folder / "int8.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # layers that stay as they are
        model = from_pretrained("nano")
        model.export(exact, format="onnx", verbose=False)
        calibration = load_cifar10("train")[0][:CALIBRATION]
        in_int8(exact, small, as_input(calibration))
        for name, policy, mode in (
            ("float32", "float32", None),
            ("bfloat16", "mixed_bfloat16", None),
            ("int8", "float32", "int8"),
        ):
            path = folder / f"{name}.keras"
            yield f"Keras, {name}", path, in_keras(path, policy, mode)
    yield "ONNX Runtime, float32", exact, in_onnx_runtime(exact)
    yield "ONNX Runtime, int8", small, in_onnx_runtime(small)
    for name, path, precision in (
        ("float32", exact, "f32"),
        ("bfloat16", exact, "bf16"),
        ("int8", small, "f32"),
    ):
        yield f"OpenVINO, {name}", path, in_openvino(path, precision)


def as_input(images):
    return keras.ops.convert_to_numpy(preprocess(images, 64))


def accuracy(forward, images, labels):
    parts = np.split(images, len(images) // BATCH)
    answers = [forward(part) for part in parts]
    return (np.concatenate(answers).argmax(-1) == labels).mean()


def seconds(forward, images):
    start = time.perf_counter()
    forward(images)
    return time.perf_counter() - start


def main():
    images, labels = load_cifar10("test")
    images = as_input(images)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(make_all(Path(folder)))
        sizes = [path.stat().st_size / 1e6 for _, path, _ in rows]
        found = [accuracy(forward, images, labels) for *_, forward in rows]
        times = [
            [seconds(forward, images[:BATCH]) for *_, forward in rows]
            for _ in range(ROUNDS)
        ]
    medians = [statistics.median(column) for column in zip(*times)]
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES))
    print("\n| | file, MB | accuracy | × the speed of the first row |")
    print("| --- | --- | --- | --- |")
    for (name, *_), size, share, median in zip(rows, sizes, found, medians):
        speed = medians[0] / median
        print(f"| {name} | {size:.1f} | {share:.4f} | {speed:.2f} |")


if __name__ == "__main__":
    main()
