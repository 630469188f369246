"""Saved models: what a `.keras` file may name, and how large a model it makes.

Keras makes whatever classes such a file names, with whatever sizes it says,
before it reads a single weight. Its safe mode refuses code in the file; some
versions still import any module that is named, or call what they find there.
So the file's list of names is read first.
"""

import zipfile

import keras

from gcvit import arguments, limits
from gcvit.sizes import level_windows, size_pair


def registered(config):
    """Give the class or the function that this process has for a name.

    Args:
        config: what Keras stored of an object, a dict.

    Returns:
        `None` if it has none of its own.
    """
    name = config.get("registered_name") or config["class_name"]
    if config["class_name"] == "function":
        name = config.get("config")
    if not isinstance(name, str):
        return None
    return keras.saving.get_registered_object(name)


def dicts_in(config):
    """List all dicts in what JSON holds, however deep."""
    found, waiting = [], [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found.append(item)
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return found


def check_names(config, path):
    """Check that a configuration names only what a classifier needs.

    Raises:
        ValueError: for a class or a function that neither this process has
            registered nor belongs to a dtype policy.
    """
    for stored in dicts_in(config):
        name, module = stored.get("class_name"), stored.get("module")
        if name in (None, "__tuple__"):
            continue
        is_policy = str(name).endswith(("DTypePolicy", "DTypePolicyMap"))
        is_policy = is_policy and module in ("keras", "keras.dtype_policies")
        is_known = isinstance(name, str) and registered(stored) is not None
        if not (is_policy or is_known):
            called = stored.get("config") if name == "function" else name
            raise ValueError(
                f"{path} was refused: it names {module}.{called}, which "
                "could run code. If you trust whom it is from, give the model "
                "that keras.saving.load_model makes of it, instead of a path."
            )


def least_weights(config):
    """Say how many weights a model has at least, by its configuration.

    Args:
        config: arguments of `GCViT`, a dict from a file.

    Returns:
        An int; 0 if these are no arguments, which the model will say better.
    """
    try:
        dim = arguments.whole_number("embed_dim", config["embed_dim"])
        depths = arguments.whole_numbers("depths", config["depths"])
        heads = arguments.whole_numbers("num_heads", config["num_heads"])
        windows = level_windows("window_size", config["window_size"])
        ratio = arguments.factor("mlp_ratio", config.get("mlp_ratio", 3.0))
        classes = config.get("num_classes", 1)
        classes = arguments.whole_number("num_classes", classes)
    except (KeyError, ValueError):
        return 0
    count = 0
    for depth, head, window in zip(depths[:32], heads, windows):
        height, width = size_pair(window)
        table = (2 * height - 1) * (2 * width - 1) * head
        count += depth * (3 * dim**2 + 2 * dim * int(dim * ratio) + table)
        dim *= 2
    return count + dim // 2 * classes


def check(path, kind):
    """Check the model in a `.keras` file before anything of it is made.

    Args:
        path: the file.
        kind: what it must be, a class.

    Raises:
        ValueError: if it is another class, names what a classifier does not
            need, or would take far more memory than the file has weights for;
            or if the file is none of Keras's.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a .keras file; one that was saved with model.save "
            "would work."
        )
    with limits.archive(path) as archive:
        names = archive.namelist()
        config = limits.config_of(archive, path)
    if "model.weights.h5" not in names or not isinstance(config, dict):
        raise ValueError(
            f"{path} is not a whole .keras file: it holds "
            f"{', '.join(sorted(names)[:3]) or 'nothing'}."
        )
    config.pop("compile_config", None)  # it is not loaded
    made = config.get("class_name")
    cls = registered(config) if isinstance(made, str) else None
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise ValueError(
            f"{path} holds a {made}; a {kind.__name__} that was saved with "
            "model.save would work, once its class is registered."
        )
    check_names(config, path)
    count = sum(least_weights(stored) for stored in dicts_in(config))
    limits.check_room(path, "model", 4 * count)
