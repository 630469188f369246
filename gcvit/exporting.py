"""Export: a file that answers as the model does, without Keras, or no file.

Keras's own `export` writes what the converter gives it, right or wrong. Here a
route that is not right, and a converter that is missing, are refused before
any work; the file is written beside its place, run where its runtime is
installed, compared with the model, and only then moved to its place.
"""

import contextlib
import importlib.util
import json
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from gcvit import arguments, fast_ops

# === The routes ===

# How the name of a file ends; a SavedModel is a folder.
ENDINGS = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "litert": ".tflite",
    "tf_saved_model": "",
    "torch": ".pt2",
}
# Format and backend: the packages that it takes. Every other route of Keras's
# is refused. Measured for each of them: tests/test_exporting.py.
ROUTES = {
    ("onnx", "tensorflow"): ("tf2onnx", "onnx"),
    ("onnx", "torch"): ("onnx",),
    ("openvino", "torch"): ("openvino",),
    ("litert", "tensorflow"): ("tensorflow",),
    ("tf_saved_model", "tensorflow"): ("tensorflow",),
    ("torch", "torch"): ("torch",),
}
# What runs a file.
RUNTIMES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "litert": "tensorflow",
    "tf_saved_model": "tensorflow",
    "torch": "torch",
}
# The largest |Δ| of a probability, and of a logit over the logits' spread.
PROBABILITY, LOGIT = 1e-5, 5e-5


def is_installed(package):
    return importlib.util.find_spec(package) is not None


def check_route(format):
    """Refuse a format that is not right with this backend, or not possible."""
    if format not in ENDINGS:
        raise ValueError(
            f"format={format!r} is unknown; these are known: "
            f"{', '.join(map(repr, ENDINGS))}."
        )
    backend = keras.backend.backend()
    others = [other for name, other in ROUTES if name == format]
    if backend not in others:
        raise ValueError(
            f"format={format!r} does not work with Keras on {backend}. Save "
            "the model, then load and export it with "
            f"KERAS_BACKEND={others[0]}."
        )
    missing = [p for p in ROUTES[format, backend] if not is_installed(p)]
    if missing:
        raise ImportError(
            f"format={format!r} with Keras on {backend} needs "
            f"{' and '.join(missing)}: pip install {' '.join(missing)}"
        )


def check_model(model):
    """Refuse a model whose file would not be what its owner means."""
    if not model.built:
        raise ValueError(
            "the model has no weights yet: build it, load them, then export."
        )
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                f"{layer.path} has LoRA weights that are not merged. Save the "
                "model, which merges them, load it, and export that one."
            )
        if getattr(layer, "quantization_mode", None) is not None:
            raise ValueError(
                f"{layer.path} is quantised to {layer.quantization_mode}. "
                "Export the model as it was before, and quantise the file "
                "with the tools of its runtime."
            )


def check_target(filepath, format):
    """Give the path to write, if it can be written."""
    path = arguments.file_path("filepath", filepath)
    if not path.name.endswith(ENDINGS[format]):
        raise ValueError(
            f"filepath={str(path)!r} must end in {ENDINGS[format]} "
            f"for format={format!r}."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}.")
    is_folder = format == "tf_saved_model"
    if path.is_dir() or (is_folder and path.exists()):
        raise FileExistsError(
            f"{path} is there already. Name another path, or delete it."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent} cannot be written to.")
    return path


# === What is written ===


@keras.saving.register_keras_serializable(package="gcvit")
class FromBytes(keras.Model):
    """A classifier of images whose values are not normalised.

    Shapes: `(B, H, W, 3)` in, `(B, num_classes)` out: probabilities.

    Args:
        model: a built `GCViT` for images of three channels.
    """

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.model = model
        self.built = True

    def call(self, images):
        low, high = self.model.value_range or (0, 255)
        x = (ops.cast(images, "float32") - low) * (255 / (high - low))
        x = keras.applications.imagenet_utils.preprocess_input(
            x, data_format="channels_last", mode="torch"
        )
        x = self.model(x, training=False)
        is_logits = self.model.head_activation is keras.activations.linear
        return ops.softmax(x) if is_logits else x


def in_float32(model):
    """Give the model, or its twin in float32: exporters know that best."""
    if model.dtype_policy.name == "float32":
        return model
    with arguments.seeds_kept():
        config = model.get_config() | {"dtype": "float32"}
        twin = type(model).from_config(config)
        twin.build((None, *model.image_shape))
    twin.set_weights(model.get_weights())
    return twin


def plain_layer_norm(layer):
    """Give a layer's call, written as sums.

    PyTorch's own layer norm, of which Keras traces the size, fits no ONNX
    file.
    """

    def call(inputs):
        mean = ops.mean(inputs, axis=-1, keepdims=True)
        x = inputs - mean
        variance = ops.mean(ops.power(x, 2), axis=-1, keepdims=True)
        x = x / ops.sqrt(variance + layer.epsilon)
        return x * layer.gamma + layer.beta

    return call


@contextlib.contextmanager
def known_operators(model):
    """Let the layers call, for a while, only what every exporter knows.

    TensorFlow's GELU has an operator, `Erfc`, that ONNX has not.
    """
    layers = model._flatten_layers()
    layers = [x for x in layers if isinstance(x, keras.layers.Layer)]
    with contextlib.ExitStack() as undo:
        for layer in layers:
            if getattr(layer, "activation", None) is keras.activations.gelu:
                undo.callback(setattr, layer, "activation", layer.activation)
                layer.activation = fast_ops.gelu
            if isinstance(layer, keras.layers.LayerNormalization):
                vars(layer)["call"] = plain_layer_norm(layer)
                undo.callback(vars(layer).pop, "call")
        yield


def write(model, path, format, spec, kwargs):
    if format == "torch" and spec.shape[0] is None:
        import torch

        any_batch = {0: torch.export.Dim("batch")}
        kwargs = {"dynamic_shapes": any_batch} | kwargs
    with known_operators(model):
        keras.Model.export(
            model,
            str(path),
            format=format,
            verbose=False,
            input_signature=[spec],
            **kwargs,
        )


def describe(path, format, facts):
    """Write what the other end should know into the file, or beside it."""
    if format != "onnx":
        beside = path.with_name(f"{path.name}.json")
        beside.write_text(json.dumps(facts, indent=1), "utf-8")
        return
    import onnx

    written = onnx.load(path)
    texts = {name: json.dumps(value) for name, value in facts.items()}
    onnx.helper.set_model_props(written, texts)
    onnx.save(written, path)


# === Whether it is right ===


def runner(path, format):
    """Give what runs a file: a function from images to answers, arrays."""
    path = str(path)
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0]
    if format == "openvino":
        import openvino

        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.compile_model(path, "CPU", exact)
        return lambda images: compiled(images)[0]
    if format == "torch":
        import torch

        module = torch.export.load(path).module()
        return lambda images: ops.convert_to_numpy(
            module(ops.convert_to_tensor(images))
        )
    import tensorflow

    if format == "tf_saved_model":
        loaded = tensorflow.saved_model.load(path)
        return lambda images: loaded.serve(tensorflow.constant(images)).numpy()
    interpreter = tensorflow.lite.Interpreter(path)
    return lambda images: run_litert(interpreter, images)


def run_litert(interpreter, images):
    given = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(given, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@contextlib.contextmanager
def full_precision():
    """Compute in whole float32 for a while: GPUs shorten factors."""
    if keras.backend.backend() != "torch":
        with keras.device("cpu:0"):
            yield
        return
    import torch

    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def check_answers(model, path, format, spec, is_logits):
    """Run a file on noise, and compare it with the model."""
    run = runner(path, format)
    random = np.random.default_rng(0)
    for batch in (1, 3) if spec.shape[0] is None else spec.shape[:1]:
        images = random.normal(size=(batch, *spec.shape[1:]))
        if spec.dtype == "uint8":
            images = random.integers(0, 256, images.shape)
        images = images.astype(spec.dtype)
        with full_precision():
            expected = ops.convert_to_numpy(model(images))
        try:
            answers = run(images)
        except Exception as error:  # whatever the runtime calls its own
            raise RuntimeError(
                f"the {format} file cannot be run for a batch of {batch}, and "
                f"was not kept: {error}"
            ) from error
        difference = np.abs(answers - expected).max()
        bound = LOGIT * expected.std() if is_logits else PROBABILITY
        if not difference <= bound:
            raise RuntimeError(
                f"the {format} file answers otherwise than the model, by "
                f"{difference:.1e} for a batch of {batch}, and was not kept. "
                "Another format may be right."
            )


# === All of it ===


def input_spec(model, include_preprocessing, signature=None):
    """Give the shape and the type of the images that a file takes."""
    if signature is not None:
        is_list = isinstance(signature, (list, tuple)) and len(signature) == 1
        if not (is_list and isinstance(signature[0], keras.InputSpec)):
            raise ValueError(
                f"input_signature={signature!r} is not one keras.InputSpec "
                "in a list."
            )
        return signature[0]
    dtype = "float32"
    if include_preprocessing and model.value_range is None:
        dtype = "uint8"
    shape = (None, *model.image_shape)
    return keras.InputSpec(shape=shape, dtype=dtype, name="images")


def export(
    model,
    filepath,
    format="tf_saved_model",
    verbose=None,
    input_signature=None,
    include_preprocessing=False,
    **kwargs,
):
    """Write a file that answers without Keras, as the model does, or none.

    The names of the classes, as far as the model knows them, and the range of
    values go into the metadata of an ONNX file, as JSON; for another format
    into a JSON file beside it, `filepath` and `.json`. A model of another
    precision is exported in float32.

    Args:
        model: a built `GCViT`; it need not have been called.
        filepath: the file, or for a SavedModel the folder; a file that is
            there is replaced.
        format: `"onnx"`, `"openvino"`, `"litert"`, `"tf_saved_model"` or
            `"torch"`.
        verbose: `False` prints nothing.
        input_signature: one `InputSpec` of Keras in a list; `None` takes any
            number of images of the model's own shape.
        include_preprocessing: whether the file takes images as they are,
            bytes from 0 to 255, or floats in the model's `value_range`, and
            gives probabilities; a bool. It does not resize.
        kwargs: of `keras.Model.export`, for this format.

    Raises:
        ValueError: for a format that is not right with this backend, a model
            that is not built, is quantised or has LoRA weights, or a filepath
            that does not fit the format.
        ImportError: if a package is missing; it says which.
        OSError: if the file cannot be written.
        RuntimeError: if the written file answers otherwise than the model.
            Whatever is raised, nothing is left behind.
    """
    check_route(format)
    check_model(model)
    path = check_target(filepath, format)
    if "optimizations" in kwargs:
        raise ValueError(
            "optimizations make a file that answers otherwise than the model. "
            "keras.Model.export(model, …) writes it, unchecked, once the "
            "model was called."
        )
    arguments.boolean("include_preprocessing", include_preprocessing)
    if include_preprocessing and model.image_shape[-1] != 3:
        raise ValueError(
            "include_preprocessing=True needs images of red, green and blue, "
            f"and the model takes {model.image_shape[-1]} channels."
        )
    spec = input_spec(model, include_preprocessing, input_signature)
    facts = {"class_names": model.class_names}
    facts |= {"value_range": model.value_range or (0, 255)}
    is_logits = model.head_activation is keras.activations.linear
    model = in_float32(model)
    model = FromBytes(model) if include_preprocessing else model
    with tempfile.TemporaryDirectory(
        prefix="unfinished-", dir=path.parent
    ) as folder:
        part = Path(folder) / path.name
        write(model, part, format, spec, kwargs)
        describe(part, format, facts)
        is_run = is_installed(RUNTIMES[format])
        if is_run:
            is_logits = is_logits and not include_preprocessing
            check_answers(model, part, format, spec, is_logits)
        # What belongs to the file first.
        for file in sorted(Path(folder).iterdir(), key=part.__eq__):
            os.replace(file, path.with_name(file.name))
    if verbose is not False:
        was_run = (
            "" if is_run else f"; {RUNTIMES[format]}, to try it, is missing"
        )
        print(f"Saved {path}{was_run}.")
