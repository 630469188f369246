"""Export: each route is right or refused, and a refusal leaves nothing."""

import importlib.util
import json
import subprocess
import venv
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import numpy, small_model
from PIL import Image

import gcvit
from gcvit import exporting

CHAPTER = Path(__file__).parents[1] / "book" / "deploy.ipynb"
BACKEND = keras.backend.backend()
NAMES = ("ant", "bee", "cat", "dog", "eel")
# Not square, with a layer scale.
SHAPE, WINDOWS = (None, 32, 16, 3), ((4, 2), (4, 2))


def wide_model(**changes):
    options = {"window_size": WINDOWS, "layer_scale": 0.5} | changes
    return small_model(SHAPE, **options)


def is_installed(packages):
    return all(map(importlib.util.find_spec, packages))


# A format of this backend. JAX has none that is right; what does not depend on
# the format is tested there with one that is called right.
FORMAT = next(
    (name for name, backend in exporting.ROUTES if backend == BACKEND),
    "litert",
)


@pytest.fixture
def route(monkeypatch):
    needed = exporting.ROUTES.get((FORMAT, BACKEND), ("tensorflow",))
    monkeypatch.setitem(exporting.ROUTES, (FORMAT, BACKEND), needed)


@pytest.fixture
def no_work(monkeypatch, route):
    """Keras's own export, which must not be reached."""

    def export(*args, **kwargs):
        pytest.fail("worked before it refused")

    monkeypatch.setattr(keras.Model, "export", export)


# === The routes ===


def facts_of(path, format):
    if format != "onnx":
        return json.loads(path.with_name(f"{path.name}.json").read_text())
    import onnxruntime

    meta = onnxruntime.InferenceSession(path).get_modelmeta()
    texts = meta.custom_metadata_map
    return {name: json.loads(text) for name, text in texts.items()}


@pytest.mark.parametrize("format", exporting.ENDINGS)
def test_each_route_is_right_or_refused(format, tmp_path):
    model = wide_model(head_activation=None, class_names=NAMES)
    model.save(tmp_path / "mine.keras")
    model = keras.saving.load_model(tmp_path / "mine.keras")  # never called
    (tmp_path / "mine.keras").unlink()
    path = tmp_path / f"mine{exporting.ENDINGS[format]}"
    needed = exporting.ROUTES.get((format, BACKEND))
    if needed is None:
        with pytest.raises(ValueError, match="KERAS_BACKEND=") as error:
            model.export(path, format=format)
        right = str(error.value).rstrip(".").split("KERAS_BACKEND=")[1]
        assert (format, right) in exporting.ROUTES
    elif not is_installed(needed):
        with pytest.raises(ImportError, match="pip install"):
            model.export(path, format=format)
    else:
        pytest.importorskip(exporting.RUNTIMES[format])
        model.export(path, format=format, verbose=False)
        assert facts_of(path, format)["class_names"] == list(NAMES)
        run = exporting.runner(path, format)
        for batch in (1, 2, 7):
            images = np.random.default_rng(batch).normal(
                size=(batch, 32, 16, 3)
            )
            images = images.astype("float32")
            expected = numpy(model(images))
            difference = np.abs(run(images) - expected).max()
            assert difference < 5e-5 * expected.std(), batch
        return
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="LiteRT is TensorFlow's")
def test_whole_numbers_on_litert_answer_alike(tmp_path):
    """An infinity anywhere in the graph would leave its range no steps."""
    import skimage
    import tensorflow as tf

    model = gcvit.from_pretrained("nano")
    random = np.random.default_rng(0)
    photos = [skimage.data.chelsea(), skimage.data.rocket()]
    photos += [
        gcvit.drawn_flowers.draw_flower(species, random)
        for species in gcvit.drawn_flowers.SPECIES
    ]
    images = [numpy(gcvit.preprocess(photo, 64)) for photo in photos]
    expected = numpy(model(images[0]))
    path = tmp_path / "nano.tflite"
    keras.Model.export(
        model,
        path,
        format="litert",
        verbose=False,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image] for image in images),
    )
    cat = exporting.runner(path, "litert")(images[0])
    assert cat.argmax() == expected.argmax()
    assert np.abs(cat - expected).max() < 0.1


@pytest.mark.skipif(
    not is_installed([*exporting.ROUTES.get(("onnx", BACKEND), ["?"])])
    or not is_installed(["onnxruntime"]),
    reason="no ONNX here",
)
@pytest.mark.weekly  # the chapter `deploy` has such a program
def test_a_program_without_keras_answers_the_same(tmp_path):
    """The chapter's program, in an environment that has no Keras."""
    nano = gcvit.from_pretrained("nano")
    path, photo = tmp_path / "nano.onnx", tmp_path / "photo.png"
    nano.export(path, "onnx", verbose=False, include_preprocessing=True)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")
    Image.fromarray(pixels).save(photo)
    (best, *_) = gcvit.classify(nano, pixels)[0]

    cells = json.loads(CHAPTER.read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    (source,) = [x for x in sources if "consumer = '''" in x]
    consumer = source.split("'''")[1]
    assert len([line for line in consumer.splitlines() if line]) <= 12
    found = subprocess.run(
        [python_with("onnxruntime", "numpy", "PIL", folder=tmp_path / "bare")]
        + ["-c", consumer, path, photo],
        capture_output=True,
        text=True,
    )
    assert found.stdout == f"{best[0]} {best[1]:.2f}\n", found.stderr


def python_with(*packages, folder):
    """An environment that has these packages, and no other one."""
    venv.create(folder, with_pip=False, symlinks=True)
    (own,) = folder.glob("lib/python*/site-packages")
    for package in packages:
        place = Path(importlib.util.find_spec(package).origin).parent
        libraries = {"PIL": "pillow.libs"}.get(package, f"{package}.libs")
        for part in (place, place.with_name(libraries)):
            if part.exists():
                (own / part.name).symlink_to(part)
    python = folder / "bin" / "python"
    for absent in ("keras", "tensorflow", "gcvit"):
        asked = subprocess.run(
            [python, "-c", f"import {absent}"], capture_output=True, text=True
        )
        assert "ModuleNotFoundError" in asked.stderr
    return python


# === What is written ===


@pytest.mark.parametrize("head_activation", [None, "softmax"])
@pytest.mark.parametrize("value_range", [None, (0, 4095)])
def test_preprocessing_is_that_of_preprocess(head_activation, value_range):
    model = wide_model(
        head_activation=head_activation, value_range=value_range
    )
    high = 255 if value_range is None else 4095
    images = np.random.default_rng(0).integers(0, high + 1, (2, 32, 16, 3))
    given = images.astype("uint8" if value_range is None else "float32")
    expected = model(gcvit.preprocess(given, (32, 16), value_range))
    if head_activation is None:
        expected = keras.ops.softmax(expected)
    spec = exporting.input_spec(model, include_preprocessing=True)
    assert spec.dtype == given.dtype and spec.shape == SHAPE
    answer = exporting.FromBytes(model)(given)
    np.testing.assert_allclose(numpy(answer), numpy(expected), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_what_is_written_is_float32(policy):
    model = wide_model(dtype=policy)
    twin = exporting.in_float32(model)
    assert {x.compute_dtype for x in twin._flatten_layers()} == {"float32"}
    for one, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(other))


def test_layers_are_as_before_when_it_is_written():
    model = wide_model()
    images = np.random.default_rng(0).normal(size=(2, 32, 16, 3))
    before = numpy(model(images.astype("float32")))
    layers = model._flatten_layers()
    gelus = [getattr(layer, "activation", None) for layer in layers]
    with exporting.known_operators(model):
        assert keras.activations.gelu not in {
            getattr(layer, "activation", None)
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.Dense)
        }
        during = numpy(model(images.astype("float32")))
    layers = model._flatten_layers()
    assert gelus == [getattr(layer, "activation", None) for layer in layers]
    assert not [x for x in model._flatten_layers() if "call" in vars(x)]
    np.testing.assert_allclose(during, before, atol=1e-5)


# === Nothing half-written ===


@pytest.fixture
def stub(monkeypatch, route):
    """Puts a function in the place of Keras's export, with any packages."""

    def put(write, run=None):
        def export(model, filepath, **kwargs):
            write(Path(filepath))

        monkeypatch.setattr(keras.Model, "export", export)
        monkeypatch.setattr(exporting, "is_installed", lambda package: True)
        monkeypatch.setattr(exporting, "describe", lambda *args: None)
        monkeypatch.setattr(exporting, "runner", lambda *args: run)

    return put


def test_a_full_disk_leaves_what_was_there(stub, tmp_path):
    def write(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    stub(write)
    path = tmp_path / f"mine{exporting.ENDINGS[FORMAT]}"
    if FORMAT != "tf_saved_model":
        path.write_text("old")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left"):
        wide_model().export(path, format=FORMAT)
    assert sorted(tmp_path.iterdir()) == before
    assert not before or path.read_text() == "old"


@pytest.mark.parametrize("head_activation", [None, "softmax"])
@pytest.mark.parametrize("share, is_kept", [(0.5, True), (2, False)])
def test_wrong_answers_are_not_kept(
    head_activation, share, is_kept, stub, tmp_path
):
    model = wide_model(head_activation=head_activation)

    def run(images):
        answer = numpy(model(images)).astype("float64")
        bound = 1e-5 if head_activation else 5e-5 * answer.std()
        answer[-1, -1] += share * bound
        return answer

    stub(lambda path: path.write_text("new"), run)
    path = tmp_path / f"mine{exporting.ENDINGS[FORMAT]}"
    if is_kept:
        model.export(path, format=FORMAT, verbose=False)
        assert path.read_text() == "new"
        return
    with pytest.raises(RuntimeError, match="otherwise than the model"):
        model.export(path, format=FORMAT, verbose=False)
    assert not list(tmp_path.iterdir())


# === What is refused before any work ===


def not_built():
    return gcvit.GCViT(((4, 2), (4, 2)), 8, (2, 2), (1, 2))


def with_lora():
    model = wide_model()
    model.levels[0].blocks[0].mlp.fc1.enable_lora(2)
    return model


def quantised():
    model = wide_model()
    model.levels[0].blocks[0].mlp.fc1.quantize("int8")
    return model


@pytest.mark.parametrize(
    "make, message",
    [
        (not_built, "no weights yet"),
        (with_lora, "LoRA weights that are not merged"),
        (quantised, "quantised to int8"),
    ],
    ids=["not built", "LoRA", "int8"],
)
def test_models_that_are_refused(
    make, message, no_work, tmp_path, monkeypatch
):
    monkeypatch.setattr(exporting, "is_installed", lambda package: True)
    path = tmp_path / f"mine{exporting.ENDINGS[FORMAT]}"
    with pytest.raises(ValueError, match=message):
        make().export(path, format=FORMAT)
    assert not list(tmp_path.iterdir())


def test_targets_that_are_refused(no_work, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "is_installed", lambda package: True)
    model, ending = wide_model(), exporting.ENDINGS[FORMAT]
    with pytest.raises(FileNotFoundError, match="no folder"):
        model.export(tmp_path / "nowhere" / f"x{ending}", format=FORMAT)
    with pytest.raises(
        ValueError, match="format='caffe' is unknown; .*'onnx'"
    ):
        model.export(tmp_path / "x", format="caffe")
    taken = tmp_path / f"taken{ending}"
    taken.mkdir()
    (taken / "precious").touch()
    with pytest.raises(FileExistsError, match="there already"):
        model.export(taken, format=FORMAT)
    assert [x.name for x in taken.iterdir()] == ["precious"]
    with monkeypatch.context() as locked:
        locked.setattr("os.access", lambda *arguments: False)
        with pytest.raises(PermissionError, match="cannot be written to"):
            model.export(tmp_path / f"x{ending}", format=FORMAT)
    if ending:
        with pytest.raises(ValueError, match=f"must end in {ending}"):
            model.export(tmp_path / "x.bin", format=FORMAT)
    with pytest.raises(ValueError, match="include_preprocessing='yes'"):
        model.export(
            tmp_path / f"x{ending}", FORMAT, include_preprocessing="yes"
        )
    with pytest.raises(ValueError, match="answers otherwise than the model"):
        model.export(tmp_path / f"x{ending}", FORMAT, optimizations=["all"])
    with pytest.raises(ValueError, match="is not one keras.InputSpec"):
        model.export(
            tmp_path / f"x{ending}", FORMAT, input_signature=[(1, 32, 16, 3)]
        )
    grey = small_model((None, 32, 16, 1), window_size=WINDOWS)
    with pytest.raises(ValueError, match="takes 1 channels"):
        grey.export(
            tmp_path / f"x{ending}", FORMAT, include_preprocessing=True
        )


def test_a_missing_package_is_named(no_work, tmp_path, monkeypatch):
    needed = exporting.ROUTES[FORMAT, BACKEND]
    monkeypatch.setattr(exporting, "is_installed", lambda package: False)
    path = tmp_path / f"mine{exporting.ENDINGS[FORMAT]}"
    with pytest.raises(ImportError, match=f"pip install {' '.join(needed)}$"):
        wide_model().export(path, format=FORMAT)
