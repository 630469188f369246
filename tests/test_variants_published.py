"""What was published: addresses, and the names of the classes."""

import pytest

from gcvit import class_names
from gcvit.variants import BYTES, ROWS, checkpoint_address

# === Addresses ===

NVIDIA = "https://huggingface.co/nvidia/GCViT/resolve/main/gcvit_"
TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download"
TIMM_HASHES = {
    "xxtiny": "d1d86009",
    "xtiny": "274b92b7",
    "tiny": "ac783954",
    "small": "4e98afa2",
    "base": "f009139b",
}


def test_the_addresses_are_the_published_ones():
    assert [name for name in ROWS if not ROWS[name].addresses] == ["large_21k"]
    assert ROWS["nano"].addresses == {"book": "nano.weights.h5"}
    for variant in set(ROWS) - {"nano", "large_21k"}:
        file = variant.replace("large_21k", "21k_large")
        file = file if "21k" in file else f"1k_{file}"
        expected = {"nvidia": f"{NVIDIA}{file}.pth.tar"}
        if variant == "xxtiny":
            expected["keras.io"] = (
                "https://github.com/awsaf49/gcvit-tf/releases/download/v1.1.6/"
                "gcvitxxtiny.keras"
            )
        if variant in TIMM_HASHES:
            expected["timm"] = (
                f"{TIMM}/v0.1-weights-morevit/gcvit_{variant}_224_nvidia-"
                f"{TIMM_HASHES[variant]}.pth"
            )
        assert ROWS[variant].addresses == expected
        default = "keras.io" if variant == "xxtiny" else "nvidia"
        assert checkpoint_address(variant) == expected[default]
    assert BYTES == {"gcvitxxtiny.keras": 48_767_519}


@pytest.mark.parametrize(
    ("arguments", "seen", "listed"),
    [
        ({"variant": "xxxtiny"}, "'xxxtiny'", ["nano", "xxtiny", "base"]),
        ({"variant": "large_21k"}, "'large_21k'", ["large", "large_21k_384"]),
        (
            {"variant": "xxtiny", "source": "google"},
            "'google'",
            ["keras.io, nvidia, timm"],
        ),
        ({"variant": "tiny2", "source": "timm"}, "'timm'", ["nvidia"]),
        ({"variant": "nano", "source": "nvidia"}, "'nvidia'", ["book"]),
    ],
)
def test_what_does_not_exist_is_said(arguments, seen, listed):
    with pytest.raises(ValueError) as error:
        checkpoint_address(**arguments)
    for text in (seen, *listed):
        assert text in str(error.value)


# === Names of classes ===


@pytest.mark.parametrize("variant", ["xxtiny", "base", "large_21k"])
def test_the_classes_of_imagenet(variant):
    names = class_names(variant)
    assert len(names) == 1000
    known = {
        0: "tench",
        1: "goldfish",
        207: "golden retriever",
        281: "tabby",
        282: "tiger cat",
        285: "Egyptian cat",
        340: "zebra",
        999: "toilet tissue",
    }
    assert {i: names[i] for i in known} == known


def test_the_classes_of_cifar10():
    names = class_names("nano")
    expected = "airplane automobile bird cat deer dog frog horse ship truck"
    assert names == expected.split()
    names.clear()  # a caller's list is the caller's
    assert class_names("nano") == expected.split()


def test_an_unknown_variant_has_no_classes():
    with pytest.raises(ValueError, match="xxxtiny.*nano"):
        class_names("xxxtiny")
