"""What is written another way for XLA on a CPU, against Keras's own.

On each backend both ways are there, so each backend tests both.
"""

import keras
import numpy as np
import pytest
from helpers import gradients_of, numpy, random_arrays
from keras import layers, ops

import gcvit
from gcvit import devices, fast_ops

LAST = {"data_format": "channels_last"}


def depthwise_conv(x, kernel):
    return ops.depthwise_conv(x, kernel[..., None], padding="same", **LAST)


def halving_conv(x, kernel):
    return ops.conv(x, kernel, strides=2, **LAST)


def max_pool(x):
    return ops.max_pool(x, 3, strides=2, **LAST)


def gelu(x):
    return ops.gelu(x, approximate=False)


CASES = {
    "depthwise convolution": (
        (fast_ops.depthwise_conv, depthwise_conv),
        ((3, 6, 7, 4), (3, 3, 4)),
    ),
    "convolution, even and odd": (
        (fast_ops.halving_conv, halving_conv),
        ((3, 10, 9, 4), (3, 3, 4, 5)),
    ),
    "maxima, even and odd": (
        (fast_ops.maxima_of_views, max_pool),
        ((3, 10, 9, 4),),
    ),
    "sum": (
        (fast_ops.sum_with_each, ops.add),
        ((3, 2, 5, 5), (2, 5, 5)),
    ),
    "GELU": ((fast_ops.gelu, gelu), ((3, 40),)),
}


@pytest.fixture(params=[True, False], ids=["XLA on a CPU", "elsewhere"])
def is_xla_on_cpu(request, monkeypatch):
    monkeypatch.setattr(devices, "is_xla_on_cpu", lambda: request.param)
    return request.param


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_keras_s(name):
    (fast, own), shapes = CASES[name]
    inputs = random_arrays(*shapes)
    tensors = [ops.convert_to_tensor(array) for array in inputs]
    values = [numpy(function(*tensors)) for function in (fast, own)]
    assert np.abs(values[0] - values[1]).max() < 1e-5
    (factors,) = random_arrays(values[0].shape)

    def weighted(function):
        return lambda *inputs: ops.sum(
            ops.multiply(function(*inputs), factors)
        )

    found = gradients_of(weighted(fast), inputs)
    for one, other in zip(found, gradients_of(weighted(own), inputs)):
        assert one.shape == other.shape
        assert np.abs(one - other).max() < 1e-5 * np.std(other)


def test_of_equal_values_one_gets_the_gradient():
    # Relu leaves many zeros in a map, and a border of equal values.
    x = np.zeros((1, 5, 5, 1), "float32")
    (found,) = gradients_of(
        lambda x: ops.sum(fast_ops.maxima_of_views(x)), [x]
    )
    assert found.sum() == 4 and found.max() == 1


LAYERS = [
    (fast_ops.DepthwiseConv2D, layers.DepthwiseConv2D, (3,)),
    (fast_ops.HalvingConv2D, layers.Conv2D, (6, 3)),
]


@pytest.mark.parametrize("changes", [{}, {"strides": 1}, {"strides": 2}])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("fast, own, sizes", LAYERS)
def test_layers_are_keras_s(is_xla_on_cpu, fast, own, sizes, padding, changes):
    options = {"padding": padding, "activation": "gelu", **LAST}
    (x,) = random_arrays((2, 9, 8, 4))
    layer = fast(*sizes, use_bias=False, **options, **changes)
    other = own(*sizes, use_bias=False, **options, **changes)
    for one in (layer, other):
        one.build(x.shape)
    other.set_weights(layer.get_weights())
    assert np.abs(numpy(layer(x)) - numpy(other(x))).max() < 1e-5
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is fast
    assert again.get_config() == layer.get_config()


def test_what_is_added_may_have_any_shape(is_xla_on_cpu):
    x, bias = random_arrays((3, 2, 4), (2, 4))
    for added in (bias, bias[:1], 0.5):
        total = numpy(fast_ops.add_to_each(ops.convert_to_tensor(x), added))
        assert np.array_equal(total, x + added)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_model_answers_the_same(dtype, monkeypatch):
    settings = {"window_size": (2,), "embed_dim": 8, "depths": (2,)}
    settings |= {"num_heads": (1,), "num_classes": 3, "dtype": dtype}
    (images,) = random_arrays((2, 16, 16, 3))
    answers, weights = [], None
    for is_xla_on_cpu in (True, False):
        monkeypatch.setattr(devices, "is_xla_on_cpu", lambda: is_xla_on_cpu)
        model = gcvit.GCViT(**settings)
        model.build(images.shape)
        weights = weights or model.get_weights()
        model.set_weights(weights)
        answers.append(model.predict(images, verbose=0))
    far = np.abs(answers[0] - answers[1]).max()
    assert far < (1e-6 if dtype == "float32" else 1e-2)
