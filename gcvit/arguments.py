"""Arguments: each is checked where it comes in, and the error names it.

A check takes the argument's name and its value, and returns the value as the
package keeps it: NumPy's numbers become Python's, so that they can be saved.
For anything else it raises a `ValueError`.
"""

import contextlib
import inspect
import math
import numbers
import operator
import os
import random
from pathlib import Path

import keras
import numpy as np

# === Numbers ===


def whole_number(name, value, least=1):
    """Give an int of at least `least`; NumPy's ints work too."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(
            f"{name}={value!r} is not an int of at least {least}."
        )
    return number


def is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def number(name, value, least=-math.inf):
    """Give a finite number of at least `least` as a float."""
    if not is_number(value) or not math.isfinite(value) or value < least:
        least = f" of at least {least:g}" if math.isfinite(least) else ""
        raise ValueError(f"{name}={value!r} is not a finite number{least}.")
    return float(value)


def factor(name, value):
    """Give a finite number above 0 as a float."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r} is not a finite number above 0.")
    return float(value)


def rate(name, value):
    """Give a rate, a share in [0, 1), as a float."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name}={value!r} is not a rate in [0, 1).")
    return float(value)


def share(name, value):
    """Give a share in (0, 1] as a float."""
    if not is_number(value) or not 0 < value <= 1:
        raise ValueError(f"{name}={value!r} is not a share in (0, 1].")
    return float(value)


def boolean(name, value):
    """Give a bool; NumPy's work too."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={value!r} is neither True nor False.")
    return bool(value)


def number_or_none(name, value):
    return None if value is None else number(name, value)


def factor_or_none(name, value):
    return None if value is None else factor(name, value)


def whole_number_or_none(name, value, least=1):
    return None if value is None else whole_number(name, value, least)


# === More than one ===


def is_sequence(values):
    return np.iterable(values) and not isinstance(values, (str, dict))


def each(check, name, values, per="level"):
    """Check each entry of a sequence, and give a tuple.

    Args:
        check: a function of the argument's name and an entry.
        name: the argument's name.
        values: the argument.
        per: what has one entry each, for the error.
    """
    if not is_sequence(values) or not len(values):
        raise ValueError(
            f"{name}={values!r} needs one entry for each {per}, in a tuple."
        )
    return tuple(check(name, value) for value in values)


def whole_numbers(name, values):
    """Give one int for each level, at least 1, as a tuple."""
    return each(whole_number, name, values)


def booleans(name, values, per):
    """Give one bool for each `per` as a tuple."""
    return each(boolean, name, values, per)


def names_or_none(name, values):
    """Give texts as a tuple, or `None`."""
    if values is None:
        return None
    if not is_sequence(values) or not all(isinstance(x, str) for x in values):
        raise ValueError(
            f"{name}={values!r} needs one text for each class, in a tuple."
        )
    return tuple(map(str, values))


def range_or_none(name, values):
    """Give black and white, two finite numbers, as a tuple; or `None`."""
    if values is None:
        return None
    is_pair = is_sequence(values) and len(values) == 2
    is_pair = is_pair and all(map(is_number, values))
    if not is_pair or not -math.inf < values[0] < values[1] < math.inf:
        raise ValueError(
            f"{name}={values!r} is not a range; two numbers, that of black and a "
            "larger one of white, would work, such as (0, 255)."
        )
    return tuple(map(float, values))


def rates(name, value, count):
    """Give a rate for all blocks as a float, or a list of one for each."""
    if not np.iterable(value) or isinstance(value, str):
        return rate(name, value)
    checked = list(each(rate, name, value, per="block"))
    if len(checked) != count:
        raise ValueError(
            f"{name}={value} has {len(checked)} rates for {count} blocks."
        )
    return checked


# === What layers are made of ===


def activation(name, value):
    """Give an activation as a function; `None` is the identity."""
    try:
        return keras.activations.get(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}={value!r} is neither a function nor the name of an "
            'activation of Keras, such as "gelu".'
        ) from error


def units(name, part, dim):
    """Give a share of the channels, rounded down, as an int of at least 1."""
    if int(dim * part) < 1:
        raise ValueError(
            f"{name}={part} leaves no unit in the bottleneck for {dim} "
            f"channels; use at least {1 / dim:.3g}."
        )
    return int(dim * part)


def channels_per_head(dim, num_heads):
    """Divide channels among heads, which must go without a rest."""
    if dim % num_heads:
        raise ValueError(
            f"num_heads={num_heads} does not divide {dim} channels."
        )
    return dim // num_heads


def check_query(global_query, q_global):
    """Raise `ValueError` unless a query is there just where it is wanted."""
    if global_query != (q_global is not None):
        wants = "needs" if global_query else "takes no"
        raise ValueError(
            f"global_query={global_query}, so the call {wants} q_global."
        )


def check_agreement(model):
    """Check that arguments of a `GCViT` agree with each other.

    Raises:
        ValueError: if their lengths differ, if heads do not divide a level's
            channels, or if there is not one name for each class.
    """
    names, count = model.class_names, model.num_classes
    if names is not None and len(names) != count:
        raise ValueError(
            f"class_names={names!r} and num_classes={count} do not agree; "
            "each class needs a name."
        )
    embed_dim, depths = model.embed_dim, model.depths
    num_heads, window_size = model.num_heads, model.window_size
    if not len(depths) == len(num_heads) == len(window_size):
        raise ValueError(
            f"depths={depths}, num_heads={num_heads} and "
            f"window_size={window_size} differ in length; each needs one "
            "entry for each level."
        )
    for level, heads in enumerate(num_heads):
        dim = embed_dim * 2**level
        if dim % heads:
            raise ValueError(
                f"embed_dim={embed_dim} gives level {level} {dim} channels, "
                f"which num_heads={num_heads} does not divide there."
            )


def given(layer, cls):
    """Give the arguments that a layer was made with, for its `get_config`.

    Each argument is kept as an attribute of the same name. Keras can record
    arguments by itself, but Keras 3.8 leaves the defaults out, and Keras 3.15
    gives up where an argument is a dtype policy, a function or of NumPy.

    Args:
        layer: a layer.
        cls: the class whose constructor names the arguments.

    Returns:
        A dict that JSON can write.
    """
    _, *names, _ = inspect.signature(cls.__init__).parameters  # self, kwargs
    values = {name: getattr(layer, name) for name in names}
    return {
        name: keras.activations.serialize(value) if callable(value) else value
        for name, value in values.items()
    }


@contextlib.contextmanager
def seeds_kept():
    """Take no seed from what comes after: what is made inside is thrown away.

    Keras draws the seeds of initializers and of dropouts from Python's own
    generator.
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


# === What users bring ===


def file_path(name, value):
    """Give a string or a path as a `Path`, `~` being the user's folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(
            f"{name}={value!r} is not a path; a string or a pathlib.Path would "
            "work."
        )
    return Path(value).expanduser()


def has_nan(values):
    """Tell whether an array or a tensor has values that are not numbers.

    One that is only traced has no values.
    """
    try:
        values = keras.ops.convert_to_numpy(values)
    except Exception:  # noqa: BLE001 -- each backend has its own for tracing
        return False
    is_float = values.dtype.kind in "fV"  # V is NumPy's word for bfloat16
    return is_float and bool(np.isnan(values).any())


def predictions(name, values, names):
    """Check probabilities: one for each class, and all of them numbers.

    Args:
        name: the argument's name, for the error.
        values: `(B, classes)`, an array or a tensor.
        names: the names of the classes.

    Returns:
        A NumPy array.

    Raises:
        ValueError: for another shape, or values that are NaN.
    """
    values = keras.ops.convert_to_numpy(values)
    if values.shape[1:] != (len(names),):
        raise ValueError(
            f"{name} of shape {values.shape} do not go with {len(names)} "
            "names; each class needs one."
        )
    if has_nan(values):
        raise ValueError(
            f"{name} are NaN, so no class is the most probable. Look for NaN "
            "in the images and in the model's weights."
        )
    return values
