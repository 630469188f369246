"""What `check.layer` says to a reader: each kind of mistake, and none."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import gcvit
from gcvit import check


class Squeeze(layers.Layer):
    """A reader's squeeze and excitation: right, and not one of ours."""

    def build(self, input_shape):
        dim = input_shape[-1]
        self.fc = [
            layers.Dense(dim // 4, use_bias=False),
            layers.Dense(dim, use_bias=False),
        ]

    def weigh(self, x):
        x = ops.gelu(self.fc[0](x), approximate=False)
        return ops.sigmoid(self.fc[1](x))

    def call(self, inputs):
        mean = ops.mean(inputs, axis=(1, 2), keepdims=True)
        return inputs * self.weigh(mean)


@pytest.fixture
def said(capsys):
    """Runs the check, and gives what it printed, without its line breaks."""

    def run(yours, component="squeeze_excitation"):
        assert check.layer(yours, component) is None
        printed = capsys.readouterr().out
        assert printed.endswith("\n")
        return " ".join(printed.split())

    return run


@pytest.fixture
def equal(said):
    """Runs the check on a layer that is right."""

    def run(yours, component="squeeze_excitation"):
        report = said(yours, component)
        start = f"Equal to the official {component}: max |Δ| / std = "
        assert report.startswith(start) and report.endswith(".")
        assert float(report[len(start) : -1]) < check.TOLERANCE

    return run


# === Nothing is wrong ===


def test_every_component_has_its_layer():
    assert set(check.LAYERS) == set(check.COMPONENTS)


@pytest.mark.parametrize("component", check.LAYERS)
def test_the_chapters_layers_pass(component, equal):
    equal(check.LAYERS[component](), component)


def test_a_readers_layer_passes_built_or_not(equal):
    yours = Squeeze()
    equal(yours)
    equal(yours)


def test_its_weights_are_the_official_ones_afterwards(said):
    yours, chapters = Squeeze(), gcvit.SqueezeAndExcitation()
    said(yours)
    check.parity(chapters, "squeeze_excitation")
    for one, other in zip(yours.get_weights(), chapters.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_an_unknown_component_is_an_error():
    with pytest.raises(ValueError, match="squeeze.*not stored.*model"):
        check.layer(Squeeze(), "squeeze")


# === Does it run? ===


def test_a_class_is_no_layer(said):
    assert "is not a layer" in said(Squeeze)
    assert "such as MyLayer()" in said(Squeeze)


def test_a_crash_is_told_with_the_inputs_and_the_line(said):
    class Crash(Squeeze):
        def call(self, inputs):
            raise RuntimeError("out of cheese")

    report = said(Crash())
    assert "does not run on inputs of (2, 56, 56, 8):" in report
    assert "RuntimeError: out of cheese" in report
    assert 'the line: raise RuntimeError("out of cheese")' in report
    assert "built before" not in report
    assert "one image" not in report
    assert keras.config.is_traceback_filtering_enabled()


def test_both_inputs_are_told(said):
    report = said(
        gcvit.WindowAttention(7, 2, False), "window_attention_global"
    )
    assert "inputs of (4, 49, 16) and (2, 7, 7, 16)" in report
    assert "takes no q_global" in report


def test_a_layer_built_for_another_shape(said):
    yours = Squeeze()
    yours(np.ones((1, 4, 4, 12), "float32"))
    report = said(yours)
    assert "does not run on inputs of (2, 56, 56, 8)" in report
    assert "It was built before" in report


# === What does it return? ===


def test_another_shape_is_told(said):
    class Flat(Squeeze):
        def call(self, inputs):
            return ops.mean(super().call(inputs), axis=(1, 2))

    report = said(Flat())
    assert "shape (2, 8), the official one (2, 56, 56, 8)" in report
    assert "weights" not in report


def test_a_pair_is_told(said):
    class Pair(Squeeze):
        def call(self, inputs):
            return inputs, super().call(inputs)

    assert "returns a tuple" in said(Pair())


# === Are its weights the checkpoint's? ===


def test_other_names_are_told(said):
    class Named(Squeeze):
        def build(self, input_shape):
            super().build(input_shape)
            self.squeeze, self.excite = self.fc
            self.fc = None

        def call(self, inputs):
            return inputs * self.excite(self.squeeze(inputs))

    report = said(Named())
    assert "Weights: 2 in your layer, 2 official ones." in report
    assert "missing: fc/dense/vars/0 (8, 2)" in report
    assert "missing: fc/dense_1/vars/0 (2, 8)" in report
    assert "too many: squeeze/vars/0 (8, 2)" in report
    assert "too many: excite/vars/0 (2, 8)" in report
    assert "wrong shape" not in report
    assert check.NAMES in report
    assert "numbers" not in report


def test_a_missing_weight_is_told(said):
    class One(Squeeze):
        def build(self, input_shape):
            self.fc = [layers.Dense(8, use_bias=False)]

        def call(self, inputs):
            return inputs * self.fc[0](inputs)

    report = said(One())
    assert "Weights: 1 in your layer, 2 official ones." in report
    assert "missing: fc/dense_1/vars/0 (2, 8)" in report
    assert "wrong shape: fc/dense/vars/0 (8, 8), not (8, 2)" in report
    assert "too many" not in report


def test_a_bias_too_many_is_told(said):
    class Biased(Squeeze):
        def build(self, input_shape):
            self.fc = [layers.Dense(2), layers.Dense(8, use_bias=False)]

    report = said(Biased())
    assert "too many: fc/dense/vars/1 (2,)" in report
    assert "missing" not in report
    assert "vars/1 the second, often the bias" in report


def test_another_shape_of_a_weight_is_told(said):
    report = said(gcvit.SqueezeAndExcitation(0.5))
    assert "wrong shape: fc/dense/vars/0 (8, 4), not (8, 2)" in report
    assert "wrong shape: fc/dense_1/vars/0 (4, 8), not (2, 8)" in report
    assert "missing" not in report and "too many" not in report
    assert check.NAMES not in report


def test_a_long_list_is_cut(said):
    report = said(gcvit.Level(1, 2, 7, mlp_ratio=3.0), "level")
    assert report.count("missing: ") == 6
    assert "missing: 8 more" in report


def test_seeds_of_dropout_are_no_weights(equal):
    block = gcvit.Block(7, 2, False, mlp_ratio=3.0, path_drop=0.2)
    equal(block, "block_local")


# === Are its numbers right? ===


def test_wrong_numbers_are_told(said):
    class Maximum(Squeeze):
        def call(self, inputs):
            top = ops.max(inputs, axis=(1, 2), keepdims=True)
            return inputs * self.weigh(top)

    report = said(Maximum())
    assert "Shapes and names are right, the numbers are not" in report
    difference = check.parity(Maximum(), "squeeze_excitation")
    assert f"std = {difference:.2g}, the bound is 5e-06." in report
    assert "So much comes from a step" in report


def test_a_small_difference_is_a_detail(said):
    class Near(Squeeze):
        def call(self, inputs):
            return super().call(inputs) * 1.0001

    assert "So little comes from a detail" in said(Near())


def test_numbers_that_are_none(said):
    class Nan(Squeeze):
        def call(self, inputs):
            return super().call(inputs) * np.nan

    assert "std = nan" in said(Nan())
    assert "NaN" in said(Nan())


def test_randomness_is_told(said):
    class Random(Squeeze):
        def call(self, inputs):
            return super().call(inputs) + keras.random.normal(inputs.shape)

    assert "Two calls differ" in said(Random())


def test_half_precision_is_told(said):
    yours = gcvit.SqueezeAndExcitation(dtype="mixed_bfloat16")
    assert "computes in bfloat16" in said(yours)


class Mixing(Squeeze):
    def call(self, inputs):
        mean = ops.mean(inputs, axis=(0, 1, 2), keepdims=True)
        return inputs * self.weigh(mean)


class FirstOnly(Squeeze):
    """The first image's answer does not change, the second's is wrong."""

    def call(self, inputs):
        mean = ops.mean(inputs, axis=(1, 2), keepdims=True)
        return inputs * self.weigh(mean[:1])


@pytest.mark.parametrize("cls", [Mixing, FirstOnly])
def test_right_for_one_image_and_wrong_for_two(cls, said):
    report = said(cls())
    assert "One image alone is right, two in a batch are not" in report
    assert "a step that mixes images" in report


class Single(Squeeze):
    def call(self, inputs):
        return ops.reshape(super().call(inputs), (1, 56, 56, 8))


class Pairs(Squeeze):
    def call(self, inputs):
        x = ops.reshape(super().call(inputs), (2, 56, 56, 8))
        return ops.flip(x, axis=0)


class Doubled(Squeeze):
    def call(self, inputs):
        x = super().call(inputs)
        return ops.concatenate([ops.flip(x, axis=0), x])[:2]


def test_a_layer_for_one_image_only(said):
    report = said(Single())
    assert "does not run on inputs of (2, 56, 56, 8)" in report
    assert "(1, 56, 56, 8)" in report
    assert "It runs on one image. Is a batch of 1 written down?" in report


@pytest.mark.parametrize("cls", [Pairs, Doubled])
def test_a_layer_that_is_not_for_one_image(cls, said):
    """It is wrong for two, and with one it fails, or gives two."""
    assert "So much comes from a step" in said(cls())


# === Known mistakes, made by other means than the check's own ===


class KerasEpsilon(gcvit.Block):
    def build(self, inputs_shape, q_global_shape=None):
        super().build(inputs_shape, q_global_shape)
        self.norm1 = layers.LayerNormalization()
        self.norm2 = layers.LayerNormalization()
        self.norm1.build(inputs_shape)
        self.norm2.build(inputs_shape)


class SmallEpsilon(gcvit.ReduceSize):
    def build(self, input_shape):
        super().build(input_shape)
        self.norm1.epsilon = self.norm2.epsilon = 1e-6


class LastEpsilon(gcvit.GCViT):
    """Only the outermost layer is wrong."""

    def build(self, input_shape):
        super().build(input_shape)
        self.norm.epsilon = 1e-3


class TanhGelu(Squeeze):
    def weigh(self, x):
        return ops.sigmoid(self.fc[1](ops.gelu(self.fc[0](x))))


class Relu(Squeeze):
    """As in the paper on squeeze and excitation."""

    def weigh(self, x):
        return ops.sigmoid(self.fc[1](ops.relu(self.fc[0](x))))


class SameConvolution(gcvit.PatchEmbed):
    """Only the outermost layer is wrong."""

    def build(self, input_shape):
        super().build(input_shape)
        self.proj.padding = "same"

    def call(self, inputs):
        return self.conv_down(self.proj(inputs))


class SameReduction(gcvit.ReduceSize):
    def build(self, input_shape):
        super().build(input_shape)
        self.reduction.padding = "same"

    def call(self, inputs):
        x = branch = self.norm1(inputs)
        for child in self.conv:
            branch = child(branch)
        return self.norm2(self.reduction(x + branch))


class Pooled(gcvit.FeatureExtraction):
    def call(self, inputs):
        branch = inputs
        for child in self.conv:
            branch = child(branch)
        return self.pool(inputs + branch)


class ZeroPooling(Pooled):
    def pool(self, x):
        x = layers.ZeroPadding2D(data_format="channels_last")(x)
        return ops.max_pool(x, 3, 2, data_format="channels_last")


class SamePooling(Pooled):
    def pool(self, x):
        return layers.MaxPooling2D(
            3, 2, padding="same", data_format="channels_last"
        )(x)


class Unscaled(gcvit.WindowAttention):
    def __init__(self, *arguments):
        super().__init__(*arguments, qk_scale=1.0)


class Transposed(gcvit.WindowAttention):
    def relative_position_bias(self):
        return ops.swapaxes(super().relative_position_bias(), 1, 2)


class FlatTable(gcvit.WindowAttention):
    def relative_position_bias(self):
        flat = ops.reshape(self.relative_position_bias_table, (-1,))
        return ops.take(flat, self.index, axis=0)


class Unbiased(gcvit.WindowAttention):
    def relative_position_bias(self):
        return 0 * super().relative_position_bias()


class Tiled(gcvit.WindowAttention):
    def call(self, inputs, q_global):
        images = q_global.shape[0]
        order = np.arange(inputs.shape[0]).reshape(images, -1)
        order = order.T.ravel()  # the windows that tile would pair
        answer = super().call(ops.take(inputs, order, axis=0), q_global)
        return ops.take(answer, np.argsort(order), axis=0)


class Strips(gcvit.Block):
    def call(self, inputs, q_global=None, training=None):
        x = ops.reshape(self.norm1(inputs), (-1, 49, inputs.shape[-1]))
        attended = self.attn(x, q_global)
        x = inputs + ops.reshape(attended, (-1, *inputs.shape[1:]))
        return x + self.mlp(self.norm2(x))


LOCAL, GLOBAL = (7, 2, False), (7, 2, True)
KNOWN = {
    "keras_epsilon": (KerasEpsilon(*LOCAL, mlp_ratio=3.0), "block_local"),
    "small_epsilon": (SmallEpsilon(), "reduce_size"),
    "tanh_gelu": (TanhGelu(), "squeeze_excitation"),
    "relu": (Relu(), "squeeze_excitation"),
    "same_convolution": (SameReduction(), "reduce_size"),
    "zero_pooling": (ZeroPooling(), "feature_extraction"),
    "same_pooling": (SamePooling(), "feature_extraction"),
    "unscaled": (Unscaled(*LOCAL), "window_attention_local"),
    "transposed_index": (Transposed(*LOCAL), "window_attention_local"),
    "flat_table": (FlatTable(*GLOBAL), "window_attention_global"),
    "no_bias": (Unbiased(*LOCAL), "window_attention_local"),
    "tile": (Tiled(*GLOBAL), "window_attention_global"),
    "strips": (Strips(*GLOBAL, mlp_ratio=3.0), "block_global"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_mistake_is_named(name, said):
    report = said(*KNOWN[name])
    assert "The official layer gives your numbers if" in report
    assert check.MISTAKES[name] in report


def test_every_known_mistake_is_made_here():
    listed = set()
    for component in set(check.LAYERS) - {"model"}:
        layer = check.LAYERS[component]()
        check.parity(layer, component)
        listed |= check.changes_of(layer._flatten_layers()).keys()
    assert listed == KNOWN.keys() == check.MISTAKES.keys()


# Levels and models are made of these.
@pytest.mark.parametrize("component", list(check.LAYERS)[:-2])
def test_parity_finds_every_known_mistake(component):
    layer = check.LAYERS[component]()
    assert check.parity(layer, component) < check.TOLERANCE
    changes = check.changes_of(layer._flatten_layers())
    far = {}
    for name in changes:
        with check.mistaken(layer, name):
            far[name] = check.parity(layer, component)
    assert min(far.values()) > check.TOLERANCE, far
    assert check.parity(layer, component) < check.TOLERANCE


def test_a_mistake_in_the_outermost_layer_alone(said):
    report = said(SameConvolution(8), "patch_embed")
    assert check.MISTAKES["same_convolution"] in report
    settings = check.LAYERS["model"]().get_config()
    report = said(LastEpsilon.from_config(settings), "model")
    assert check.MISTAKES["keras_epsilon"] in report


def test_two_mistakes_at_once_are_not_called_one(said):
    class Both(TanhGelu):
        def call(self, inputs):
            top = ops.max(inputs, axis=(1, 2), keepdims=True)
            return inputs * self.weigh(top)

    report = said(Both())
    assert "The official layer gives" not in report
    assert "So much comes from" in report


# === Mistakes in a whole model ===


@pytest.fixture(scope="module")
def model():
    """The small official model."""
    model = check.LAYERS["model"]()
    (images,), _ = check.official("model")
    model.build(images.shape)
    check.load_official_weights(model, "model")
    return model


def test_a_mistake_is_made_in_the_whole_model_and_undone(model, run):
    (images,), expected = check.official("model")
    attributes = [vars(part).copy() for part in model._flatten_layers()]
    with check.mistaken(model, "tile"):
        assert check.difference(run(model, images), expected) > 0.01
        # Alone, an image meets no other one.
        alone = ops.convert_to_numpy(run(model, images[:1]))
        np.testing.assert_allclose(alone, expected[:1], rtol=1e-4)
    assert check.difference(run(model, images), expected) < check.TOLERANCE
    after = [vars(part) for part in model._flatten_layers()]
    assert [x.keys() for x in after] == [x.keys() for x in attributes]


def test_predict_makes_the_mistake_too():
    """It compiles once, and would keep what it compiled before."""
    (x, *_), expected = check.official("feature_extraction")
    layer = check.LAYERS["feature_extraction"]()
    check.parity(layer, "feature_extraction")
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    far = [check.difference(model.predict(x, verbose=0), expected)]
    with check.mistaken(model, "zero_pooling"):
        far += [check.difference(model.predict(x, verbose=0), expected)]
    far += [check.difference(model.predict(x, verbose=0), expected)]
    assert far[0] == far[2] < check.TOLERANCE
    assert far[1] > 0.01


def test_a_mistake_is_undone_after_an_error(model, run):
    (images,), expected = check.official("model")
    with pytest.raises(RuntimeError), check.mistaken(model, "relu"):
        raise RuntimeError
    assert check.difference(run(model, images), expected) < check.TOLERANCE


def test_a_mistake_that_is_not_known(model):
    with (
        pytest.raises(ValueError, match="'tiles' is not a .*: keras"),
        check.mistaken(model, "tiles"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="is not built"),
        check.mistaken(check.LAYERS["model"](), "tile"),
    ):
        pass
