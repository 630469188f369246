"""Quantised models: what `model.quantize` changed, kept in a model's config.

Keras quantises a dense layer where it stands: it gives the layer another dtype
policy, and with it other weights. A layer that is made in `build` would get its
float policy again when a model is loaded, and the file would not fit. So the
policies are in the config, in a `keras.dtype_policies.DTypePolicyMap`, as in
KerasHub's models. Its keys are not Keras's paths, which have a number in them
that counts the layers of the whole process.
"""

import collections
import contextlib
import gc

import keras

from gcvit import arguments


def named_layers(layer, path=""):
    """Name each layer inside another by its class, and count within that.

    Args:
        layer: a built layer.
        path: its own name, with a slash; `""` for the outermost one.

    Yields:
        Names, such as `"Level_0/Block_1/MLP_0/Dense_1"`, and layers.
    """
    counts = collections.Counter()
    for part in layer._flatten_layers(include_self=False, recursive=False):
        kind = type(part).__name__
        name = f"{path}{kind}_{counts[kind]}"
        counts[kind] += 1
        yield name, part
        yield from named_layers(part, f"{name}/")


def quantized_layers(model):
    """Give the quantised layers of a model by name, a dict."""
    return {
        name: layer
        for name, layer in named_layers(model)
        if layer.quantization_mode is not None
    }


def take_policies(model):
    """Take the policies of single layers off a model that is being made.

    Args:
        model: one without layers yet. If its policy is a `DTypePolicyMap`, it
            gets that one's default instead.

    Returns:
        A dict from names to policies, for `quantize_again`.
    """
    policies = model.dtype_policy
    if not isinstance(policies, keras.dtype_policies.DTypePolicyMap):
        return {}
    model.dtype_policy = policies.default_policy
    return dict(policies)


@contextlib.contextmanager
def older_objects_kept():
    """Let Python look for garbage only among what is made inside.

    Keras has it look after each layer that it quantises. Among all objects of
    a process with TensorFlow or PyTorch that takes longer than all else.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def quantize_again(model, policies):
    """Quantise the layers of a model that was just built as they were.

    Args:
        model: the model.
        policies: as `take_policies` gives.

    Raises:
        ValueError: if the model has no layer of one of the names.
    """
    layers = dict(named_layers(model)) if policies else {}
    unknown = sorted(set(policies) - set(layers))
    if unknown:
        raise ValueError(
            f"dtype has a policy for {unknown[0]}, and this model has no such "
            f"layer; it has, for example, {', '.join(list(layers)[:3])}."
        )
    with older_objects_kept():
        for name, policy in policies.items():
            layers[name].dtype_policy = policy  # Keras quantises the layer


def given(model, cls):
    """Give a model's arguments for its `get_config`, as `arguments.given`.

    If layers are quantised, `"dtype"` is among them, with their policies.
    """
    values = arguments.given(model, cls)
    layers = quantized_layers(model)
    if not layers:
        return values
    policies = {name: layer.dtype_policy for name, layer in layers.items()}
    policies = keras.dtype_policies.DTypePolicyMap(
        model.dtype_policy, policies
    )
    return values | {"dtype": keras.dtype_policies.serialize(policies)}


def check_is_float(model, what):
    """Raise `ValueError` for a quantised model.

    Args:
        model: a built model.
        what: what cannot be done with one, for the error.
    """
    layers = quantized_layers(model)
    if layers:
        mode = next(iter(layers.values())).quantization_mode
        raise ValueError(
            f"{model.name} is quantised to {mode}, and {what} takes a model "
            "in floats: rounded weights have no gradients. Do it before "
            "model.quantize, or load the file from before that."
        )
