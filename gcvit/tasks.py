"""Tasks: what a model's head and its labels ask for.

One class of several, several labels for each picture, yes or no, a number:
each has its own loss, its own measure, and its own best epoch. What does not go
together is found before the first step.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import activations, ops

from gcvit import processes, quantization, shares
from gcvit.arguments import has_nan

# === The measure where classes differ in size ===


@keras.saving.register_keras_serializable(package="gcvit")
class BalancedAccuracy(keras.metrics.Metric):
    """The mean of the recalls of all classes that occur.

    Where one class has almost all pictures, naming it always is right almost
    always; here that counts as a half for two classes. Keras has no metric for
    it. A picture counts as much as its sample weight, if it has one.

    Args:
        classes: how many, an int; of a single output, yes and no are two.
        name: as for `keras.metrics.Metric`.
        kwargs: as for `keras.metrics.Metric`.
    """

    def __init__(self, classes, name="balanced_accuracy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.classes = classes
        self.seen = self.add_variable((classes,), "zeros")
        self.right = self.add_variable((classes,), "zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count; both are `(B, classes)`, or `(B, 1)` for yes and no."""
        if y_pred.shape[-1] == 1:
            y_true = ops.cast(ops.reshape(y_true, (-1, 1)), y_pred.dtype)
            y_true = ops.concatenate([1 - y_true, y_true], axis=-1)
            y_pred = ops.concatenate([1 - y_pred, y_pred], axis=-1)
        truth, answer = ops.argmax(y_true, -1), ops.argmax(y_pred, -1)
        is_right = ops.cast(truth == answer, self.dtype)
        truth = ops.one_hot(truth, self.classes, dtype=self.dtype)
        if sample_weight is not None:
            weight = ops.reshape(sample_weight, (-1, 1))
            truth = truth * ops.cast(weight, self.dtype)
        self.seen.assign_add(ops.sum(truth, 0))
        self.right.assign_add(ops.sum(truth * is_right[:, None], 0))

    def recalls(self):
        """List the recall of each class, `None` for one that did not occur."""
        both = map(ops.convert_to_numpy, (self.right, self.seen))
        return [float(x / n) if n else None for x, n in zip(*both)]

    def result(self):
        seen = ops.convert_to_tensor(self.seen)
        recalls = self.right / ops.where(seen > 0, seen, 1)
        occur = ops.sum(ops.cast(seen > 0, self.dtype))
        return ops.sum(recalls) / ops.maximum(occur, 1)

    def get_config(self):
        return super().get_config() | {"classes": self.classes}


# === What goes together ===


class Task(NamedTuple):
    """What to train with.

    `best` names what is measured for the best epoch; `sign` is 1 if more of it
    is better, and -1 if less is. `argument` is what `keras.Model.compile` calls
    the metrics: another name where filler is to be passed over.
    """

    loss: Any
    metrics: list
    best: str = "val_loss"
    sign: int = -1
    argument: str = "metrics"

    def measures(self):
        """Name what no number says: the recall of each class, if there are."""
        balanced = [x for x in self.metrics if isinstance(x, BalancedAccuracy)]
        return {"val_recalls": balanced[0].recalls} if balanced else {}


def task_of(model, labels, label_smoothing):
    """Choose what belongs to a model's head and to labels.

    Args:
        model: a `GCViT`.
        labels: of some pictures, an array `(B, outputs)` or `(B,)`.
        label_smoothing: as for `gcvit.fine_tune`.

    Returns:
        A `Task`.

    Raises:
        ValueError: if head and labels do not go together; it says which head
            would.
    """
    head, count = model.head_activation, model.num_classes
    is_share = labels.min() >= 0 and labels.max() <= 1
    odd = labels[~np.isclose(labels.reshape(-1, count).sum(axis=1), 1)]
    is_one_hot = is_share and not len(odd)
    if head is activations.softmax and count == 1:
        raise ValueError(
            "a softmax of one output is always 1, so nothing can be learned. "
            'Build the model with head_activation="sigmoid" for yes or no, '
            "with None for a number to predict, or with num_classes=2."
        )
    if head is activations.softmax and not is_one_hot:
        raise ValueError(
            "a softmax chooses one class for each picture, and labels are not "
            f"one-hot: {[*odd, *labels][0]}. Build the model with "
            'head_activation="sigmoid" for several labels for each picture.'
        )
    is_linear = head is activations.linear
    if head is activations.softmax or (is_linear and count > 1 and is_one_hot):
        return one_of_several(count, head, label_smoothing)
    if head is activations.sigmoid and is_share:
        return yes_or_no(count, label_smoothing)
    if head is activations.sigmoid:
        raise ValueError(
            f"labels from {labels.min():g} to {labels.max():g} do not go with "
            "a sigmoid, which gives 0 to 1. Build the model with "
            "head_activation=None for numbers to predict."
        )
    if not is_linear:
        raise ValueError(
            f"no loss belongs to head_activation={head.__name__!r}. Build the "
            'model with "softmax" for one class of several, with "sigmoid" '
            "for yes or no, with None for numbers to predict."
        )
    if set(np.unique(labels)) <= {0, 1}:
        raise ValueError(
            "labels that are 0 or 1 are not numbers to predict, as a head "
            "without an activation does. Build the model with "
            'head_activation="sigmoid".'
        )
    loss = keras.losses.MeanSquaredError()
    return Task(loss, [keras.metrics.MeanAbsoluteError()])


def one_of_several(count, head, label_smoothing):
    """Give the task for one class of several; see `task_of`."""
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=head is activations.linear,
        label_smoothing=label_smoothing,
    )
    metrics = [keras.metrics.CategoricalAccuracy("accuracy")]
    metrics.append(BalancedAccuracy(count))
    return Task(loss, metrics, "val_balanced_accuracy", 1)


def yes_or_no(count, label_smoothing):
    """Give the task for one label or several, each of them or not."""
    loss = keras.losses.BinaryCrossentropy(label_smoothing=label_smoothing)
    metrics = [keras.metrics.BinaryAccuracy("accuracy")]
    if count > 1:
        return Task(loss, metrics)
    metrics.append(BalancedAccuracy(2))
    return Task(loss, metrics, "val_balanced_accuracy", 1)


# === The data ===


def check_dataset(name, data, model):
    """Check that a data set gives images and labels that a model can take.

    Raises:
        ValueError: for what is not a `tf.data.Dataset`, and for shapes and
            numbers of batches that do not fit; it says what would work.
    """
    if not hasattr(data, "element_spec"):
        given = "None" if data is None else f"a {type(data).__name__}"
        raise ValueError(
            f"{name} is {given}; a tf.data.Dataset would work, as "
            "gcvit.load_pictures makes it. Of arrays: "
            "tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)."
            + (" The best epoch is chosen by it." * (name == "validation"))
        )
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            f"{name} gives {spec}; pairs of images and labels would work, "
            "with weights of the pictures as a third part if you have some."
        )
    images, labels = (part.shape for part in spec[:2])
    if not model.built:
        model.build(images)
    _, outputs = model.compute_output_shape(images)
    seen = (*labels[1:], 1)[0] if labels.rank in (1, 2) else None
    if labels.rank == 1 and outputs > 1:
        raise ValueError(
            f"{name} gives labels of shape {labels}, which are not one-hot; "
            "(batch, classes) would work: tf.one_hot(labels, classes)."
        )
    if seen != outputs:
        raise ValueError(
            f"the model tells {outputs} classes apart, the labels in {name} "
            f"have the shape {labels}. Build the model with "
            f"num_classes={seen}."
        )
    if int(data.cardinality()) <= 0:
        raise ValueError(
            f"the number of batches in {name} is unknown, infinite or 0; "
            "the learning rate depends on it. "
            f"{name}.apply(tf.data.experimental.assert_cardinality(…)) sets "
            "it. A folder has pictures to validate with if a class has two "
            "pictures that differ."
        )


@processes.together()
def check_data(model, train, validation, label_smoothing, class_weight):
    """Check, before the first step, that a model goes with its data.

    Args:
        model: a `GCViT`.
        train: as for `gcvit.fine_tune`.
        validation: as for `gcvit.fine_tune`.
        label_smoothing: as for `gcvit.fine_tune`.
        class_weight: as for `gcvit.fine_tune`.

    Returns:
        The `Task`.

    Raises:
        ValueError: for what does not go together; it says what would.
    """
    check_dataset("train", train, model)
    check_dataset("validation", validation, model)
    shares.check_data(train, validation)
    quantization.check_is_float(model, "fine_tune")
    images, labels, *weights = next(iter(train))
    labels = np.asarray(labels, "float32")
    for name, values in (("images", images), ("labels", labels)):
        if has_nan(values):
            raise ValueError(f"{name} in train have values that are NaN.")
    task = task_of(model, labels, label_smoothing)
    is_filled = any(map(shares.is_filled, (train, validation)))
    if is_filled:
        task = task._replace(argument="weighted_metrics")
    if class_weight is None:
        return task
    if not isinstance(task.loss, keras.losses.CategoricalCrossentropy):
        raise ValueError(  # noqa: TRY004 -- the head, not the argument
            "class_weight is for a head that chooses one class of several. "
            "Weights of the pictures would work, as the third part of train."
        )
    has_own = weights and not shares.is_filled(train)
    if has_own or set(class_weight) != set(range(model.num_classes)):
        raise ValueError(
            f"class_weight={class_weight} needs a factor for each of the "
            f"classes 0 to {model.num_classes - 1}, and no weights in train."
        )
    return task


def tell(model, train):
    """Give a model what answering takes, if a data set knows it.

    Args:
        model: a `GCViT`; its `class_names` and `value_range` are set.
        train: as for `gcvit.fine_tune`.
    """
    names = getattr(train, "class_names", None)
    if names is not None:
        model.class_names = tuple(names)
        model.value_range = getattr(train, "value_range", None)
