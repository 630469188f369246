"""The Global Context Vision Transformer in Keras 3, exact, written as a book."""

from gcvit.block import MLP, Block, DropPath, window_partition, window_reverse
from gcvit.feature_extraction import FeatureExtraction, GlobalQueryGenerator
from gcvit.level import Level
from gcvit.model import VARIANTS, GCViT, check_image_size, windows_for
from gcvit.patch_embed import PatchEmbed
from gcvit.pretrained import (
    class_names,
    decode_predictions,
    from_pretrained,
    load_checkpoint,
    preprocess,
)
from gcvit.reduce_size import ReduceSize, add_fused_mbconv, fused_mbconv
from gcvit.squeeze_excitation import SqueezeAndExcitation
from gcvit.window_attention import WindowAttention

__all__ = [
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
    "decode_predictions",
    "from_pretrained",
    "fused_mbconv",
    "load_checkpoint",
    "preprocess",
    "window_partition",
    "window_reverse",
    "windows_for",
]
