"""Write the tables of the pages "Architecture" and "The name of every tensor".

    python tools/tables.py

The shape ledger comes from calling the real layers, the variants come from
`gcvit.VARIANTS`, the crosswalk from the patterns below.
"""

from pathlib import Path

import keras
import numpy as np

from gcvit.model import GCViT
from gcvit.sizes import halvings, smallest_image_shape
from gcvit.variants import ROWS

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_tables"
NOTE = "<!-- Written by tools/tables.py: edit that. -->\n\n"

# What tells one variant from another.
ARGUMENTS = [
    "embed_dim",
    "depths",
    "num_heads",
    "window_size",
    "mlp_ratio",
    "layer_scale",
    "path_drop",
]

# === The crosswalk ===
# A tensor: what it is, its attribute, its path in a Keras checkpoint, its
# PyTorch name, and a key of AXES. All names follow the prefixes of a place.

# What numpy.transpose makes of a PyTorch tensor to give the Keras one.
AXES = {"id": None, "T": (1, 0), "hwio": (2, 3, 1, 0), "hwio_dw": (2, 3, 0, 1)}


def kernel(what, name, axes):
    path = name.replace(".", "/")
    return (what, f"{name}.kernel", f"{path}/vars/0", f"{name}.weight", axes)


def bias(name):
    path = name.replace(".", "/")
    return ("its bias", f"{name}.bias", f"{path}/vars/1", f"{name}.bias", "id")


def norm(what, name):
    return [
        (
            f"{what} norm: scale",
            f"{name}.gamma",
            f"{name}/vars/0",
            f"{name}.weight",
            "id",
        ),
        (
            f"{what} norm: shift",
            f"{name}.beta",
            f"{name}/vars/1",
            f"{name}.bias",
            "id",
        ),
    ]


PATCH_EMBED = [
    kernel("3×3 convolution, stride 2", "proj", "hwio"),
    bias("proj"),
]
REDUCE_SIZE = [
    *norm("first", "norm1"),
    kernel("3×3 convolution, stride 2", "reduction", "hwio"),
    *norm("second", "norm2"),
]
SQUEEZE_EXCITATION = "conv/squeeze_and_excitation/fc"
FUSED_MBCONV = [
    (
        "3×3 depthwise convolution",
        "conv[0].kernel",
        "conv/depthwise_conv2d/vars/0",
        "conv.0.weight",
        "hwio_dw",
    ),
    (
        "squeeze",
        "conv[1].fc[0].kernel",
        f"{SQUEEZE_EXCITATION}/dense/vars/0",
        "conv.2.fc.0.weight",
        "T",
    ),
    (
        "excitation",
        "conv[1].fc[1].kernel",
        f"{SQUEEZE_EXCITATION}/dense_1/vars/0",
        "conv.2.fc.2.weight",
        "T",
    ),
    (
        "1×1 convolution",
        "conv[2].kernel",
        "conv/conv2d/vars/0",
        "conv.3.weight",
        "hwio",
    ),
]
BLOCK = [
    *norm("first", "norm1"),
    (
        "relative position bias",
        "attn.relative_position_bias_table",
        "attn/vars/0",
        "attn.relative_position_bias_table",
        "id",
    ),
    kernel("query, key, value (global: key, value)", "attn.qkv", "T"),
    bias("attn.qkv"),
    kernel("projection of the heads", "attn.proj", "T"),
    bias("attn.proj"),
    *norm("second", "norm2"),
    kernel("MLP: first layer", "mlp.fc1", "T"),
    bias("mlp.fc1"),
    kernel("MLP: second layer", "mlp.fc2", "T"),
    bias("mlp.fc2"),
    ("layer scale of the attention", "gamma1", "vars/0", "gamma1", "id"),
    ("layer scale of the MLP", "gamma2", "vars/1", "gamma2", "id"),
]
END = [
    (
        "norm: scale",
        "norm.gamma",
        "layers/layer_normalization/vars/0",
        "norm.weight",
        "id",
    ),
    (
        "norm: shift",
        "norm.beta",
        "layers/layer_normalization/vars/1",
        "norm.bias",
        "id",
    ),
    kernel("class scores", "head", "T"),
    bias("head"),
]

# A place: three prefixes, in the order of a tensor's names.
STEM = ("model.patch_embed.", "layers/patch_embed/", "patch_embed.")
STEM_DOWN = (
    "model.patch_embed.conv_down.",
    "layers/patch_embed/conv_down/",
    "patch_embed.conv_down.",
)
LEVEL_DOWN = (
    "model.levels[i].down.",
    "layers/level_i/down/",
    "levels.i.downsample.",
)
QUERY = (
    "model.levels[i].q_global_gen.to_q_global[k].",
    "layers/level_i/q_global_gen/to_q_global/feature_extraction_k/",
    "levels.i.q_global_gen.to_q_global.k.",
)
LEVEL_BLOCK = (
    "model.levels[i].blocks[j].",
    "layers/level_i/blocks/block_j/",
    "levels.i.blocks.j.",
)
ROOT = ("model.", "", "")

# A part: its title, the places where it occurs, its tensors.
CROSSWALK = [
    ("Stem, `PatchEmbed`", [STEM], PATCH_EMBED),
    ("Downsampler, `ReduceSize`", [STEM_DOWN, LEVEL_DOWN], REDUCE_SIZE),
    (
        "Fused MBConv, `fused_mbconv`",
        [STEM_DOWN, LEVEL_DOWN, QUERY],
        FUSED_MBCONV,
    ),
    ("Local and global self-attention, `Block`", [LEVEL_BLOCK], BLOCK),
    ("Norm and head, in `GCViT`", [ROOT], END),
]


# === Markdown ===


def table(head, rows):
    """Lay out a Markdown table.

    Args:
        head: the columns' titles.
        rows: lists of cells, each as long as `head`.

    Returns:
        The table's text.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def code(text):
    return f"`{text}`"


def plain(value):
    """Write a tuple without its parentheses, and nothing as a dash."""
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def join(prefixes, names):
    return [prefix + name for prefix, name in zip(prefixes, names)]


def shape(tensor):
    return f"({', '.join(map(str, ('B', *tensor.shape[1:])))})"


def row(step, layer, output):
    count = f"{layer.count_params():,}"
    return [step, shape(output), count, code(type(layer).__name__)]


# === The three tables ===


def level_rows(index, level, x):
    """Call the parts of a level one by one.

    Args:
        index: the level's number.
        level: a built `Level`.
        x: the map that it receives.

    Returns:
        The rows of the shape ledger, the level's own first, and its output.
    """
    height, width = level.window_size
    windows = x.shape[1] // height * (x.shape[2] // width)
    count = halvings(x.shape[1:3], level.window_size)
    query = level.q_global_gen(x)
    rows = [row(f"global query, K = {count}", level.q_global_gen, query)]
    for number, block in enumerate(level.blocks):
        x = block(x, query) if block.global_query else block(x)
        kind = "global" if block.global_query else "local"
        rows.append(row(f"block {number}, {kind}", block, x))
    if level.downsample:
        x = level.down(x)
        rows.append(row("downsampling", level.down, x))
    plural = "s" if windows > 1 else ""
    step = f"**level {index}**, {windows} window{plural} of {height}×{width}"
    return [row(step, level, x), *rows], x


def shape_ledger():
    """Lay out every step of XXTiny at 224 px, by calling its layers."""
    model = GCViT.from_variant("xxtiny")
    x = np.zeros((1, 224, 224, 3), "float32")
    model(x)  # creates the variables
    rows = [["image", shape(x), "–", "–"]]
    x = model.patch_embed(x)
    rows.append(row("**stem**", model.patch_embed, x))
    for index, level in enumerate(model.levels):
        more, x = level_rows(index, level, x)
        rows += more
    x = model.norm(x)
    rows.append(row("**norm**", model.norm, x))
    x = keras.ops.mean(x, axis=(1, 2))
    rows.append(["mean over positions", shape(x), "–", "–"])
    x = model.head(x)
    rows.append(row("**head**", model.head, x))
    rows.append(row("**whole model**", model, x))
    return table(["step", "output", "parameters", "layer"], rows)


def variants():
    """Lay out every variant: first what is known of it, then its arguments."""
    results, arguments = [], []
    for name, variant in ROWS.items():
        options = variant.arguments
        side, *_ = smallest_image_shape(options["window_size"])
        # Nobody published any of "nano".
        published = [plain(variant.top_1), plain(variant.gmacs)]
        count = f"{variant.parameters:,}"
        results.append([code(name), side, count, *published])
        values = [options.get(argument) for argument in ARGUMENTS]
        arguments.append([code(name), *map(plain, values)])
    head = ["variant", "pixels", "parameters", "top-1, %", "GFLOPs"]
    keywords = ["variant", *map(code, ARGUMENTS)]
    return f"{table(head, results)}\n{table(keywords, arguments)}"


def crosswalk():
    """Lay out every kind of tensor under its three names."""
    names = ["attribute", "Keras checkpoint", "NVIDIA's PyTorch"]
    text = []
    for title, places, tensors in CROSSWALK:
        prefixes = ("", "", "")
        text.append(f"**{title}**\n")
        if len(places) == 1:
            prefixes = places[0]
        else:
            text.append("The names begin in one of these ways:\n")
            beginnings = [[*map(code, place)] for place in places]
            text.append(table(names, beginnings))
            text.append("They go on like this:\n")
        rows = [
            [what, *map(code, join(prefixes, tensor)), AXES[axes] or "–"]
            for what, *tensor, axes in tensors
        ]
        text.append(table(["tensor", *names, "axes"], rows))
    return "\n".join(text)


TABLES = {
    "shape_ledger": shape_ledger,
    "variants": variants,
    "crosswalk": crosswalk,
}


def text_of(name):
    """Give the text of one of the files in `book/_tables`."""
    return NOTE + TABLES[name]()


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in TABLES:
        (FOLDER / f"{name}.md").write_text(text_of(name), "utf-8")


if __name__ == "__main__":
    main()
