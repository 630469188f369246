"""Make the arrays that the tests and `gcvit.check` compare with.

    git clone https://github.com/NVlabs/GCVit CLONE
    make .venv-torch/ready
    KERAS_BACKEND=torch .venv-torch/bin/python tools/official_arrays.py CLONE

Two small models' weights go into NVIDIA's official code, which runs in float64
on the two stored images. What it answers, and what each of its components
receives and returns, goes into the files of `gcvit/data` and `tests/data`
whose READMEs say what they hold. A file that agrees already stays as it is.
With `--check`, nothing is written: the tool says how far each file is off, and
fails if one is too far.

The official code is under NVIDIA's own licence, which is non-commercial, so
none of it is here. It runs on PyTorch. What it takes from timm starts, trains
or registers models, so stand-ins do, and timm need not be installed.

A new component, to be stored with its proof, takes five steps:

1.  `gcvit.check.COMPONENTS`: the names of its arrays, and its checkpoint path.
2.  `gcvit.check.LAYERS`: how this book's layer is made.
3.  `MODULES` below: where it is in the official model.
4.  Run this tool: both files of components get its arrays.
5.  `test_parity_with_layer_scale` in `tests/test_layers.py`: a step for it.

What is there is not made again: the images are the start of everything, and
with other weights all stored figures would be others. A checkpoint that is
missing is made, with random weights, and saved by this package's own model.

How exact it is:

-   Weights and names are equal, or the check fails. Arrays differ by what a
    machine rounds, see `tolerance`.
-   The same numbers make the same bytes in `.json` and `.safetensors`. In
    `.npz` and `.h5` bytes depend on who compresses, and `.h5` keeps its date.
-   The official code keeps one number in float32 when it runs in float64: the
    factor that scales the queries. It is 8 to the power of -0.5 in all heads of
    these models, where rounding it moves the logits by 1e-8 of their deviation.
    It is part of what is stored.
"""

import argparse
import copy
import importlib.util
import json
import sys
import types
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
from tables import AXES

from gcvit.check import COMPONENTS
from gcvit.checkpoints import read_keras
from gcvit.model import GCViT
from gcvit.pretrained import (
    KERAS_NAMES,
    NVIDIA_NAMES,
    TIMM_NAMES,
    keras_axes,
    named_weights,
    translate,
)

ROOT = Path(__file__).resolve().parents[1]
IMAGES = "tests/data/ref_small.npz"

# Component: its module in the official model, "" for the model itself. Both
# files of components hold what these modules receive and return, under the
# names that `gcvit.check.COMPONENTS` gives the arrays.
MODULES = {
    "patch_embed": "patch_embed",
    "squeeze_excitation": "levels.0.downsample.conv.2",
    "reduce_size": "levels.0.downsample",
    "feature_extraction": "levels.1.q_global_gen.to_q_global.0",
    "global_query": "levels.1.q_global_gen",
    "window_attention_local": "levels.1.blocks.0.attn",
    "block_local": "levels.1.blocks.0",
    "window_attention_global": "levels.1.blocks.1.attn",
    "block_global": "levels.1.blocks.1",
    "level": "levels.1",
    "model": "",
}

# The models, with the official code's arguments.
MODELS = {
    "small": {
        "checkpoint": "gcvit/data/official_small.keras",
        "components": "gcvit/data/official_small.h5",
        "config": {
            "dim": 8,
            "depths": [1, 2, 2, 2],
            "num_heads": [1, 2, 4, 8],
            "window_size": [7, 7, 14, 7],
            "mlp_ratio": 3,
            "num_classes": 10,
            "drop_path_rate": 0.2,
            "layer_scale": None,
        },
    },
    "small_ls": {
        "checkpoint": "tests/data/ref_small_ls.keras",
        "components": "tests/data/layers_small_ls.npz",
        "config": {
            "dim": 8,
            "depths": [2, 2, 2, 2],
            "num_heads": [1, 2, 4, 8],
            "window_size": [7, 7, 14, 7],
            "mlp_ratio": 2,
            "num_classes": 10,
            "drop_path_rate": 0.2,
            "layer_scale": 1e-5,
        },
    },
}

# === Weights ===


def random_values(name, shape, random):
    """Draw a weight's values, such that each of them counts.

    Args:
        name: the weight's name, as in `named_weights`.
        shape: its shape.
        random: a NumPy generator.

    Returns:
        A float32 array, exact in bfloat16.
    """
    mean, deviation = 0.0, 0.1  # of biases and shifts
    if name.endswith("relative_position_bias_table"):
        deviation = 0.5  # as large as in trained models
    elif name.endswith(("gamma1", "gamma2")):
        mean, deviation = 0.5, 0.2
    elif name.endswith("gamma"):
        mean = 1.0
    elif name.endswith("conv.0.kernel"):  # depthwise
        deviation = 0.5
    elif name.endswith("kernel"):
        deviation = np.prod(shape[:-1]) ** -0.5
    return as_bfloat16(random.normal(mean, deviation, shape))


def as_bfloat16(array):
    """Round to bfloat16, kept in float32: its upper 16 bits, to even."""
    bits = np.asarray(array, "float32").view("uint32")
    bits = bits + 0x7FFF + (bits >> 16 & 1)
    return (bits & 0xFFFF0000).astype("uint32").view("float32")


def make_checkpoint(name):
    """Save a model with random weights.

    Args:
        name: a key of `MODELS`.
    """
    config = MODELS[name]["config"]
    model = GCViT(
        window_size=config["window_size"],
        embed_dim=config["dim"],
        depths=config["depths"],
        num_heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
        num_classes=config["num_classes"],
        path_drop=config["drop_path_rate"],
        layer_scale=config["layer_scale"],
    )
    model.build((None, 224, 224, 3))
    random = np.random.default_rng(list(MODELS).index(name))
    for weight_name, weight in named_weights(model).items():
        shape = tuple(weight.shape)
        weight.assign(random_values(weight_name, shape, random))
    model.save(ROOT / MODELS[name]["checkpoint"])


def read_checkpoint(name):
    """Read a model's weights: a dict from paths in its file to arrays."""
    path = ROOT / MODELS[name]["checkpoint"]
    return read_keras(path)


def map_names(official_names, arrays):
    """Say where each official weight is in a Keras checkpoint.

    Args:
        official_names: the names of an official model's weights.
        arrays: a dict from the paths in a checkpoint to arrays.

    Returns:
        A dict: official name to a list of the path and a key of `AXES`, which
        is how the official array becomes the Keras one.

    Raises:
        ValueError: unless each weight on one side has one on the other.
    """
    paths = {translate(path, KERAS_NAMES): path for path in arrays}
    ours = {name: translate(name, NVIDIA_NAMES) for name in official_names}
    if sorted(ours.values()) != sorted(paths):
        found = set(ours.values())
        extra = [path for name, path in paths.items() if name not in found]
        missing = [x for x, name in ours.items() if name not in paths]
        raise ValueError(
            "the checkpoint and the official model have other weights. Only "
            f"in the checkpoint: {', '.join(extra) or 'none'}. Only in the "
            f"model: {', '.join(missing) or 'none'}. Is it the right "
            "checkpoint? If so, look at NVIDIA_NAMES of gcvit.pretrained."
        )
    names = {}
    for official, name in ours.items():
        path = paths[name]
        names[official] = [path, axes_key(name, arrays[path].ndim)]
    return names


def axes_key(name, dimensions):
    """Find the key of `AXES` for what `keras_axes` does to a weight.

    Args:
        name: the weight's name, as in `named_weights`.
        dimensions: how many axes it has.

    Returns:
        A key of `AXES`.
    """
    lengths = range(2, 2 + dimensions)  # each axis is known by its length
    moved = keras_axes(name, np.empty(lengths)).shape
    axes = tuple(length - 2 for length in moved)
    keys = {value: key for key, value in AXES.items()}
    return keys[None if axes == tuple(range(dimensions)) else axes]


def official_weights(names, arrays):
    """Give a checkpoint's arrays their official names and axes.

    Args:
        names: what `map_names` gives.
        arrays: a dict from the paths in a checkpoint to arrays.

    Returns:
        A dict from official names to arrays.
    """
    weights = {}
    for official, (path, key) in names.items():
        back = np.argsort(AXES[key] or range(arrays[path].ndim))
        weights[official] = np.ascontiguousarray(arrays[path].transpose(back))
    return weights


# === timm's names ===


def one_more(before, after=""):
    """Make a replacement that also adds one to a number.

    Args:
        before: what stands before the number.
        after: what stands after it.

    Returns:
        A function for `re.sub`; the pattern's group 1 is the number.
    """
    return lambda match: f"{before}{int(match[1]) + 1}{after}"


# From the official names. What comes out is read back with TIMM_NAMES.
TO_TIMM = [
    (r"^patch_embed\.proj\b", "stem.conv1"),
    (r"^patch_embed\.conv_down\b", "stem.down"),
    (r"^norm\b", "stages.3.norm"),
    (r"^head\b", "head.fc"),
    (r"^levels\.(\d+)\.downsample\b", one_more("stages.", ".downsample")),
    (r"^levels\b", "stages"),
    (
        r"\bq_global_gen\.to_q_global\.(\d+)\.conv\b",
        one_more("global_block.blocks.conv"),
    ),
    (r"\b(down|downsample)\.conv\b", r"\1.conv_block"),
    (r"\b(conv_block|conv\d)\.0\b", r"\1.conv_dw"),
    (r"\b(conv_block|conv\d)\.2\.fc\.0\b", r"\1.se.fc1"),
    (r"\b(conv_block|conv\d)\.2\.fc\.2\b", r"\1.se.fc2"),
    (r"\b(conv_block|conv\d)\.3\b", r"\1.conv_pw"),
    (r"\battn\.(relative_position_bias_table)$", r"attn.rel_pos.\1"),
    (r"\bgamma(\d)$", r"ls\1.gamma"),
]


def timm_weights(weights):
    """Give official weights timm's names and shapes.

    Args:
        weights: a dict from official names to arrays.

    Returns:
        A dict from timm's names to arrays.

    Raises:
        ValueError: for a name that `gcvit.pretrained` reads as another weight.
    """
    renamed = {}
    for official, array in weights.items():
        name = translate(official, TO_TIMM)
        read_as = translate(name, TIMM_NAMES)
        if read_as != translate(official, NVIDIA_NAMES):
            raise ValueError(
                f"TO_TIMM makes {name} of {official}; TIMM_NAMES of "
                f"gcvit.pretrained makes {read_as} of that."
            )
        if ".se." in name:  # 1×1 convolutions
            array = array[:, :, np.newaxis, np.newaxis]
        renamed[name] = array
    return renamed


# === The official model ===


def import_official(clone):
    """Import the official code.

    Args:
        clone: the folder of a clone of NVlabs/GCVit.

    Returns:
        The module of its models.
    """
    path = Path(clone) / "models" / "gc_vit.py"
    if not path.exists():
        sys.exit(
            f"{path} is not there. Name the folder of a clone: "
            "git clone https://github.com/NVlabs/GCVit"
        )
    try:
        import torch
    except ImportError:
        sys.exit(
            "The official code takes PyTorch. Make an environment that has "
            "it, make .venv-torch/ready, and use its Python."
        )
    # In inference, with weights that are loaded, none of these counts.
    stand_ins = {
        "timm.models.layers": {
            "trunc_normal_": torch.nn.init.trunc_normal_,
            "DropPath": torch.nn.Identity,
            "to_2tuple": None,
        },
        "timm.models._registry": {"register_model": lambda make: make},
        "timm.models._builder": {"build_model_with_cfg": None},
    }
    modules = {}
    for name, attributes in stand_ins.items():
        modules[name] = types.ModuleType(name)
        vars(modules[name]).update(attributes)
    spec = importlib.util.spec_from_file_location("official_gc_vit", path)
    official = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, modules):
        spec.loader.exec_module(official)
    return official


def weight_names(model):
    """List an official model's weights; the position index is none."""
    names = model.state_dict()
    return [x for x in names if not x.endswith("relative_position_index")]


def load(model, weights):
    """Fill an official model, and make it compute in float64.

    Args:
        model: an official model.
        weights: a dict from official names to arrays.
    """
    import torch

    tensors = {name: torch.tensor(weights[name]) for name in weights}
    model.load_state_dict(model.state_dict() | tensors)
    model.double().eval()


def observe(model, images, modules):
    """Run an official model, and keep what some of its modules see.

    Args:
        model: an official model.
        images: an array (B, H, W, 3).
        modules: the modules' names, a list; "" is the model.

    Returns:
        A dict from each name to what the module received, a list of arrays,
        and what it returned, an array; channels where the official code has
        them.

    Raises:
        ValueError: for a module that is not there, or not called.
    """
    import torch

    seen = {}

    def keep_under(name):
        def keep(_, inputs, output):
            seen[name] = ([x.numpy() for x in inputs], output.numpy())

        return keep

    known = dict(model.named_modules())
    missing = [name for name in modules if name not in known]
    if missing:
        raise ValueError(f"the official model has no {', '.join(missing)}.")
    hooks = [
        known[name].register_forward_hook(keep_under(name)) for name in modules
    ]
    numbers = next(model.parameters()).dtype
    with torch.no_grad():
        model(torch.tensor(images).to(numbers).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    uncalled = [name for name in modules if name not in seen]
    if uncalled:
        raise ValueError(
            f"the official model never calls {', '.join(uncalled)}; name a "
            "module around it or inside it."
        )
    return seen


# === Known mistakes ===
# Each changes an official model.


def flatten_tables(model):
    """Read the bias tables as if they were flat: one bias for all heads."""
    import torch

    for module in model.modules():
        table = getattr(module, "relative_position_bias_table", None)
        if table is not None:
            entries = table.detach().flatten()[: len(table)]
            same = entries[:, None].repeat(1, table.shape[1])
            module.relative_position_bias_table = torch.nn.Parameter(same)


def replace_pools(model, border, value):
    """Pad the max-pooling otherwise than by one pixel of minus infinity.

    Args:
        model: an official model.
        border: how many pixels left, right, above and below.
        value: what they are filled with.
    """
    import torch

    for module in model.modules():
        if isinstance(getattr(module, "pool", None), torch.nn.MaxPool2d):
            module.pool = torch.nn.Sequential(
                torch.nn.ConstantPad2d(border, value),
                torch.nn.MaxPool2d(kernel_size=3, stride=2),
            )


def pad_pools_with_zeros(model):
    """Pad the max-pooling with zeros."""
    replace_pools(model, (1, 1, 1, 1), 0.0)


def shift_pools(model):
    """Pad the max-pooling as "same" does: right and below only."""
    replace_pools(model, (0, 1, 0, 1), -np.inf)


def tile_queries(model):
    """Hand windows the queries of the images in turn, not of their own."""

    def tile(_, inputs):
        windows, query = inputs
        times = len(windows) // len(query)
        return windows, query.repeat(times, 1, 1, 1, 1)

    for module in model.modules():
        if type(module).__name__ == "WindowAttentionGlobal":
            module.register_forward_pre_hook(tile)


MISTAKES = {
    "a_flat_table": [flatten_tables],
    "b_zero_pad_pool": [pad_pools_with_zeros],
    "c_tiled_query": [tile_queries],
    "d_same_pool": [shift_pools],
    "ab_seed": [flatten_tables, pad_pools_with_zeros],
}

# === What the files hold ===


def answers(model, images, config):
    """Collect what an official model answers.

    Args:
        model: an official model, in float64.
        images: an array (B, H, W, 3).
        config: the model's arguments.

    Returns:
        A dict from names, as in `tests/data/README.md`, to arrays.
    """

    def logits(model):
        return observe(model, images, [""])[""][1]

    levels = [f"levels.{i}" for i in range(len(config["depths"]))]
    stages = ["patch_embed", *levels]
    seen = observe(model, images, [*stages, "head", ""])
    arrays = {
        "logits_f64": seen[""][1],
        "logits_f32": logits(copy.deepcopy(model).float()),
        "pooled_f64": seen["head"][0][0],
        "final_map_f64": seen[levels[-1]][1],
    }
    for stage in stages:
        values = seen[stage][1]
        # With n - 1 under the root, as PyTorch does it.
        spread = values.std(ddof=1)
        figures = [values.mean(), spread, np.abs(values).max()]
        name = "stat_" + stage.replace("levels.", "level")
        arrays[name] = np.array(figures)
    for mistake, changes in MISTAKES.items():
        mistaken = copy.deepcopy(model)
        for change in changes:
            change(mistaken)
        arrays[f"logits_bug_{mistake}"] = logits(mistaken)
    return arrays | {"config": np.array(json.dumps(config))}


def channels_last(array):
    """Put the channels last, wherever the official code has them.

    Args:
        array: a map (B, C, H, W) or (B, H, W, C), a global query (B, 1, heads,
            tokens, channels a head), or something without a map.

    Returns:
        A map (B, H, W, C); what has none, as it is.
    """
    if array.ndim == 5:
        batch, _, heads, tokens, channels = array.shape
        side = round(tokens**0.5)
        array = array[:, 0].transpose(0, 2, 1, 3)
        return array.reshape(batch, side, side, heads * channels)
    # Maps are square here, and never as wide as they have channels: widths
    # are multiples of 7, channels are 3 or powers of 2.
    if array.ndim == 4 and array.shape[1] != array.shape[2]:
        return array.transpose(0, 2, 3, 1)
    return array


def component_arrays(seen):
    """Name what the components receive and return.

    Args:
        seen: what `observe` gives for the modules of `MODULES`.

    Returns:
        A dict from the names in `gcvit.check.COMPONENTS` to arrays, channels
        last.

    Raises:
        ValueError: if a component receives fewer arrays than it has names
            for, or if one name would stand for two arrays.
    """
    arrays = {}
    for component, module in MODULES.items():
        inputs, output, _ = COMPONENTS[component]
        received, returned = seen[module]
        # The official local blocks receive the query too, and leave it.
        if len(received) < len(inputs):
            raise ValueError(
                f"{component} has names for {len(inputs)} inputs; the "
                f"official {module} receives {len(received)}."
            )
        values = [*received[: len(inputs)], returned]
        for name, value in zip([*inputs, output], values):
            value = channels_last(value)
            if not np.array_equal(arrays.setdefault(name, value), value):
                raise ValueError(
                    f"{component}: {name} stands for another array already. "
                    "Give this one a name of its own, or look at MODULES."
                )
    return arrays


def stored_components(name, seen, images):
    """Choose what a file of components holds, and in which type.

    Args:
        name: a key of `MODELS`.
        seen: what `observe` gives for the stored images.
        images: the stored images, integers.

    Returns:
        A dict from names to arrays.
    """
    exact = component_arrays(seen)
    arrays = {key: exact[key].astype("float32") for key in exact}
    for key, array in arrays.items():
        if array.ndim == 3:
            arrays[key] = first_windows(array, len(images))
    if name == "small":
        return arrays | {"image": images, "logits": exact["logits"]}
    # The image and the logits are elsewhere. The tests of this file call the
    # level's input by a name of its own.
    del arrays["image"], arrays["logits"]
    return arrays | {"level_1_in": arrays["reduce_size_out"]}


def first_windows(windows, images):
    """Keep the first two windows of each image, which are enough.

    Args:
        windows: an array (windows, tokens, channels), image after image.
        images: how many images these are.

    Returns:
        An array (2 * images, tokens, channels), image after image.
    """
    each = windows.reshape(images, -1, *windows.shape[1:])
    return each[:, :2].reshape(-1, *windows.shape[1:])


def make_files(name, official, stored_images):
    """Compute everything that is stored of a model.

    Args:
        name: a key of `MODELS`.
        official: the module of the official models.
        stored_images: the images, integers.

    Returns:
        A dict from the files' paths to what they hold: a dict from names to
        arrays; for `.json`, what JSON takes.
    """
    config = MODELS[name]["config"]
    model = official.GCViT(**config)
    arrays = read_checkpoint(name)
    names = map_names(weight_names(model), arrays)
    weights = official_weights(names, arrays)
    load(model, weights)
    images = (stored_images.astype("float64") - 128) / 64
    results = answers(model, images, config)
    if name == "small":  # both models see the same images
        results = {"x_u8": stored_images} | results
    seen = observe(model, images, [*MODULES.values()])
    return {
        MODELS[name]["components"]: stored_components(
            name, seen, stored_images
        ),
        f"tests/data/ref_{name}.npz": results,
        f"tests/data/{name}_names.json": names,
        f"tests/data/{name}_timm_bf16.safetensors": timm_weights(weights),
    }


# === Files ===


def read(path):
    """Read one of the files, by its ending.

    Args:
        path: a path below `ROOT`.

    Returns:
        What it holds, as in `make_files`; `None` if there is no such file.
    """
    path = ROOT / path
    if not path.exists():
        return None
    if path.suffix == ".json":
        return json.loads(path.read_text("utf-8"))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: file[name][()] for name in file}
    return read_bfloat16(path)


def read_bfloat16(path):
    """Read a safetensors file in bfloat16: a dict to float32 arrays."""
    from safetensors import deserialize

    arrays = {}
    for name, tensor in deserialize(path.read_bytes()):
        if tensor["dtype"] != "BF16":
            raise ValueError(f"{path}: {name} is in {tensor['dtype']}.")
        upper = np.frombuffer(tensor["data"], "uint16").astype("uint32")
        arrays[name] = (upper << 16).view("float32").reshape(tensor["shape"])
    return arrays


def write(path, content):
    """Write one of the files, by its ending.

    Args:
        path: a path below `ROOT`.
        content: what it holds, as in `make_files`.
    """
    path = ROOT / path
    if path.suffix == ".json":
        path.write_text(json.dumps(content, indent=0), "utf-8")
    elif path.suffix == ".npz":
        np.savez_compressed(path, **content)
    elif path.suffix == ".h5":
        # A format of a fixed version, which is also smaller than the default.
        with h5py.File(path, "w", libver="v110") as file:
            for name, array in content.items():
                file.create_dataset(
                    name,
                    data=array,
                    chunks=array.shape,
                    compression="gzip",
                    compression_opts=9,
                    shuffle=True,
                )
    else:
        write_bfloat16(path, content)


def write_bfloat16(path, arrays):
    """Write a safetensors file in bfloat16.

    Args:
        path: the file.
        arrays: a dict from names to float32 arrays.

    Raises:
        ValueError: for an array that bfloat16 would round.
    """
    import torch
    from safetensors.torch import save_file

    for name, array in arrays.items():
        if not np.array_equal(as_bfloat16(array), array):
            raise ValueError(
                f"{name} is not exact in bfloat16; round the checkpoint's "
                "weights."
            )
    tensors = {name: torch.tensor(arrays[name]) for name in arrays}
    tensors = {name: tensors[name].bfloat16() for name in tensors}
    save_file(tensors, path)


# === Comparing ===


def tolerance(path, name, array):
    """Say how far an array may be off, as max |Δ| over its deviation.

    Args:
        path: the file's path.
        name: the array's name.
        array: the array.

    Returns:
        A float.
    """
    if path.endswith(".safetensors") or array.dtype.kind != "f":
        return 0.0
    if name == "logits_f32":
        return 5e-6  # a sum in another order; 5e-7 between two machines
    # Float64 rounds to 1e-15; a float32 near the middle between two rounds to
    # either, 1e-7 of itself away.
    return {"float32": 1e-6, "float64": 1e-12}[str(array.dtype)]


def deviation(stored, computed):
    """Tell how far a stored array is off.

    Args:
        stored: the stored array.
        computed: the array that it should be.

    Returns:
        max |Δ| over the standard deviation, a float: 0 if the arrays are
        equal, infinite if they cannot be compared.
    """
    if (stored.shape, stored.dtype) != (computed.shape, computed.dtype):
        return np.inf
    if np.array_equal(stored, computed):
        return 0.0
    if computed.dtype.kind != "f":
        return np.inf
    return float(np.abs(stored - computed).max() / computed.std())


def compare(path, stored, computed):
    """Compare a file with what it should hold.

    Args:
        path: the file's path.
        stored: what it holds; `None` if there is no such file.
        computed: what it should hold.

    Returns:
        Whether it agrees, a bool, and a report, a text.
    """
    if stored is None:
        return False, "missing"
    if path.endswith(".json"):
        # The order counts too: it is the official one.
        same = list(stored.items()) == list(computed.items())
        return same, "equal" if same else "other names"
    far = {
        name: deviation(stored[name], array)
        for name, array in computed.items()
        if name in stored
    }
    too_far = [
        f"{name} ({far[name]:.1e})"
        for name in far
        if not far[name] <= tolerance(path, name, computed[name])
    ]
    problems = {
        "not stored": [name for name in computed if name not in stored],
        "nobody's": [name for name in stored if name not in computed],
        "too far": too_far,
    }
    farthest = max(far, key=far.get, default=None)
    report = "equal"
    if any(far.values()):
        report = f"max |Δ| / std = {far[farthest]:.1e} in {farthest}"
    for problem, names in problems.items():
        if names:
            report += f"; {problem}: {', '.join(names)}"
    return not any(problems.values()), report


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clone", help="a clone of NVlabs/GCVit, a folder")
    parser.add_argument(
        "--check", action="store_true", help="compare, and write nothing"
    )
    arguments = parser.parse_args()
    if MODULES.keys() != COMPONENTS.keys():
        only = sorted(MODULES.keys() ^ COMPONENTS.keys())
        sys.exit(
            f"{', '.join(only)}: in one of MODULES and gcvit.check.COMPONENTS "
            "only; a component is in both."
        )
    stored = read(IMAGES)
    if stored is None:
        sys.exit(f"{IMAGES} holds the images: get it back from Git.")
    official = import_official(arguments.clone)
    all_agree = True
    for name, model in MODELS.items():
        if not (ROOT / model["checkpoint"]).exists():
            if arguments.check:
                sys.exit(f"{model['checkpoint']} is not there.")
            make_checkpoint(name)
            print(f"{model['checkpoint']}: made")
        files = make_files(name, official, stored["x_u8"])
        for path, content in files.items():
            agrees, report = compare(path, read(path), content)
            all_agree = all_agree and agrees
            if not agrees and not arguments.check:
                write(path, content)
                report += "; written"
            print(f"{path}: {report}")
    if arguments.check and not all_agree:
        sys.exit("Not all files hold what the official code computes.")


if __name__ == "__main__":
    main()
