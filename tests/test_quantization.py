"""Quantised models, and LoRA: trained, saved, loaded, and what is refused."""

import json

import keras
import numpy as np
import pytest
from helpers import (
    SMALL,
    numpy,
    random_images,
    same_weights,
    small_model,
)

import gcvit
from gcvit import quantization

FEW = {"depths": (2, 1)}  # one global block


def named(model):
    return quantization.quantized_layers(model)


# === int8 ===


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_a_quantised_model_is_saved_and_loaded(policy, tmp_path, run):
    model = small_model(dtype=policy, **FEW)
    exact = numpy(run(model, random_images()))
    with quantization.older_objects_kept():
        model.quantize("int8")
    expected = numpy(run(model, random_images()))
    assert 0 < np.abs(expected - exact).max() < 0.1
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.dtype_policy.name == policy
    assert list(named(loaded)) == list(named(model))
    assert loaded.get_config() == model.get_config()
    json.dumps(model.get_config())  # would raise
    assert same_weights(loaded, model)
    np.testing.assert_array_equal(
        numpy(run(loaded, random_images())), expected
    )


def test_one_layer_alone_is_quantised(tmp_path):
    """The others stay as they are, also in a copy made of the config."""
    model = small_model(**FEW)
    query = model.levels[0].blocks[1].attn.qkv
    query.quantize("int8")
    assert list(named(model)) == ["Level_0/Block_1/WindowAttention_0/Dense_0"]
    copy = gcvit.GCViT.from_config(model.get_config())
    copy.build((None, *model.image_shape))
    copy.set_weights(model.get_weights())
    kernel = copy.levels[0].blocks[1].attn.qkv.kernel
    assert keras.backend.standardize_dtype(kernel.dtype) == "int8"
    assert copy.get_config() == model.get_config()


def test_a_float_model_has_a_plain_policy():
    model = small_model(**FEW)
    assert model.get_config()["dtype"]["class_name"] == "DTypePolicy"
    assert model.quantized == {}


def test_a_policy_for_a_layer_that_is_not_there_is_named():
    policies = keras.dtype_policies.DTypePolicyMap("float32")
    policies["Level_7/Dense_0"] = "int8_from_float32"
    model = gcvit.GCViT(**SMALL, dtype=policies)
    with pytest.raises(ValueError, match=r"Level_7/Dense_0.*PatchEmbed_0"):
        model.build((None, 32, 32, 3))


def test_what_takes_floats_refuses_a_quantised_model():
    model = small_model(**FEW)
    quantization.check_is_float(model, "fine_tune")
    model.head.quantize("int8")
    with pytest.raises(
        ValueError, match="is quantised to int8, and fine_tune"
    ):
        quantization.check_is_float(model, "fine_tune")


# === LoRA ===


def with_lora(model):
    """Give each dense layer a trainable correction, and freeze all else."""
    for weight in model.weights:
        weight.trainable = False
    for _, layer in quantization.named_layers(model):
        if type(layer) is keras.layers.Dense:
            layer.enable_lora(2)


def test_lora_trains_and_is_merged_when_the_model_is_saved(tmp_path, run):
    model = small_model(**FEW)
    with_lora(model)
    trained = [x for x in model.weights if x.trainable]
    assert {x.name for x in trained} == {"lora_kernel_a", "lora_kernel_b"}
    before = [np.array(numpy(x)) for x in model.weights]
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    for _ in range(2):  # in the first step b is zero, so a does not move
        model.train_on_batch(random_images(4), np.array([0, 1, 2, 1]))
    moved = {
        weight.name
        for weight, old in zip(model.weights, before)
        if (numpy(weight) != old).any()
    }
    assert moved == {"lora_kernel_a", "lora_kernel_b"}
    expected = numpy(run(model, random_images()))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights) - len(trained)
    np.testing.assert_allclose(
        numpy(run(loaded, random_images())), expected, atol=1e-6
    )


def test_lora_model_takes_its_merged_weights_back(tmp_path, run):
    """As at the end of `fine_tune`, which loads the best epoch's weights."""
    model = small_model(**FEW)
    with_lora(model)
    for weight in model.trainable_weights:
        weight.assign(numpy(weight) + 0.1)
    expected = numpy(run(model, random_images()))
    model.save(tmp_path / "model.keras")
    model.load_weights(tmp_path / "model.keras")
    assert not numpy(model.head.lora_kernel_b).any()
    np.testing.assert_allclose(
        numpy(run(model, random_images())), expected, atol=1e-6
    )
