"""The Global Context Vision Transformer in Keras 3, exact, and as a book."""

import importlib

from gcvit.block import MLP, Block, DropPath, window_partition, window_reverse
from gcvit.feature_extraction import FeatureExtraction, GlobalQueryGenerator
from gcvit.level import Level
from gcvit.model import GCViT
from gcvit.patch_embed import PatchEmbed
from gcvit.pretrained import (
    classify,
    decode_predictions,
    from_pretrained,
    load_checkpoint,
    preprocess,
)
from gcvit.recomputation import recompute
from gcvit.reduce_size import ReduceSize, add_fused_mbconv, fused_mbconv
from gcvit.sizes import check_image_size, windows_for
from gcvit.squeeze_excitation import SqueezeAndExcitation
from gcvit.tasks import BalancedAccuracy
from gcvit.variants import VARIANTS, class_names
from gcvit.window_attention import WindowAttention

__all__ = [
    "BalancedAccuracy",
    "Block",
    "DropPath",
    "FeatureExtraction",
    "GCViT",
    "GlobalQueryGenerator",
    "Level",
    "MLP",
    "PatchEmbed",
    "ReduceSize",
    "SqueezeAndExcitation",
    "VARIANTS",
    "WindowAttention",
    "add_fused_mbconv",
    "check_image_size",
    "class_names",
    "classify",
    "decode_predictions",
    "from_pretrained",
    "fused_mbconv",
    "load_checkpoint",
    "preprocess",
    "recompute",
    "window_partition",
    "window_reverse",
    "windows_for",
]

# Imported when they are asked for: they need TensorFlow or Pillow, or draw. So
# they are no part of `from gcvit import *`.
LATER = {
    "fine_tune": "flowers",
    "load_flowers": "flowers",
    "load_pictures": "pipelines",
    "predict_folder": "answers",
}
MODULES_LATER = ["check", "drawn_flowers", "flowers", "folders", "pipelines"]
MODULES_LATER += ["plots", "runs"]


def __getattr__(name):
    if name in MODULES_LATER:
        return importlib.import_module(f"gcvit.{name}")
    if name in LATER:
        return getattr(importlib.import_module(f"gcvit.{LATER[name]}"), name)
    raise AttributeError(f"gcvit has no {name!r}.")


def __dir__():
    return sorted({*globals(), *LATER, *MODULES_LATER})
