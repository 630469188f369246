"""The layers as the tests make them: all their arguments, and their inputs."""

from helpers import random_arrays, randomize

import gcvit

# Every argument of every layer, none of them at its default.
ARGUMENTS = {
    gcvit.SqueezeAndExcitation: {"expansion": 0.5},
    gcvit.ReduceSize: {"keepdims": True},
    gcvit.PatchEmbed: {"embed_dim": 8},
    gcvit.FeatureExtraction: {"keepdims": True},
    gcvit.GlobalQueryGenerator: {"keepdims": (False, True)},
    gcvit.WindowAttention: {
        "window_size": (2, 4),
        "num_heads": 2,
        "global_query": True,
        "qkv_bias": False,
        "qk_scale": 0.3,
        "attention_dropout": 0.1,
        "projection_dropout": 0.2,
    },
    gcvit.DropPath: {"rate": 0.3, "seed": 7},
    gcvit.MLP: {
        "hidden_features": 12,
        "out_features": 6,
        "activation": "relu",
        "dropout": 0.1,
    },
    gcvit.Block: {
        "window_size": (2, 4),
        "num_heads": 2,
        "global_query": True,
        "mlp_ratio": 2.0,
        "qkv_bias": False,
        "qk_scale": 0.3,
        "dropout": 0.1,
        "attention_dropout": 0.2,
        "path_drop": 0.3,
        "activation": "relu",
        "layer_scale": 0.5,
    },
    gcvit.Level: {
        "depth": 2,
        "num_heads": 2,
        "window_size": (2, 4),
        "downsample": False,
        "mlp_ratio": 2.0,
        "qkv_bias": False,
        "qk_scale": 0.3,
        "dropout": 0.1,
        "attention_dropout": 0.2,
        "path_drop": (0.1, 0.3),
        "layer_scale": 0.5,
    },
    gcvit.GCViT: {
        "window_size": ((4, 2), (4, 2)),
        "embed_dim": 8,
        "depths": (2, 1),
        "num_heads": (2, 4),
        "drop_rate": 0.1,
        "mlp_ratio": 2.0,
        "qkv_bias": False,
        "qk_scale": 0.3,
        "attention_dropout": 0.2,
        "path_drop": 0.3,
        "layer_scale": 0.5,
        "num_classes": 5,
        "head_activation": "sigmoid",
        "class_names": ("ant", "bee", "cat", "dog", "eel"),
        "value_range": (0.0, 4095.0),
    },
}

# A layer's class, its arguments, the shapes of its inputs, batch 2.
MAP, ODD, TOKENS = (2, 8, 8, 8), (2, 5, 7, 8), (2, 8, 8)
LOCAL = {"window_size": (2, 4), "num_heads": 2, "global_query": False}
GLOBAL = {**LOCAL, "global_query": True}
CASES = {
    "squeeze_excitation": (gcvit.SqueezeAndExcitation, {}, [ODD]),
    "reduce_size": (gcvit.ReduceSize, {}, [MAP]),
    "reduce_size_odd": (gcvit.ReduceSize, {"keepdims": True}, [ODD]),
    "patch_embed": (gcvit.PatchEmbed, {"embed_dim": 8}, [(2, 32, 32, 3)]),
    "patch_embed_odd": (gcvit.PatchEmbed, {"embed_dim": 4}, [(2, 9, 14, 3)]),
    "feature_extraction": (gcvit.FeatureExtraction, {}, [MAP]),
    "feature_extraction_odd": (gcvit.FeatureExtraction, {}, [ODD]),
    "feature_extraction_keep": (
        gcvit.FeatureExtraction,
        {"keepdims": True},
        [ODD],
    ),
    "global_query": (
        gcvit.GlobalQueryGenerator,
        {"keepdims": (False, True, False)},
        [ODD],
    ),
    "attention_local": (gcvit.WindowAttention, LOCAL, [(6, 8, 8)]),
    "attention_global": (
        gcvit.WindowAttention,
        GLOBAL,
        [(6, 8, 8), (2, 2, 4, 8)],
    ),
    "drop_path": (gcvit.DropPath, {"rate": 0.5}, [MAP]),
    "mlp": (gcvit.MLP, {"hidden_features": 12, "out_features": 6}, [TOKENS]),
    "block_local": (gcvit.Block, LOCAL, [MAP]),
    "block_global": (gcvit.Block, GLOBAL, [MAP, (2, 2, 4, 8)]),
    "level": (
        gcvit.Level,
        {"depth": 2, "num_heads": 2, "window_size": 4, "layer_scale": 0.5},
        [MAP],
    ),
    "level_last": (
        gcvit.Level,
        {
            "depth": 2,
            "num_heads": 2,
            "window_size": (2, 4),
            "downsample": False,
        },
        [(2, 4, 8, 8)],
    ),
}


def make(name, **changes):
    """A layer of `CASES`, built and with random weights, and its inputs."""
    cls, arguments, shapes = CASES[name]
    layer = cls(**{**arguments, **changes})
    layer.build(*shapes)
    randomize(layer)
    return layer, random_arrays(*shapes)
