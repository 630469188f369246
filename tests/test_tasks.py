"""Tasks: the loss, the measure and the best epoch that a head asks for."""

import keras
import numpy as np
import pytest
from training import small_model

import gcvit
from gcvit import tasks
from gcvit.tasks import BalancedAccuracy

ONE_HOT = np.eye(5, dtype="float32")
SEVERAL = np.array([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], "float32")
YES_NO = np.array([[1.0], [0.0]], "float32")
NUMBERS = np.array([[3.5], [-1.0]], "float32")


# === Balanced accuracy ===


def measured(*batches):
    metric = BalancedAccuracy(batches[0][1].shape[-1])
    for truth, answer in batches:
        metric.update_state(truth, answer)
    return metric


def test_naming_the_large_class_always_is_right_for_half_of_them():
    truth = np.eye(2)[[0] * 31 + [1]]
    metric = measured((truth, np.eye(2)[[0] * 32]))
    assert float(metric.result()) == pytest.approx(0.5)
    assert metric.recalls() == [1.0, 0.0]


def test_batches_add_up_and_what_does_not_occur_does_not_count():
    three = np.eye(3)
    metric = measured(
        (three[[0, 0, 1]], three[[0, 1, 1]]), (three[[0, 0]], three[[2, 2]])
    )
    assert metric.recalls() == [0.25, 1.0, None]
    assert float(metric.result()) == pytest.approx((0.25 + 1) / 2)
    metric.reset_state()
    assert metric.recalls() == [None] * 3 and float(metric.result()) == 0


def test_yes_and_no_are_two_classes():
    metric = BalancedAccuracy(2)
    answers = np.array([[0.9], [0.2], [0.8], [0.6]])
    metric.update_state(np.array([1, 0, 0, 1]), answers)
    assert metric.recalls() == [0.5, 1.0]


def test_it_is_saved_with_a_model():
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(BalancedAccuracy(3))
    )
    assert type(again) is gcvit.BalancedAccuracy and again.classes == 3


# === What belongs together ===


@pytest.mark.parametrize(
    ("count", "head", "labels", "loss", "best"),
    [
        (5, "softmax", ONE_HOT, "CategoricalCrossentropy", "balanced"),
        (5, "softmax", ONE_HOT * 0.6 + 0.08, "CategoricalCros", "balanced"),
        (5, None, ONE_HOT, "CategoricalCrossentropy", "balanced"),
        (5, "sigmoid", SEVERAL, "BinaryCrossentropy", "loss"),
        (5, "sigmoid", ONE_HOT, "BinaryCrossentropy", "loss"),
        (1, "sigmoid", YES_NO, "BinaryCrossentropy", "balanced"),
        (1, "sigmoid", YES_NO[:, 0], "BinaryCrossentropy", "balanced"),
        (1, None, NUMBERS, "MeanSquaredError", "loss"),
        (1, None, NUMBERS[:, 0], "MeanSquaredError", "loss"),
        (5, None, 9 * ONE_HOT, "MeanSquaredError", "loss"),
    ],
)
def test_head_and_labels_choose_the_loss(count, head, labels, loss, best):
    model = small_model(num_classes=count, head_activation=head)
    task = tasks.task_of(model, labels, 0.1)
    assert type(task.loss).__name__.startswith(loss)
    assert best in task.best and task.sign == (-1 if best == "loss" else 1)
    if isinstance(task.loss, keras.losses.CategoricalCrossentropy):
        assert task.loss.from_logits == (head is None)


@pytest.mark.parametrize(
    ("count", "head", "labels", "message"),
    [
        (1, "softmax", YES_NO, 'always 1.*head_activation="sigmoid"'),
        (5, "softmax", SEVERAL, 'not one-hot.*head_activation="sigmoid"'),
        (5, "softmax", 2 * ONE_HOT, "not one-hot"),
        (1, "sigmoid", NUMBERS, "from -1 to 3.5.*head_activation=None"),
        (5, None, SEVERAL, 'not numbers.*head_activation="sigmoid"'),
        (1, None, YES_NO, 'not numbers.*head_activation="sigmoid"'),
        (5, "tanh", ONE_HOT[:, ::-1] * 2, "head_activation='tanh'.*softmax"),
    ],
)
def test_what_does_not_belong_together_is_an_error(
    count, head, labels, message
):
    model = small_model(num_classes=count, head_activation=head)
    with pytest.raises(ValueError, match=message):
        tasks.task_of(model, labels, 0.1)


def test_several_labels_are_judged_one_by_one():
    model = small_model(head_activation="sigmoid")
    task = tasks.task_of(model, SEVERAL, 0.0)
    answers = np.array([[0.9, 0.8, 0.1, 0.1, 0.1], [0.1] * 4 + [0.9]])
    (metric,) = task.metrics
    metric.update_state(SEVERAL, answers)
    assert float(metric.result()) == pytest.approx(0.9)
    expected = -np.log(np.where(SEVERAL, answers, 1 - answers)).mean()
    assert float(task.loss(SEVERAL, answers)) == pytest.approx(expected)


# === The data ===


@pytest.mark.parametrize("name", ["train", "validation"])
@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (None, "None"),
        ((np.zeros((2, 32, 32, 3)), ONE_HOT[:2]), "a tuple"),
        (np.zeros((2, 32, 32, 3)), "a ndarray"),
        (keras.utils.PyDataset(), "a PyDataset"),
    ],
    ids=["None", "arrays", "array", "PyDataset"],
)
def test_what_is_no_dataset_is_an_error(name, given, seen):
    with pytest.raises(ValueError, match=f"{name} is {seen}; a tf.data.Data"):
        tasks.check_dataset(name, given, small_model())
