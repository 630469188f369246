"""What users do with a model: train, freeze, and the published calls."""

import keras
import numpy as np
import pytest
from helpers import (
    SHAPE,
    SMALL,
    numpy,
    random_images,
    same_arrays,
    same_weights,
)
from keras import ops

import gcvit
from gcvit import recomputation

# One level, so that there is less to compile.
ONE = {
    "window_size": (4,),
    "embed_dim": 8,
    "depths": (2,),
    "num_heads": (2,),
    "num_classes": 3,
}
LABELS = np.array([0, 1, 2, 1])


def compiled(model, learning_rate=0.0, **options):
    model.compile(
        keras.optimizers.SGD(learning_rate),
        "sparse_categorical_crossentropy",
        **options,
    )
    return model


# === Training ===


# PyTorch's compiler needs a C++ compiler on the machine; JAX without its own
# takes half a minute for a step, so only its calls are tested without.
JIT_COMPILE = {"tensorflow": [False, True], "jax": [True], "torch": [False]}


@pytest.mark.parametrize("jit_compile", JIT_COMPILE[keras.backend.backend()])
def test_training(jit_compile):
    """One step moves every weight, stays finite, and lowers the loss."""
    keras.utils.set_random_seed(0)
    model = gcvit.GCViT(
        **ONE,
        drop_rate=0.1,
        attention_dropout=0.1,
        path_drop=0.1,
        layer_scale=0.5,
    )
    compiled(model, 0.1, jit_compile=jit_compile)
    x, y = random_images(4), LABELS

    def loss():
        return -np.log(model.predict(x, verbose=0)[range(4), y]).mean()

    first = loss()
    before = model.get_weights()
    step = model.train_on_batch(x, y)
    # The same images and weights: only what is dropped makes a difference.
    assert abs(step - first) > 1e-3
    for weight, old in zip(model.weights, before):
        new = numpy(weight)
        assert np.isfinite(new).all(), weight.path
        assert (new != old).any(), weight.path
    assert loss() < first


@pytest.mark.parametrize("rate", ["drop_rate", "path_drop"])
def test_training_drops_out_and_testing_does_not(rate):
    model = compiled(gcvit.GCViT(**ONE, **{rate: 0.5}))
    losses = {
        float(model.train_on_batch(random_images(4), LABELS)) for _ in range(5)
    }
    assert len(losses) > 1
    losses = {
        model.evaluate(random_images(4), LABELS, verbose=0) for _ in range(3)
    }
    assert len(losses) == 1


needs_remat = pytest.mark.skipif(
    not hasattr(keras, "remat"), reason="this Keras recomputes nothing"
)


@needs_remat
def test_recomputing_to_save_memory_keeps_the_gradients(monkeypatch):
    calls, remat = [], keras.remat
    monkeypatch.setattr(keras, "remat", lambda f: calls.append(f) or remat(f))
    after = []
    for is_recomputed in (False, True):
        keras.utils.set_random_seed(0)
        model = gcvit.GCViT(**ONE, path_drop=0.5)
        model.build(SHAPE)
        if is_recomputed:
            gcvit.recompute(model)
            gcvit.recompute(model)  # as a cell that is run twice
        assert not calls
        # Steps as long as gradients: what is wrong in one is seen.
        compiled(model, learning_rate=1.0).train_on_batch(
            random_images(4), LABELS
        )
        after.append(model.get_weights())
    layers = {call.func.__self__ for call in calls}
    assert layers == set(recomputation.parts(model))
    for plain, recomputed in zip(*after, strict=True):
        np.testing.assert_allclose(recomputed, plain, atol=1e-6)


@needs_remat
def test_recomputing_refuses_what_would_be_wrong():
    with pytest.raises(ValueError, match=r"call model.build"):
        gcvit.recompute(gcvit.GCViT(**ONE))
    model = gcvit.GCViT(**ONE, attention_dropout=0.1)
    model.build(SHAPE)
    with pytest.raises(
        ValueError, match=r"attention\S* drops out at a rate of 0.1"
    ):
        gcvit.recompute(model)


@pytest.mark.skipif(hasattr(keras, "remat"), reason="this Keras recomputes")
def test_recomputing_needs_a_newer_keras():
    with pytest.raises(ImportError, match=r"needs Keras 3.9"):
        gcvit.recompute(gcvit.GCViT(**ONE))


def test_parts_frozen_before_the_build_stay_frozen():
    model = gcvit.GCViT(**(SMALL | {"depths": (1, 1)}))
    model.patch_embed.trainable = False
    model.levels[1].trainable = False
    model.build(SHAPE)
    frozen = model.patch_embed.get_weights() + model.levels[1].get_weights()
    free = model.levels[0].get_weights()
    compiled(model, learning_rate=1.0).train_on_batch(random_images(4), LABELS)
    after = model.patch_embed.get_weights() + model.levels[1].get_weights()
    assert same_arrays(frozen, after)
    assert not same_arrays(free, model.levels[0].get_weights())


# === The published example's calls ===


def test_published_usage(capsys, tmp_path):
    """Its calls, one by one; one level, so that JAX compiles less."""
    config = {
        "window_size": (28,),
        "embed_dim": 8,
        "depths": (2,),
        "num_heads": (2,),
        "mlp_ratio": 3.0,
        "path_drop": 0.2,
    }
    path = tmp_path / "published.keras"
    published = gcvit.GCViT(**config)
    published.build((None, 224, 224, 3))
    published.save(path)

    model = gcvit.GCViT(**config)
    inp = ops.array(np.random.uniform(size=(1, 224, 224, 3)))
    out = model(inp)
    assert tuple(out.shape) == (1, 1000)
    model.load_weights(path)
    assert same_weights(model, published)
    model.summary((224, 224, 3))
    printed = capsys.readouterr().out
    assert "(None, 56, 56, 8)" in printed
    assert "?" not in printed
    assert f"{model.count_params():,}" in printed
    graph = model.build_graph()
    assert graph.input_shape == (None, 224, 224, 3)
    assert graph.output_shape == (None, 1000)
