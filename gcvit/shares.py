"""Shares: how devices and processes share the pictures of a batch.

With `keras.distribution.DataParallel`, which takes JAX, each device computes on an
equal part of each batch. A process reads the parts of its own devices, and only
those. Put together, they are the batches that one device would get.

The last batch of a pass may not divide. It is then filled up with pictures that
weigh 0, and the others weigh so much more that the mean, over all rows, is theirs.
"""

import contextlib
import json
from hashlib import sha256

import keras
import numpy as np
from keras import ops

from gcvit import processes

# === How many parts there are ===


def parts():
    """Count the parts that a batch is cut into, one for each device.

    Returns:
        An int; 1 without `keras.distribution.set_distribution`.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def devices(count):
    """Say how many devices, in words."""
    return f"{count} device" + "s" * (count > 1)


def check_processes():
    """Check that all processes have devices to share batches among.

    Raises:
        ValueError: if not; it says what would work.
    """
    if parts() % processes.count():
        raise ValueError(
            f"{processes.count()} processes cannot share batches for "
            f"{devices(parts())}. Before pictures and models are made, "
            "keras.distribution.set_distribution("
            "keras.distribution.DataParallel()) in each process would work."
        )


def check_batch_size(batch_size):
    """Check that devices and processes can share batches of a size.

    Raises:
        ValueError: if not; it says what would work.
    """
    check_processes()
    count = parts()
    if batch_size % count:
        below = batch_size // count * count
        sizes = f"{below} and {below + count}" if below else f"{count}"
        raise ValueError(
            f"batch_size={batch_size} cannot be shared by {devices(count)}; "
            f"{sizes} would."
        )


def share_ourselves():
    """Keep Keras from sharing once more what each process has a share of.

    Raises:
        ValueError: if this version of Keras cannot be kept from it.
    """
    distribution = keras.distribution.distribution()
    if processes.count() == 1 or distribution is None:
        return
    if not hasattr(type(distribution), "auto_shard_dataset"):
        raise ValueError(
            f"Keras {keras.__version__} would share the pictures of several "
            "processes a second time; a newer one would not."
        )
    distribution.auto_shard_dataset = False


@contextlib.contextmanager
def on_its_own():
    """Let one process do without the others what Keras does on all of them.

    To save a model, Keras makes an optimizer for comparison, and a variable on
    all devices takes all processes.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        yield
        return
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


# === The rows of a process ===


def share_of(count, batch_size):
    """Choose what this process reads of each batch of a pass.

    Args:
        count: how many pictures a pass has, an int.
        batch_size: of all processes together, an int.

    Returns:
        The places of its pictures in the pass, an int array `(rows,)`; and the
        pictures' weights, a float32 array `(rows,)`, or `None` where nothing
        is filled up. Each process has as many rows.
    """
    last = count % batch_size
    filled = last + -last % parts()
    rows = np.arange(count + filled - last)
    weights = np.ones(len(rows), "float32")
    if filled != last:
        weights[count - last :] = filled / last
        weights[count:] = 0
    batches = np.split(rows, range(batch_size, len(rows), batch_size))
    several, rank = processes.count(), processes.rank()
    own = np.concatenate([np.split(x, several)[rank] for x in batches])
    return own % count, weights[own] if filled != last else None


# === What is filled up ===


def is_filled(data):
    """Tell whether a pipeline has weights, for what fills its last batch."""
    return hasattr(data, "parts") and len(data.element_spec) == 3


@contextlib.contextmanager
def filler_uncounted(model, data):
    """Let a model's measures pass over filler, as long as the context lasts.

    Args:
        model: one that is to be compiled with `weighted_metrics`.
        data: what to train on and what to validate with; if neither is filled
            up, nothing changes.
    """
    if not any(map(is_filled, data)):
        yield
        return
    compute = model.compute_metrics

    def compute_metrics(x, y, y_pred, sample_weight=None):
        if sample_weight is None:
            return compute(x, y, y_pred)
        counts = ops.cast(sample_weight != 0, "float32")
        # Keras has added the batch's loss, times the number of all rows.
        loss = model.compute_loss(x, y, y_pred, sample_weight)
        (mean,) = (x for x in model.metrics if x.name == "loss")
        mean.update_state(loss, sample_weight=-ops.sum(1 - counts))
        return compute(x, y, y_pred, counts)

    model.compute_metrics = compute_metrics
    try:
        yield
    finally:
        del model.compute_metrics


def weigh_classes(data, class_weight):
    """Multiply the weights that pipelines have by those of classes.

    Keras does it for data without weights, one part only, or not from
    `load_pictures`.

    Args:
        data: what to train on and what to validate with.
        class_weight: as for `gcvit.fine_tune`.

    Returns:
        The data, and the `class_weight` that is left for Keras.
    """
    train, validation = data
    if class_weight is None or getattr(train, "parts", 1) == 1:
        return data, class_weight
    # Not 0, which only filler has.
    factors = [[class_weight[i]] for i in range(len(class_weight))]
    factors = np.maximum(factors, np.finfo("float32").tiny).astype("float32")

    def weigh(images, labels, weights=1.0):
        return images, labels, weights * (labels @ factors)[:, 0]

    weighed = train.map(weigh)
    weighed.epoch, weighed.parts = train.epoch, train.parts
    return (weighed, validation), None


# === What all must agree on ===


def check_data(train, validation):
    """Check that pipelines were made for the devices that there are.

    Raises:
        ValueError: for those that were made for others, and for only one of
            the two that is shared already, where several processes train.
    """
    made_for = [getattr(data, "parts", None) for data in (train, validation)]
    for name, count in zip(("train", "validation"), made_for):
        if count not in (None, parts()):
            raise ValueError(
                f"{name} was made for {devices(count)}, to train on "
                f"{devices(parts())}. Call load_pictures after "
                "set_distribution."
            )
    if processes.count() > 1 and made_for.count(None) == 1:
        raise ValueError(
            "train and validation must both be from load_pictures, or "
            "neither: several processes share its batches in another way."
        )
    if None not in made_for:
        share_ourselves()


def check_model(model):
    """Check that a model is on all devices, the same in all processes.

    Args:
        model: one that is built.

    Raises:
        ValueError: if it is not; it says what would work.
    """
    if keras.backend.backend() != "jax":
        return
    distribution = keras.distribution.distribution()
    count = (
        1 if distribution is None else distribution.device_mesh.devices.size
    )
    has = max(len(x.value.sharding.device_set) for x in model.variables)
    if has != count:
        raise ValueError(
            f"the model was built for {devices(has)}, to train on "
            f"{devices(count)}. Call keras.distribution.set_distribution "
            "first, then build the model."
        )
    check_processes()
    if processes.count() > 1:
        digest = sha256()
        for variable in model.variables:
            digest.update(ops.convert_to_numpy(variable).tobytes())
        if len(set(processes.gather(digest.hexdigest()))) > 1:
            raise ValueError(
                "the models of the processes begin with different weights. "
                "keras.utils.set_random_seed(0) in each process, before the "
                "model is built, would work."
            )


def check_alike(seen):
    """Check that all processes have the same; each of them must call it.

    Args:
        seen: a dict from names to what JSON can hold.

    Raises:
        ValueError: on every process, if they differ; it says in what.
    """
    everyone = list(map(json.loads, processes.gather(json.dumps(seen))))
    for name in seen:
        values = [other.get(name) for other in everyone]
        if any(value != values[0] for value in values):
            listed = ", ".join(
                f"{value} in process {i}" for i, value in enumerate(values)
            )
            raise ValueError(
                f"the processes do not agree in {name}: {listed}. They must "
                "all be called with the same."
            )
