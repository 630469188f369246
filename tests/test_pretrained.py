"""Any file becomes the model's weights; photos in, classes out."""

import math
import warnings

import keras
import numpy as np
import pytest
from checkpoint_files import (
    NEEDS_LORA,
    NEEDS_PYTORCH,
    ONE_MODEL,
    TINY,
    assert_refused,
    float64_on_jax,
    scramble,
    tensors,
    torch,
    write,
)
from helpers import (
    SHAPE,
    SMALL,
    numpy,
    random_arrays,
    random_images,
    same_weights,
    small_model,
)
from keras import ops
from safetensors.numpy import save_file

import gcvit
from gcvit import downloads
from gcvit.pretrained import (
    KERAS_NAMES,
    NVIDIA_NAMES,
    TIMM_NAMES,
    at_image_shape,
    decode_predictions,
    from_pretrained,
    keras_axes,
    load_checkpoint,
    named_weights,
    preprocess,
    resize_bias_table,
    translate,
)
from gcvit.sizes import scale_windows, smallest_image_shape
from gcvit.variants import VARIANTS

# === Names of every variant ===


def layer(name, *shapes):
    """A kernel or scale, and perhaps a bias, as all families call them."""
    for i, (end, shape) in enumerate(zip(("weight", "bias"), shapes)):
        yield f"{name}.{end}", f"{name}.{end}", f"{name}/vars/{i}", shape


def under(nvidia, timm, path, *parts):
    """Put what encloses them before the names of parts."""
    for part in parts:
        for name, timm_name, keras_path, shape in part:
            yield nvidia + name, timm + timm_name, path + keras_path, shape


def counted(name, i):
    """Keras leaves number 0 out: level, level_1, level_2."""
    return f"{name}_{i}" if i else name


def fused_mbconv(width):
    """Four convolutions and dense layers without a bias."""
    conv, squeeze = "conv/", "conv/squeeze_and_excitation/fc/"
    return [
        ("conv.0", "conv_dw", f"{conv}depthwise_conv2d", (width, 1, 3, 3)),
        ("conv.2.fc.0", "se.fc1", f"{squeeze}dense", (width // 4, width)),
        ("conv.2.fc.2", "se.fc2", f"{squeeze}dense_1", (width, width // 4)),
        ("conv.3", "conv_pw", f"{conv}conv2d", (width, width, 1, 1)),
    ]


def convolutions(width):
    for name, timm_name, path, shape in fused_mbconv(width):
        yield f"{name}.weight", f"{timm_name}.weight", f"{path}/vars/0", shape


def reduce_size(width, new_width):
    yield from under("", "conv_block.", "", convolutions(width))
    yield from layer("norm1", (width,), (width,))
    yield from layer("reduction", (new_width, width, 3, 3))
    yield from layer("norm2", (new_width,), (new_width,))


def block(i, width, hidden, heads, window, layer_scale):
    """The i-th block of a level; the odd ones are given their query."""
    if layer_scale:
        for j in (1, 2):
            yield f"gamma{j}", f"ls{j}.gamma", f"vars/{j - 1}", (width,)
    inner = (3 - i % 2) * width
    table = "relative_position_bias_table"
    shape = ((2 * window - 1) ** 2, heads)
    yield f"attn.{table}", f"attn.rel_pos.{table}", "attn/vars/0", shape
    for layers in (
        under(
            "attn.", "attn.", "attn/", layer("qkv", (inner, width), (inner,))
        ),
        under(
            "attn.", "attn.", "attn/", layer("proj", (width, width), (width,))
        ),
        under(
            "mlp.", "mlp.", "mlp/", layer("fc1", (hidden, width), (hidden,))
        ),
        under("mlp.", "mlp.", "mlp/", layer("fc2", (width, hidden), (width,))),
        layer("norm1", (width,), (width,)),
        layer("norm2", (width,), (width,)),
    ):
        yield from layers


def level(i, config, map_size, is_last):
    """The i-th level; timm gives its downsampling to the next one."""
    width = config["embed_dim"] * 2**i
    window = config["window_size"][i]
    hidden = int(width * config["mlp_ratio"])
    options = config["num_heads"][i], window, config.get("layer_scale")
    here = f"levels.{i}.", f"stages.{i}.", f"layers/{counted('level', i)}/"
    for j in range(config["depths"][i]):
        place = (
            f"blocks.{j}.",
            f"blocks.{j}.",
            f"blocks/{counted('block', j)}/",
        )
        part = block(j, width, hidden, *options)
        yield from under(*here, under(*place, part))
    for j in range(max(1, int(math.log2(map_size / window)))):
        place = (
            f"q_global_gen.to_q_global.{j}.",
            f"global_block.blocks.conv{j + 1}.",
            f"q_global_gen/to_q_global/{counted('feature_extraction', j)}/",
        )
        yield from under(*here, under(*place, convolutions(width)))
    if not is_last:
        place = "downsample.", f"stages.{i + 1}.downsample.", "down/"
        part = under(*place, reduce_size(width, 2 * width))
        yield from under(here[0], "", here[2], part)


def official_tensors(config, image_size):
    """Each tensor's name at NVIDIA, at timm and in Keras; PyTorch's shape."""
    width, last = config["embed_dim"], len(config["depths"]) - 1
    stem = "patch_embed.", "stem.", "layers/patch_embed/"
    conv = layer("proj", (width, 3, 3, 3), (width,))
    for name, timm_name, path, shape in under(*stem, conv):
        yield name, timm_name.replace("proj", "conv1"), path, shape
    place = "conv_down.", "down.", "conv_down/"
    yield from under(*stem, under(*place, reduce_size(width, width)))
    for i in range(last + 1):
        yield from level(i, config, image_size / 4 / 2**i, i == last)
    width *= 2**last
    for name, timm_name, path, shape in layer("norm", (width,), (width,)):
        path = path.replace("norm", "layers/layer_normalization")
        yield name, f"stages.{last}.{timm_name}", path, shape
    classes = config.get("num_classes", 1000)
    for name, _, path, shape in layer("head", (classes, width), (classes,)):
        yield name, name.replace("head", "head.fc"), path, shape


def timm_shape(name, shape):
    """timm's squeeze and excitation is made of 1×1 convolutions."""
    return (*shape, 1, 1) if ".se." in name else shape


def test_the_names_are_those_of_the_files(stored):
    tensors = list(official_tensors(stored.config, 224))
    assert {name: shape for name, _, _, shape in tensors} == {
        name: array.shape for name, array in stored.nvidia.items()
    }
    assert {
        name: timm_shape(name, shape) for _, name, _, shape in tensors
    } == {name: array.shape for name, array in stored.timm.items()}
    assert {path for _, _, path, _ in tensors} == set(stored.keras)
    assert len(tensors) == len(stored.keras)


def translated(names_and_shapes, replacements):
    """Translate PyTorch's names and shapes; sorted, nothing merged."""
    found = []
    for name, shape in names_and_shapes:
        name = translate(name, replacements)
        array = np.broadcast_to(np.float32(0), shape)
        found.append((name, keras_axes(name, array).shape))
    return sorted(found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_name_of_every_variant_is_known(variant):
    config = VARIANTS[variant]
    image_size = 32 * config["window_size"][-1]
    model = gcvit.GCViT.from_variant(variant)
    with keras.StatelessScope(initialize_variables=False):
        model.build((None, image_size, image_size, 3))
        weights = named_weights(model)
    assert {id(w) for w in weights.values()} == {id(w) for w in model.weights}
    wanted = sorted((name, tuple(w.shape)) for name, w in weights.items())
    tensors = list(official_tensors(config, image_size))
    nvidia = [(name, shape) for name, _, _, shape in tensors]
    timm = [(name, timm_shape(name, shape)) for _, name, _, shape in tensors]
    paths = [translate(path, KERAS_NAMES) for _, _, path, _ in tensors]
    assert translated(nvidia, NVIDIA_NAMES) == wanted
    assert translated(timm, TIMM_NAMES) == wanted
    assert sorted(paths) == sorted(weights)


# === Files that do not fit ===


@ONE_MODEL
@pytest.mark.parametrize("form", ["keras", "nvidia-safetensors"])
def test_another_number_of_classes_leaves_the_head(form, stored, tmp_path):
    path = write(stored, form, tmp_path)
    model = gcvit.GCViT(**stored.config | {"num_classes": 3})
    model.build((None, 224, 224, 3))
    scramble(model)
    with pytest.warns(UserWarning, match="another number of classes.* 3"):
        assert load_checkpoint(model, path) == len(stored.keras) - 2
    for layer, loaded in zip(model.layers, stored.model.layers, strict=True):
        if layer is not model.head:
            assert same_weights(layer, loaded)
    for weight in model.head.get_weights():
        np.testing.assert_array_equal(weight, np.float32(0.123))


def without(*names):
    return lambda arrays: {n: arrays[n] for n in arrays if n not in names}


def reshaped(**shapes):
    """Other tensors, all ones; `__` stands for a dot."""
    new = {
        name.replace("__", "."): np.ones(shape, "float32")
        for name, shape in shapes.items()
    }
    return lambda arrays: arrays | new


# What is done to the weights, and what the error says of it.
DIFFERENCES = {
    "missing": (
        without("levels.3.blocks.0.attn.qkv.bias"),
        "in the model: levels.3.blocks.0.attn.qkv.bias (192,).",
    ),
    "missing-head-bias": (
        without("head.bias"),
        "in the model: head.bias (10,).",
    ),
    "missing-head-kernel": (without("head.weight"), "head.kernel (64, 10)"),
    "missing-head": (without("head.weight", "head.bias"), "head.bias (10,)"),
    "left-over": (
        reshaped(extra__weight=(3, 2)),
        "in the file: extra.kernel (2, 3).",
    ),
    "left-over-index": (
        reshaped(position_index=(4,)),
        "in the file: position_index (4,).",
    ),
    "another-shape": (
        reshaped(norm__weight=(32,)),
        "in the file: norm.gamma (32,). Only in the model: norm.gamma (64,).",
    ),
    "a-scalar": (reshaped(norm__bias=()), "in the file: norm.beta ()."),
    "head-of-another-width": (
        reshaped(head__weight=(10, 32)),
        "in the file: head.kernel (32, 10).",
    ),
    "head-at-odds-with-its-bias": (
        reshaped(head__weight=(20, 64)),
        "in the file: head.kernel (64, 20).",
    ),
    "bias-at-odds-with-its-head": (
        reshaped(head__bias=(20,)),
        "in the file: head.bias (20,).",
    ),
    "a-bias-that-is-a-scalar": (
        reshaped(head__bias=()),
        "in the file: head.bias ().",
    ),
}


@ONE_MODEL
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_no_other_difference_is_let_through(
    difference, stored, model, tmp_path
):
    change, text = DIFFERENCES[difference]
    path = tmp_path / "weights.safetensors"
    save_file(change(stored.nvidia), path)
    assert_refused(model, path, text, "Nothing was loaded")


@ONE_MODEL
def test_the_first_five_of_each_side_are_named(stored, model, tmp_path):
    renamed = {
        name.replace("levels.3.blocks.0.norm", "levels.3.blocks.9.norm"): value
        for name, value in stored.nvidia.items()
    }
    renamed["levels.3.blocks.9.attn"] = np.ones(2, "float32")
    renamed["levels.3.blocks.9.mlp"] = np.ones(2, "float32")
    save_file(renamed, tmp_path / "weights.safetensors")
    new, old = "levels.3.blocks.9", "levels.3.blocks.0"
    assert_refused(
        model,
        tmp_path / "weights.safetensors",
        f"Only in the file: {new}.attn (2,), {new}.mlp (2,), "
        f"{new}.norm1.beta (64,), {new}.norm1.gamma (64,), "
        f"{new}.norm2.beta (64,) and 1 more.",
        f"Only in the model: {old}.norm1.beta (64,), "
        f"{old}.norm1.gamma (64,), {old}.norm2.beta (64,), "
        f"{old}.norm2.gamma (64,).",
    )


@ONE_MODEL
@pytest.mark.parametrize("form", ["keras", "nvidia-safetensors"])
def test_other_windows_are_refused(form, stored, tmp_path):
    path = write(stored, form, tmp_path)
    model = gcvit.GCViT(**stored.config | {"window_size": (8, 8, 16, 8)})
    model.build((None, 256, 256, 3))
    table = "levels.0.blocks.0.attn.relative_position_bias_table"
    assert_refused(model, path, f"{table} (169, 1)", f"{table} (225, 1)")


def test_turned_windows_are_refused(tmp_path):
    # Tables of 2×3 and 3×2 windows have one shape; the file knows better.
    turned = small_model((None, 32, 48, 3), window_size=((2, 3), (4, 6)))
    turned.save(tmp_path / "turned.keras")
    model = small_model((None, 48, 32, 3), window_size=((3, 2), (6, 4)))
    assert_refused(model, tmp_path / "turned.keras", "windows of")


@ONE_MODEL
def test_two_tensors_for_one_weight_are_refused(stored, model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(stored.nvidia | {"norm.gamma": np.ones(64, "float32")}, path)
    assert_refused(model, path, "both norm.gamma")


class OwnStem(keras.layers.Layer):
    """A stem that has nothing of the official one but its size."""

    def __init__(self):
        super().__init__()
        self.mine = keras.layers.Conv2D(8, 4, strides=4, name="mine")

    def build(self, input_shape):
        self.mine.build(input_shape)

    def call(self, images):
        return self.mine(images)

    def compute_output_shape(self, input_shape):
        return self.mine.compute_output_shape(input_shape)


def test_another_stem_is_named(tmp_path):
    small_model().save_weights(tmp_path / "weights.weights.h5")
    model = gcvit.GCViT(**SMALL)
    model.patch_embed = OwnStem()
    model.build(SHAPE)
    assert_refused(
        model,
        tmp_path / "weights.weights.h5",
        "in the file: patch_embed.",
        "mine/kernel (4, 4, 3, 8)",
    )


def test_a_stem_of_another_shape_is_named(tmp_path):
    small_model().save_weights(tmp_path / "weights.weights.h5")
    assert_refused(
        small_model((None, 32, 32, 4)),
        tmp_path / "weights.weights.h5",
        "Only in the file: patch_embed.proj.kernel (3, 3, 3, 8). ",
        "Only in the model: patch_embed.proj.kernel (3, 3, 4, 8). ",
    )


@NEEDS_LORA
@pytest.mark.parametrize("part", ["head", "inside"])
def test_the_weights_of_lora_are_named(part, tmp_path):
    path = tmp_path / "weights.weights.h5"
    model = small_model(**TINY)
    model.save_weights(path)
    dense = model.levels[0].blocks[1].mlp.fc1
    dense = model.head if part == "head" else dense
    dense.enable_lora(2)
    added = [x.path for x in dense.weights if "lora" in x.path]
    assert len(added) == 2
    assert_refused(model, path, *added)


WINDOWS_FOR = [300, (240, 320), 298]


@pytest.mark.parametrize("size", WINDOWS_FOR, ids=str)
def test_chosen_windows_build_the_size_they_are_for(size, tmp_path):
    windows = gcvit.windows_for(size)
    config = {"embed_dim": 4, "depths": (1,) * 4, "num_heads": (1,) * 4}
    height, width = np.broadcast_to(size, 2)
    saved = small_model(
        (None, height, width, 3), window_size=windows, **config
    )
    saved.save_weights(tmp_path / "weights.weights.h5")
    model = gcvit.GCViT(windows, num_classes=5, **config)
    load_checkpoint(model, tmp_path / "weights.weights.h5")
    # The stem rounds 298 up as it does 300.
    multiples = [int(-side // 4 * -4) for side in (height, width)]
    assert model.image_shape == (*multiples, 3)
    assert same_weights(model, saved)


OFFICIAL_SIZES = {"nano": 64, "large_21k_384": 384, "large_21k_512": 512}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_built_for_its_official_size(variant):
    windows = VARIANTS[variant]["window_size"]
    size = OFFICIAL_SIZES.get(variant, 224)
    assert smallest_image_shape(windows) == (size, size, 3)


def test_your_own_file_is_a_path(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="weights_path=3 is not a path"):
        from_pretrained("nano", weights_path=3)
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        from_pretrained("nano", weights_path=tmp_path)
    monkeypatch.setitem(VARIANTS, "nano", SMALL)
    monkeypatch.setenv("HOME", str(tmp_path))
    saved = small_model()
    saved.save_weights(tmp_path / "own.weights.h5")
    model = from_pretrained("nano", weights_path="~/own.weights.h5")
    assert same_weights(model, saved)


@ONE_MODEL
@NEEDS_PYTORCH
def test_which_of_your_own_weights_were_taken_is_said(
    stored, tmp_path, monkeypatch
):
    monkeypatch.setitem(VARIANTS, "xxtiny", stored.config)
    path = tmp_path / "own.pth"
    more = {name: array + 1 for name, array in stored.nvidia.items()}
    both = {"model": tensors(stored.nvidia), "model_ema": tensors(more)}
    torch.save(both, path)
    with pytest.warns(UserWarning, match="live ones were taken.*averaged="):
        model = from_pretrained("xxtiny", num_classes=10, weights_path=path)
    assert same_weights(model, stored.model)


# === Other image sizes and classes ===


def keys(distance):
    """Keys's cubic with a = -0.5."""
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def bicubic(image, size):
    """Resize (height, width, channels) in float64; pixels are centred."""
    image = np.asarray(image, "float64")
    for axis, new in enumerate(size):
        old = image.shape[axis]
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        distances = abs(centres[:, None] - np.arange(old))
        weights = keys(distances / max(old / new, 1))
        weights /= weights.sum(axis=1, keepdims=True)
        image = np.moveaxis(np.tensordot(weights, image, (1, axis)), 0, axis)
    return image


def resized(table, old, new):
    """What `resize_bias_table` should give, windows being pairs."""
    image = np.reshape(table, (2 * old[0] - 1, 2 * old[1] - 1, -1))
    image = bicubic(image, (2 * new[0] - 1, 2 * new[1] - 1))
    return image.reshape(-1, image.shape[-1])


WINDOWS = [
    (7, 12),
    (14, 32),
    ((7, 7), (8, 10)),
    ((2, 5), (5, 3)),
    (12, 7),
    (7, 7),
    (1, 3),
]


@pytest.mark.parametrize(("old", "new"), WINDOWS)
def test_tables_are_resized_bicubically(old, new):
    h, w = np.broadcast_to(old, 2)
    table = np.random.default_rng(0).normal(
        size=((2 * h - 1) * (2 * w - 1), 3)
    )
    table = table.astype("float32")
    result = ops.convert_to_numpy(resize_bias_table(table, old, new))
    expected = resized(table, (h, w), np.broadcast_to(new, 2))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_a_resized_table_keeps_its_shape():
    constant = np.full((13 * 13, 2), 0.7, "float32")
    result = ops.convert_to_numpy(resize_bias_table(constant, 7, (8, 10)))
    assert result.shape == (15 * 19, 2)
    np.testing.assert_allclose(result, 0.7, rtol=0, atol=1e-6)
    # Linear in the vertical distance, which is 0 in the middle.
    linear = np.repeat(np.arange(-6.0, 7.0), 13)[:, None].astype("float32")
    result = ops.convert_to_numpy(resize_bias_table(linear, 7, (8, 10)))
    rows = result.reshape(15, 19)
    np.testing.assert_allclose(rows, -rows[::-1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(rows, rows[:, :1].repeat(19, 1), atol=1e-5)
    assert (np.diff(rows[:, 0]) > 0.1).all()


def test_tables_are_resized_as_images_are():
    (table,) = random_arrays((13 * 19, 2))
    image = ops.image.resize(
        table.reshape(1, 13, 19, 2),
        (17, 9),
        interpolation="bicubic",
        antialias=True,
        data_format="channels_last",
    )
    result = resize_bias_table(table, (7, 10), (9, 5))
    expected = numpy(image).reshape(-1, 2)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_another_size_keeps_the_precision(dtype):
    with float64_on_jax():
        model = small_model(**TINY, dtype=dtype)
        copy = at_image_shape(model, 16, 3)
        assert same_weights(copy, model)
        copy = at_image_shape(model, 24, 4)
        assert {str(weight.dtype) for weight in copy.weights} == {dtype}
        name = "levels.0.blocks.1.attn.relative_position_bias_table"
        table = numpy(named_weights(model)[name]).astype("float64")
        found = numpy(named_weights(copy)[name])
    expected = resized(table, (4, 4), (6, 6))
    # On TensorFlow, Keras resizes in float32.
    tolerance = 1e-5 if dtype == "float64" else 0.01
    np.testing.assert_allclose(
        found.astype("float64"), expected, rtol=0, atol=tolerance
    )


SIZES = {
    224: (7, 7, 14, 7),
    384: (12, 12, 24, 12),
    512: (16, 16, 32, 16),
    (256, 320): ((8, 10), (8, 10), (16, 20), (8, 10)),
}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_windows_grow_with_the_image(size):
    assert scale_windows((7, 7, 14, 7), 224, size) == SIZES[size]
    assert scale_windows((7, 7, 14, 7), (224, 224), size) == SIZES[size]
    assert scale_windows(SIZES[size], size, 224) == (7, 7, 14, 7)


@pytest.mark.parametrize(
    ("windows", "old", "new", "text"),
    [
        ((7, 7, 14, 7), 224, 230, "height must be a multiple of 32"),
        ((7, 7, 14, 7), 224, (224, 250), "width of 32"),
        (((2, 3), (4, 6)), (32, 48), 56, "width of 16"),
        ((7, 14), (224, 448), 112, "height must be a multiple of 32"),
        ((7, 14), (224, 448), 96, "width of 64"),
        ((7, 7, 14, 7), 224, 0, "image_size=0"),
        ((7, 7, 14, 7), 224, 224.5, "image_size=224.5"),
    ],
)
def test_a_size_that_does_not_work_is_named(windows, old, new, text):
    with pytest.raises(ValueError) as error:
        scale_windows(windows, old, new)
    assert text in str(error.value)
    assert f"image_size={new}" in str(error.value)


def assert_scaled(model, original, size):
    """All weights are the original's, but the tables, which are resized."""
    height, width = np.broadcast_to(size, 2)
    assert model.window_size == SIZES[size]
    assert model.image_shape == (height, width, 3)
    weights, originals = named_weights(model), named_weights(original)
    assert set(weights) == set(originals)
    tables = [name for name in weights if name.endswith("bias_table")]
    assert len(tables) == sum(model.depths)
    for name, weight in weights.items():
        expected = ops.convert_to_numpy(originals[name])
        if name in tables:
            i = int(name.split(".")[1])
            windows = original.window_size[i], model.window_size[i]
            pairs = [np.broadcast_to(window, 2) for window in windows]
            expected = resized(expected, *pairs)
        tolerance = 1e-5 if name in tables else 0
        np.testing.assert_allclose(
            ops.convert_to_numpy(weight),
            expected,
            rtol=0,
            atol=tolerance,
            err_msg=name,
        )


@ONE_MODEL
@pytest.mark.parametrize("size", [384, 512, (256, 320)], ids=str)
def test_a_model_at_another_size(size, stored, run, monkeypatch):
    monkeypatch.setitem(VARIANTS, "xxtiny", stored.config)
    model = from_pretrained(
        "xxtiny", image_size=size, weights_path=stored.checkpoint
    )
    assert_scaled(model, stored.model, size)
    height, width = np.broadcast_to(size, 2)
    images = np.random.default_rng(0).normal(size=(1, height, width, 3))
    answer = ops.convert_to_numpy(run(model, images.astype("float32")))
    assert answer.shape == (1, 10)
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(answer.sum(), 1, rtol=1e-5)


def test_a_size_that_the_stem_rounds_up_stays_itself():
    model = small_model((None, 30, 30, 3))
    assert same_weights(at_image_shape(model, 30, 3), model)
    with pytest.raises(ValueError, match="multiple of 15"):
        at_image_shape(model, 32, 3)


@ONE_MODEL
def test_the_same_size_changes_nothing(stored, monkeypatch):
    monkeypatch.setitem(VARIANTS, "xxtiny", stored.config)
    options = {"weights_path": stored.checkpoint}
    for size in (None, 224, (224, 224)):
        model = from_pretrained("xxtiny", image_size=size, **options)
        assert same_weights(model, stored.model)
        assert model.image_shape == (224, 224, 3)
        assert model.window_size == (7, 7, 14, 7)
    copy = at_image_shape(stored.model, 224, 3)
    assert copy is not stored.model
    assert copy.get_config() == stored.model.get_config()
    assert_scaled(copy, stored.model, 224)


def test_a_size_that_does_not_work_is_not_fetched_for(monkeypatch):
    monkeypatch.setattr(downloads, "find", None)  # a call would be an error
    with pytest.raises(ValueError, match="multiple of 32"):
        from_pretrained("xxtiny", image_size=250)


@ONE_MODEL
@pytest.mark.parametrize("size", [224, (256, 320)], ids=str)
def test_other_classes_at_another_size(size, stored, monkeypatch):
    monkeypatch.setitem(VARIANTS, "xxtiny", stored.config)
    options = {"num_classes": 3, "image_size": size}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # it was asked for
        model = from_pretrained(
            "xxtiny", weights_path=stored.checkpoint, **options
        )
    assert model.num_classes == 3
    assert model.head.kernel.shape == (64, 3)
    assert same_weights(model.patch_embed, stored.model.patch_embed)
    assert same_weights(
        model.levels[3].blocks[0].mlp, stored.model.levels[3].blocks[0].mlp
    )


# === Other channels ===


@pytest.fixture(scope="module")
def nano():
    return from_pretrained("nano")


def first_kernel(model):
    return numpy(model.patch_embed.proj.kernel)


def in_turn(kernel, channels):
    """What the kernel for more channels should be: red, green, blue, red, …"""
    turns = [kernel[:, :, i % 3] for i in range(channels)]
    return np.stack(turns, axis=2) * 3 / channels


def assert_same_but_first(model, original):
    """All weights but the first kernel are those of another model."""
    weights, originals = named_weights(model), named_weights(original)
    assert set(weights) == set(originals)
    for name in set(weights) - {"patch_embed.proj.kernel"}:
        np.testing.assert_array_equal(
            numpy(weights[name]), numpy(originals[name]), err_msg=name
        )


def test_grey_is_all_colours_at_once(nano, run):
    model = from_pretrained("nano", channels=1)
    assert model.image_shape == (64, 64, 1)
    assert_same_but_first(model, nano)
    (images,) = random_arrays((2, 64, 64, 1))
    expected = numpy(run(nano, images.repeat(3, axis=-1)))
    assert expected.std() > 0.05
    answer = numpy(run(model, images))
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


def test_a_colour_twice_is_a_colour_once(nano, run):
    model = from_pretrained("nano", channels=6)
    assert_same_but_first(model, nano)
    images = random_images(2, 64, 64)
    expected = numpy(run(nano, images))
    assert expected.std() > 0.05
    answer = numpy(run(model, np.concatenate([images, images], axis=-1)))
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, np.int64(13)])
def test_more_channels_get_the_colours_in_turn(channels, nano, run):
    model = from_pretrained("nano", channels=channels)
    assert model.image_shape == (64, 64, channels)
    assert_same_but_first(model, nano)
    expected = in_turn(first_kernel(nano), channels)
    np.testing.assert_allclose(first_kernel(model), expected, rtol=1e-6)
    (images,) = random_arrays((1, 64, 64, channels))
    answer = numpy(run(model, images))
    np.testing.assert_allclose(answer.sum(), 1, rtol=1e-5)


def test_other_channels_at_another_size(nano, run):
    options = {"image_size": (96, 128), "num_classes": 3}
    model = from_pretrained("nano", channels=13, **options)
    assert model.image_shape == (96, 128, 13)
    assert model.window_size == ((6, 8), (6, 8), (6, 8), (3, 4))
    expected = in_turn(first_kernel(nano), 13)
    np.testing.assert_allclose(first_kernel(model), expected, rtol=1e-6)
    (images,) = random_arrays((1, 96, 128, 13))
    answer = numpy(run(model, images))
    assert answer.shape == (1, 3)
    np.testing.assert_allclose(answer.sum(), 1, rtol=1e-5)


def test_three_channels_are_what_was_trained(nano):
    model = from_pretrained("nano", channels=3)
    assert model.image_shape == (64, 64, 3)
    assert same_weights(model, nano)


def test_channels_can_be_changed_back():
    grey = small_model((None, 32, 32, 1))
    kernel = first_kernel(grey)
    colours = at_image_shape(grey, 32, 3)
    np.testing.assert_allclose(
        first_kernel(colours), kernel.repeat(3, axis=2) / 3, rtol=1e-6
    )
    back = first_kernel(at_image_shape(colours, 32, 1))
    np.testing.assert_allclose(back, kernel, rtol=1e-6)


@pytest.mark.parametrize("channels", [0, -1, 2.5, "3", True, (3,)], ids=repr)
def test_channels_that_cannot_be_are_not_fetched_for(channels, monkeypatch):
    monkeypatch.setattr(downloads, "find", None)  # a call would be an error
    with pytest.raises(ValueError) as error:
        from_pretrained("xxtiny", channels=channels)
    assert f"channels={channels!r} is not an int of at least 1" in str(
        error.value
    )


# === From a photo to an answer ===

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def normalised(pixels):
    return (np.asarray(pixels, "float64") / 255 - MEAN) / STD


def prepared(*arguments):
    return ops.convert_to_numpy(preprocess(*arguments))


def assert_close(seen, expected, tolerance=1e-5):
    assert seen.dtype == "float32"
    assert seen.shape == expected.shape
    np.testing.assert_allclose(seen, expected, rtol=0, atol=tolerance)


def photo(height, width):
    """Random pixels: each step of resizing overshoots somewhere."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (height, width, 3), dtype="uint8")


def test_one_colour_stays_one_colour():
    image = np.empty((40, 60, 3), "uint8")
    image[:] = [255, 128, 0]
    expected = np.broadcast_to(normalised([255, 128, 0]), (1, 224, 224, 3))
    assert_close(prepared(image), expected)


def test_an_image_of_the_right_size_is_not_resampled():
    images = np.stack([photo(48, 64), photo(48, 64)[::-1]])
    assert_close(prepared(images, (48, 64)), normalised(images))


def middle(image, size):
    """Cut out the largest piece of a size's proportions."""
    height, width = image.shape[:2]
    h = min(height, width * size[0] // size[1])
    w = min(width, height * size[1] // size[0])
    top, left = (height - h) // 2, (width - w) // 2
    return image[top : top + h, left : left + w]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((90, 60), (32, 32)),
        ((45, 121), (60, 60)),
        ((20, 20), (32, 32)),
        ((50, 90), (32, 48)),
    ],
    ids=str,
)
def test_the_middle_of_a_photo_is_resized_bicubically(shape, size):
    image = photo(*shape)
    pixels = np.clip(bicubic(middle(image, size), size), 0, 255)
    expected = normalised(pixels)[None]
    assert_close(prepared(image, size), expected, 1e-4)
    assert_close(prepared(image.astype("float32"), size), expected, 1e-4)
    tensor = ops.convert_to_tensor(image)
    assert_close(prepared(tensor, size), expected, 1e-4)


def test_one_photo_is_a_batch_of_one():
    images = np.stack([photo(50, 70), photo(50, 70)[:, ::-1]])
    together = prepared(images, 32)
    assert together.shape == (2, 32, 32, 3)
    for i in range(2):
        # Products of matrices of another size round another way.
        assert_close(prepared(images[i], 32)[0], together[i], 1e-6)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros(8, "uint8"), "(8,)"),
        (np.zeros((8, 8, 2), "uint8"), "(8, 8, 2)"),
        (np.zeros((1, 3, 8, 8), "uint8"), "(1, 3, 8, 8)"),
        (np.zeros((1, 1, 8, 8, 3), "uint8"), "(1, 1, 8, 8, 3)"),
        (np.zeros((0, 8, 3)), "(0, 8, 3)"),
        (np.zeros((1, 8, 0, 3)), "(1, 8, 0, 3)"),
        (np.full((8, 8, 3), 0.5), "from 0 to 255"),
        (np.ones((8, 8, 3), "float32"), "from 0 to 255"),
    ],
)
def test_what_is_no_photo_is_refused(images, text):
    with pytest.raises(ValueError) as error:
        preprocess(images)
    assert text in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_photos_that_are_nan_are_refused(dtype):
    image = photo(8, 8).astype("float32")
    image[3, 4, 1] = np.nan
    with pytest.raises(ValueError, match="images .*NaN"):
        preprocess(image.astype(dtype))
    with pytest.raises(ValueError, match="images .*NaN"):
        preprocess(ops.cast(image, dtype))


def test_the_official_evaluation_cuts_off_an_eighth():
    image = photo(320, 480)
    whole = prepared(image, 256)  # of which NVIDIA's code takes the middle
    cut = ops.convert_to_numpy(preprocess(image, 224, crop=0.875))
    np.testing.assert_array_equal(cut, whole[:, 16:-16, 16:-16])
    oblong = ops.convert_to_numpy(preprocess(image, (64, 80), crop=0.8))
    larger = prepared(image, (80, 100))
    np.testing.assert_array_equal(oblong, larger[:, 8:-8, 10:-10])


@pytest.mark.parametrize("crop", [0, 1.5, -0.5, np.nan, "0.875", None, True])
def test_what_cannot_be_a_crop_is_refused(crop):
    with pytest.raises(ValueError, match="crop="):
        preprocess(photo(8, 8), 4, crop=crop)


def test_photos_can_be_prepared_in_a_graph():
    image = photo(8, 9).astype("float32")
    expected = prepared(image, 4)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        traced = tf.function(preprocess)(tf.constant(image), 4)
    elif backend == "jax":
        import jax

        traced = jax.jit(preprocess, static_argnums=1)(image, 4)
    else:
        pytest.skip("PyTorch traces nothing")
    np.testing.assert_allclose(numpy(traced), expected, rtol=0, atol=1e-5)


def test_no_photos_are_no_images():
    for empty in (np.zeros((0, 8, 9, 3)), np.zeros((0, 8, 9, 3), "uint8")):
        assert prepared(empty, (4, 5)).shape == (0, 4, 5, 3)
        tensor = ops.convert_to_tensor(empty)
        assert prepared(tensor, (4, 5)).shape == (0, 4, 5, 3)


def test_black_is_a_photo():
    expected = np.broadcast_to(normalised([0, 0, 0]), (1, 8, 8, 3))
    assert_close(prepared(np.zeros((8, 8, 3)), 8), expected)
    ones = np.ones((8, 8, 3), "uint8")
    expected = np.broadcast_to(normalised([1, 1, 1]), (1, 8, 8, 3))
    assert_close(prepared(ones, 8), expected)


# === Files, and what people have besides ===


def test_a_photo_can_be_a_file_an_image_or_several_of_them(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="it reads pictures")
    expected = prepared(photo(50, 70), 32)
    path = tmp_path / "photo.png"
    image.fromarray(photo(50, 70)).save(path)
    for given in (path, str(path), path.read_bytes(), image.open(path)):
        assert_close(prepared(given, 32), expected, 1e-6)
    given = [path, photo(20, 30), np.stack([photo(9, 9)] * 2)]
    several = prepared(given, 32)
    assert several.shape == (4, 32, 32, 3)
    assert_close(several[:1], expected, 1e-6)
    assert_close(several[1:2], prepared(photo(20, 30), 32), 1e-6)


def test_a_turned_photo_gets_the_answer_of_the_upright_one(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="it reads pictures")
    upright = image.fromarray(photo(50, 70))
    exif = image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    path = tmp_path / "turned.png"
    upright.rotate(90, expand=True).save(path, exif=exif)
    assert_close(prepared(path, 32), prepared(upright, 32), 1e-6)
    with image.open(path) as turned:
        assert_close(prepared(turned, 32), prepared(upright, 32), 1e-6)


def test_grey_and_16_bits_are_photos():
    grey = photo(20, 30)[..., 0]
    expected = prepared(np.stack([grey] * 3, axis=-1), 16)
    assert_close(prepared(grey, 16), expected)
    assert_close(prepared(grey[..., None], 16), expected)
    deep = grey.astype("uint16") * 257
    assert_close(prepared(deep, 16), expected)
    share = grey / 255
    assert_close(prepared(share, 16, (0, 1)), expected)


# === Answers by name ===


def small_classifier(**options):
    keras.utils.set_random_seed(0)
    settings = {"window_size": (4,), "embed_dim": 4, "depths": (2,)}
    settings |= {"num_heads": (1,), "num_classes": 3}
    model = gcvit.GCViT(**(settings | options))
    model.build((None, 32, 32, 3))
    return model


def test_a_saved_model_answers_by_name(tmp_path):
    model = small_classifier(class_names=("ant", "bee", "cat"))
    model.save(tmp_path / "mine.keras")
    photos = [photo(40, 50), photo(33, 32)]
    expected = ops.convert_to_numpy(model(preprocess(photos, 32)))
    for asked in (
        model,
        tmp_path / "mine.keras",
        str(tmp_path / "mine.keras"),
    ):
        answers = gcvit.classify(asked, photos, top=2)
        for (best, second), row in zip(answers, expected, strict=True):
            order = np.argsort(-row)
            names = [("ant", "bee", "cat")[i] for i in order[:2]]
            assert [best[0], second[0]] == names
            assert best[1] == pytest.approx(row.max(), abs=1e-5)


def test_logits_become_probabilities():
    model = small_classifier(class_names=tuple("abc"), head_activation=None)
    ((best, *_),) = gcvit.classify(model, photo(32, 32))
    logits = ops.convert_to_numpy(model(preprocess(photo(32, 32), 32)))
    expected = np.exp(logits.max()) / np.exp(logits).sum()
    assert best[1] == pytest.approx(expected, abs=1e-5)


def test_the_value_range_of_the_training_is_used():
    names = ("a", "b", "c")
    one = small_classifier(class_names=names, value_range=(0, 4095))
    grey = photo(32, 32)[..., 0].astype("uint16")  # dark, of 12 bits
    answers = gcvit.classify(one, grey)
    other = small_classifier(class_names=names)
    same = gcvit.classify(other, grey * (255 / 4095))  # floats
    for (name, share), (other, expected) in zip(answers[0], same[0]):
        assert name == other and share == pytest.approx(expected, abs=1e-5)


def test_a_model_without_names_says_how_to_get_them(tmp_path):
    with pytest.raises(ValueError, match="names of its classes.*load_pict"):
        gcvit.classify(small_classifier(), photo(32, 32))
    with pytest.raises(FileNotFoundError, match="mine.keras is not a file"):
        gcvit.classify(tmp_path / "mine.keras", photo(32, 32))
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="holds a Sequential; a GCViT"):
        gcvit.classify(tmp_path / "other.keras", photo(32, 32))


def test_pretrained_weights_come_with_names_or_as_logits():
    model = from_pretrained("nano")
    assert model.class_names == tuple(gcvit.class_names("nano"))
    assert from_pretrained("nano", num_classes=3).class_names is None
    logits = from_pretrained("nano", head_activation=None)
    image = preprocess(photo(64, 64), 64)
    expected = ops.convert_to_numpy(model(image))
    found = ops.convert_to_numpy(ops.softmax(logits(image)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_predictions_are_decoded_in_order():
    names = ["ant", "bee", "cat", "dog"]
    predictions = ops.convert_to_tensor(
        [[0.1, 0.2, 0.5, 0.25], [0.75, 0.0, 0.125, 0.0625]]
    )
    assert decode_predictions(predictions, names, top=2) == [
        [("cat", 0.5), ("dog", 0.25)],
        [("ant", 0.75), ("cat", 0.125)],
    ]
    everything = decode_predictions(predictions, names)
    assert [len(row) for row in everything] == [4, 4]
    assert [name for name, _ in everything[1]] == ["ant", "cat", "dog", "bee"]
    assert type(everything[0][0][1]) is float


@pytest.mark.parametrize("shape", [(2, 3), (4,), (1, 2, 4)], ids=str)
def test_each_class_needs_a_name(shape):
    with pytest.raises(ValueError, match="4 names") as error:
        decode_predictions(np.zeros(shape), ["ant", "bee", "cat", "dog"])
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_predictions_that_are_nan_are_refused(dtype):
    values = ops.cast(np.array([[0.5, np.nan]]), dtype)
    with pytest.raises(ValueError, match="predictions are NaN"):
        decode_predictions(values, ["ant", "bee"])


@pytest.mark.parametrize("top", [0, -1, 2.5, None, "5", True], ids=repr)
def test_how_many_is_a_whole_number(top):
    with pytest.raises(ValueError) as error:
        decode_predictions(np.ones((1, 2)), ["ant", "bee"], top=top)
    assert f"top={top!r}" in str(error.value)


def test_no_predictions_are_an_empty_list():
    assert decode_predictions(np.zeros((0, 2)), ["ant", "bee"]) == []


def test_more_than_all_classes_are_all():
    row = [("bee", 0.75), ("ant", 0.25)]
    values = np.array([[0.25, 0.75]])
    assert decode_predictions(values, ["ant", "bee"], top=9) == [row]
