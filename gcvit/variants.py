"""The variants: one row for each, with everything that is known of it."""

from importlib.resources import files
from typing import NamedTuple


class Variant(NamedTuple):
    """What is known of a variant.

    `arguments` are those of `GCViT`. `classes` names a file in `data`.
    `top_1` is the accuracy on ImageNet-1K in percent, and `gmacs` counts
    billions of multiplications and additions, each pair as one: both as
    NVIDIA reports them. `addresses` says who published a checkpoint; the
    first is the default.
    """

    arguments: dict
    parameters: int
    classes: str
    licence: str
    addresses: dict
    top_1: float | None = None
    gmacs: float | None = None


# === Arguments: models/gc_vit.py in NVlabs/GCVit, but for "nano" ===

XXTINY = {
    "window_size": (7, 7, 14, 7),
    "embed_dim": 64,
    "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 8, 16),
    "mlp_ratio": 3.0,
    "path_drop": 0.2,
}
XTINY = XXTINY | {"depths": (3, 4, 6, 5)}
TINY = XXTINY | {"depths": (3, 4, 19, 5)}
TINY2 = TINY | {"depths": (3, 4, 29, 5), "path_drop": 0.25}
SMALL = TINY | {
    "embed_dim": 96,
    "num_heads": (3, 6, 12, 24),
    "mlp_ratio": 2.0,
    "path_drop": 0.3,
    "layer_scale": 1e-5,
}
SMALL2 = SMALL | {
    "depths": (3, 4, 23, 5),
    "mlp_ratio": 3.0,
    "path_drop": 0.35,
}
BASE = SMALL | {
    "embed_dim": 128,
    "num_heads": (4, 8, 16, 32),
    "path_drop": 0.5,
}
LARGE = BASE | {"embed_dim": 192, "num_heads": (6, 12, 24, 48)}
LARGE_384 = LARGE | {"window_size": (12, 12, 24, 12), "path_drop": 0.1}
LARGE_512 = LARGE | {"window_size": (16, 16, 32, 16), "path_drop": 0.1}
# The book's own, for images of 64 px and CIFAR-10's ten classes.
NANO = {
    "window_size": (4, 4, 4, 2),
    "embed_dim": 32,
    "depths": (2, 2, 2, 2),
    "num_heads": (1, 2, 4, 8),
    "mlp_ratio": 3.0,
    "path_drop": 0.0,
    "num_classes": 10,
}

# === Checkpoints ===

HUGGING_FACE = "https://huggingface.co/nvidia/GCViT/resolve/main/gcvit_"
GITHUB = "https://github.com/rwightman/pytorch-image-models/releases/download/"
GITHUB += "v0.1-weights-morevit/gcvit_"
KERAS_IO = "https://github.com/awsaf49/gcvit-tf/releases/download/v1.1.6/"
# What a publisher says of a file's size.
BYTES = {"gcvitxxtiny.keras": 48_767_519}


def nvidia(name):
    return {"nvidia": f"{HUGGING_FACE}{name}.pth.tar"}


def timm(name, digits):
    return {"timm": f"{GITHUB}{name}_224_nvidia-{digits}.pth"}


# === The rows ===

IMAGENET = "imagenet_classes.txt"
CIFAR10 = "cifar10_classes.txt"
# NVIDIA's, and so of every conversion of its weights: non-commercial.
NVIDIA = "CC BY-NC-SA 4.0"

# Top-1 and GMACs are from the README of NVlabs/GCVit.
ROWS = {
    "nano": Variant(
        NANO,
        2_240_168,
        CIFAR10,
        "Apache-2.0",
        {"book": "nano.weights.h5"},
    ),
    "xxtiny": Variant(
        XXTINY,
        11_995_428,
        IMAGENET,
        NVIDIA,
        {"keras.io": f"{KERAS_IO}gcvitxxtiny.keras"}
        | nvidia("1k_xxtiny")
        | timm("xxtiny", "d1d86009"),
        79.9,
        2.1,
    ),
    "xtiny": Variant(
        XTINY,
        19_981_294,
        IMAGENET,
        NVIDIA,
        nvidia("1k_xtiny") | timm("xtiny", "274b92b7"),
        82.0,
        2.6,
    ),
    "tiny": Variant(
        TINY,
        28_221_974,
        IMAGENET,
        NVIDIA,
        nvidia("1k_tiny") | timm("tiny", "ac783954"),
        83.5,
        4.7,
    ),
    "tiny2": Variant(
        TINY2, 34_535_654, IMAGENET, NVIDIA, nvidia("1k_tiny2"), 83.7, 5.5
    ),
    "small": Variant(
        SMALL,
        51_092_173,
        IMAGENET,
        NVIDIA,
        nvidia("1k_small") | timm("small", "4e98afa2"),
        84.3,
        8.5,
    ),
    "small2": Variant(
        SMALL2, 68_615_197, IMAGENET, NVIDIA, nvidia("1k_small2"), 84.8, 10.7
    ),
    "base": Variant(
        BASE,
        90_320_836,
        IMAGENET,
        NVIDIA,
        nvidia("1k_base") | timm("base", "f009139b"),
        85.0,
        14.8,
    ),
    "large": Variant(
        LARGE, 202_075_570, IMAGENET, NVIDIA, nvidia("1k_large"), 85.7, 32.6
    ),
    # Trained on ImageNet-21K first. The first one has no public checkpoint.
    "large_21k": Variant(LARGE, 202_075_570, IMAGENET, NVIDIA, {}, 86.6, 32.6),
    "large_21k_384": Variant(
        LARGE_384,
        202_860_610,
        IMAGENET,
        NVIDIA,
        nvidia("21k_large_384"),
        87.4,
        120.4,
    ),
    "large_21k_512": Variant(
        LARGE_512,
        203_795_362,
        IMAGENET,
        NVIDIA,
        nvidia("21k_large_512"),
        87.6,
        245.0,
    ),
}
# Keyword arguments of `GCViT` for each variant.
VARIANTS = {name: row.arguments for name, row in ROWS.items()}


# === Asking for one ===


def check_variant(variant):
    """Raise `ValueError` for a variant that is unknown, and list the known."""
    if variant not in ROWS:
        raise ValueError(
            f"variant={variant!r} is unknown; these are known: "
            f"{', '.join(ROWS)}."
        )


def variant_arguments(variant):
    """Give the arguments of `GCViT` for a variant.

    Raises:
        ValueError: for an unknown variant.
    """
    check_variant(variant)
    return VARIANTS[variant]


def class_names(variant):
    """List the classes that a variant's checkpoints tell apart.

    Args:
        variant: a key of `VARIANTS`.

    Returns:
        A list of names, in the order of the model's outputs.

    Raises:
        ValueError: for an unknown variant.
    """
    check_variant(variant)
    path = files("gcvit") / "data" / ROWS[variant].classes
    lines = path.read_text("utf-8").splitlines()
    return [line.split(" ", 1)[1] for line in lines]


def checkpoint_address(variant, source=None):
    """Say where a checkpoint is.

    Args:
        variant: a key of `VARIANTS`.
        source: a key of its addresses; `None` takes the first.

    Returns:
        An address, or the name of a file in the package's data.

    Raises:
        ValueError: if there is no such checkpoint; the message lists those
            that exist.
    """
    check_variant(variant)
    addresses = ROWS[variant].addresses
    if not addresses:
        known = ", ".join(name for name, row in ROWS.items() if row.addresses)
        raise ValueError(
            f"variant={variant!r} has no public checkpoint; "
            f"these have: {known}."
        )
    source = source or next(iter(addresses))
    if source not in addresses:
        raise ValueError(
            f"source={source!r} has no checkpoint of {variant!r}; "
            f"these have: {', '.join(addresses)}."
        )
    return addresses[source]
