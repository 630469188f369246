"""Train with less memory: compute a second time what need not be kept."""

import functools

import keras


def recompute(model):
    """Let a model keep less while it trains.

    For the gradients, a training step keeps what each operation took in. After
    this call the stem, the global queries, the attentions, the MLPs and what
    halves a map keep what came in only, and compute the rest once more. Answers,
    weights and gradients stay the same; a training step takes a quarter longer.

    Chance is left out: stochastic depth is between these parts, and draws once.
    Call it before the model is trained. It is not stored with the model.

    Args:
        model: a `GCViT` that was built, without `drop_rate` in its levels.

    Raises:
        ImportError: if Keras is older than 3.9, which recomputes nothing.
        ValueError: if the model is not built, or drops out inside of these
            parts, where the second time would draw other values.
    """
    if not hasattr(keras, "remat"):
        raise ImportError(
            f"recompute needs Keras 3.9 or newer; this is {keras.__version__}."
        )
    if not model.built:
        raise ValueError(
            "recompute takes the layers that build makes: call "
            "model.build((None, height, width, 3)) first."
        )
    for layer in parts(model):
        rates = [getattr(layer, "dropout", 0)]
        rates += [getattr(layer, "attention_dropout", 0)]
        if any(rates):
            raise ValueError(
                f"{layer.path} drops out at a rate of {max(rates)}, and would "
                "draw other values the second time: build the model with "
                "drop_rate=0 and attention_dropout=0; path_drop may stay."
            )
    for layer in parts(model):
        if not hasattr(layer.call, "__wrapped__"):  # not asked for before
            layer.call = twice(layer.call)


def parts(model):
    """List the layers of a `GCViT` in which nothing is left to chance."""
    layers = [model.patch_embed]
    for level in model.levels:
        layers.append(level.q_global_gen)
        for block in level.blocks:
            layers += [block.attn, block.mlp]
        if level.downsample:
            layers.append(level.down)
    return layers


def twice(call):
    """Make a call that computes again for its gradients."""

    @functools.wraps(call)
    def recomputed(*tensors, **options):
        # Backends differ in what else than tensors they would take.
        given = [tensor for tensor in tensors if tensor is not None]
        return keras.remat(functools.partial(call, **options))(*given)

    return recomputed
