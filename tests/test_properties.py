"""Whatever comes in works, or is refused in words: sizes, files, folders.

Hypothesis makes the cases: the same ones in each run, for about a minute.
GCVIT_FUZZ=long makes others each time, 150 times as many, for about an hour.
"""

import csv
import io
import os
import re
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import NEEDS_PYTORCH, TINY, save_as, torch
from helpers import same_arrays, small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_files import file_of, plain

import gcvit
from gcvit import checkpoints, folders, sizes

CALM = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile(
    "short", derandomize=True, database=None, max_examples=60, **CALM
)
settings.register_profile("long", database=None, max_examples=9000, **CALM)
settings.load_profile(os.environ.get("GCVIT_FUZZ", "short"))

# === Sizes ===

SIDES = st.integers(1, 2048) | st.integers(1, 128).map(lambda n: 4 * n)
IMAGE_SIZES = SIDES | st.tuples(SIDES, SIDES)
WINDOWS = st.integers(1, 64) | st.tuples(
    st.integers(1, 64), st.integers(1, 64)
)


@st.composite
def windows_and_images(draw):
    """Any windows and sizes, or such as nearly fit."""
    image_size = draw(IMAGE_SIZES)
    if draw(st.booleans()):
        return image_size, draw(st.lists(WINDOWS, min_size=1, max_size=5))
    other = draw(IMAGE_SIZES) if draw(st.booleans()) else image_size
    windows = list(sizes.windows_for(other, draw(st.integers(1, 5))))
    if draw(st.booleans()):
        level = draw(st.integers(0, len(windows) - 1))
        windows[level] = draw(WINDOWS)
    return image_size, windows


def check_advice(said, image_size, windows):
    """What an error names does work, and it names two if there are two."""
    named = said.partition("with these windows: ")[2].partition(". ")[0]
    found = [tuple(map(int, x)) for x in re.findall(r"(\d+)×(\d+)", named)]
    every = sizes.image_sizes_for(windows)
    assert len(found) == min(len(every), 2)
    for size in found:
        assert len(sizes.check_image_size(size, windows)) == len(windows)
    assert found or "no image fits them" in named
    other = eval(said.rpartition("window_size=")[2].rstrip("."))
    assert len(sizes.check_image_size(image_size, other)) == len(windows)


@given(windows_and_images())
@settings(max_examples=20 * settings().max_examples)
def test_each_size_works_or_others_are_named_that_do(case):
    image_size, windows = case
    try:
        counts = sizes.check_image_size(image_size, windows)
    except ValueError as error:
        check_advice(str(error), image_size, windows)
        return
    maps = sizes.level_maps(image_size, len(windows))
    for count, (height, width), window in zip(counts, maps, windows):
        h, w = sizes.size_pair(window)
        assert (h * 2**count, w * 2**count) == (height, width)


LITTLE = st.integers(1, 40)


@given(
    st.tuples(LITTLE, LITTLE),
    st.lists(st.integers(1, 5), min_size=1, max_size=2),
)
@settings(max_examples=settings().max_examples // 3)
def test_a_model_is_built_for_just_the_sizes_that_work(image_size, windows):
    if sum(image_size) % 2:  # windows that work are rare otherwise
        windows = sizes.windows_for(image_size, len(windows))
    ones = (1,) * len(windows)
    model = gcvit.GCViT(windows, 4, ones, ones, num_classes=2)
    try:
        sizes.check_image_size(image_size, windows)
    except ValueError:
        with pytest.raises(ValueError, match="does not work with window_size"):
            model.build((None, *image_size, 3))
        return
    model.build((None, *image_size, 3))
    assert model.image_shape == (*image_size, 3)


@given(st.from_type(object) | st.floats() | st.text() | st.lists(st.floats()))
def test_what_is_no_size_is_refused(value):
    is_int = isinstance(value, int) and not isinstance(value, bool)
    try:
        sizes.check_image_size(value, (7, 7, 14, 7))
    except ValueError as error:
        assert "image_size=" in str(error)
    else:
        assert is_int or np.iterable(value) or value is True


# === Checkpoints ===

SOURCE = small_model(**TINY)
TARGET = small_model(**TINY)
RIGHT = [np.array(x) for x in SOURCE.get_weights()]


def save_legacy(folder):
    path = save_as(SOURCE, ".pth", folder)
    content = torch.load(path)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def valid(form):
    """A valid file of a form, its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if form == ".pth.tar":
            return save_legacy(folder).read_bytes()
        return save_as(SOURCE, form, folder).read_bytes()


FORMS = [".keras", ".weights.h5", ".safetensors"]
FORMS += [pytest.param(x, marks=NEEDS_PYTORCH) for x in (".pth", ".pth.tar")]
VALID = {}
# Numbers that lengths, offsets and counts should not be.
ODD = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1]
ODD += [2**64 - 1, 2**40, 2**20]


@st.composite
def mutated(draw, content):
    """Bytes that differ from others in a few places."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        # As often at the start and at the end, where lists are, as elsewhere.
        size = len(content)
        start = draw(
            st.integers(0, size)
            | st.integers(0, min(size, 300))
            | st.integers(max(size - 300, 0), size)
        )
        kind = draw(st.sampled_from("flip set odd cut double end".split()))
        length = draw(st.integers(1, 16) | st.integers(1, 4096))
        if kind == "flip" and start < size:
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and start < size:
            content[start] = draw(st.integers(0, 255))
        elif kind == "odd":
            number = draw(st.sampled_from(ODD)).to_bytes(8, "little")
            width = draw(st.sampled_from([1, 2, 4, 8]))
            content[start : start + width] = number[:width]
        elif kind == "cut":
            del content[start : start + length]
        elif kind == "double":
            content[start:start] = content[start : start + length]
        elif kind == "end":
            del content[start:]
    return bytes(content)


@st.composite
def mutated_files(draw, form):
    """A file that was damaged, or with a damaged member in a whole archive.

    Returns:
        Its bytes, and whether checksums protect all weights in it.
    """
    content = VALID.setdefault(form, None) or valid(form)
    VALID[form] = content
    is_archive = content.startswith(b"PK")
    if not is_archive or draw(st.booleans()):
        return draw(mutated(content)), is_archive
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        names = old.namelist()
        chosen = draw(st.sampled_from(names))
        with zipfile.ZipFile(file, "w", draw(st.sampled_from([0, 8]))) as new:
            for name in names:
                member = old.read(name)
                if name == chosen:
                    member = draw(mutated(member))
                new.writestr(name, member)
    return file.getvalue(), False


def fill(model):
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.125, "float32"))
    return model.get_weights()


def check_loading(content, is_protected, name, load):
    """A load is whole, or an error that names the file and changes nothing."""
    before = fill(TARGET)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            load(path)
        except ValueError as error:
            assert str(path) in str(error)
            assert same_arrays(TARGET.get_weights(), before)
            return False
        assert os.listdir(folder) == [name]
    after = TARGET.get_weights()
    for old, new in zip(before, after, strict=True):
        assert not np.array_equal(old, new)  # each of them was loaded
    assert not is_protected or same_arrays(after, RIGHT)
    return True


def load_checkpoint(path):
    gcvit.load_checkpoint(TARGET, path)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_checkpoint_is_refused_or_whole(form):
    @given(mutated_files(form))
    @settings(max_examples=2 * settings().max_examples)
    def check(case):
        check_loading(*case, f"a{form}", load_checkpoint)

    check_loading(valid(form), True, "a", load_checkpoint)
    check()


@pytest.mark.parametrize(
    ("form", "member"),
    [
        (".keras", b"model.weights.h5"),
        pytest.param(".pth", b"weights/data/0", marks=NEEDS_PYTORCH),
    ],
)
def test_weights_marked_as_a_folder_are_refused(form, member):
    """PyTorch takes what the memory holds for them: an hour of cases found it."""
    content = bytearray(valid(form))
    content[content.rindex(member) - 8] |= 0x10  # in the archive's directory
    assert not check_loading(bytes(content), True, f"a{form}", load_checkpoint)


@pytest.mark.parametrize("form", [".keras", ".weights.h5"])
def test_a_damaged_file_of_keras_is_refused_or_whole(form):
    """By Keras's own loader."""

    @given(mutated_files(form))
    def check(case):
        check_loading(*case, f"a{form}", TARGET.load_weights)

    check()


@given(mutated_files(".keras"))
def test_a_damaged_model_is_refused_or_made(case):
    content, is_protected = case
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "a.keras"
        path.write_bytes(content)
        try:
            model = checkpoints.load_model(path, gcvit.GCViT)
        except ValueError as error:
            assert str(path) in str(error)
            return
    assert not is_protected or same_arrays(model.get_weights(), RIGHT)


# === Folders of pictures ===


def pictures():
    """Small pictures as people have them, and what is none."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), "uint8")
    from PIL import Image

    colour = Image.fromarray(noise)
    kinds = ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ico", "ppm", "tga"]
    whole = [file_of(colour, kind) for kind in kinds]
    deep = Image.fromarray(noise[..., 0].astype("uint16") * 16)
    whole += [file_of(deep, "png"), file_of(plain("LA", (9, 99)), "png")]
    whole += [file_of(colour, "tiff", compression="tiff_lzw")]
    return whole


WHOLE = pictures()
NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]),
    min_size=1,
    max_size=12,
) | st.binary(min_size=1, max_size=12).map(
    lambda x: os.fsdecode(x.replace(b"/", b"-").replace(b"\0", b"-"))
)
NAMES = NAMES.filter(lambda x: x not in (".", ".."))
NAMES |= st.sampled_from(
    [".DS_Store", "Thumbs.db", "a.jpg", "b\n.png", "train"]
)
FILES = st.sampled_from(WHOLE) | st.binary(max_size=40)
FILES |= st.sampled_from(WHOLE).flatmap(mutated)
FILES |= st.just(None)  # a folder, or a link to nothing
CLASSES = st.dictionaries(NAMES, FILES, max_size=5)


def lay_down(folder, classes):
    """Make folders of files; give how many files are not passed over."""
    count = 0
    for i, (name, files) in enumerate(classes.items()):
        (folder / name).mkdir()
        for name_of_file, content in files.items():
            path = folder / name / name_of_file
            if content is not None:
                path.write_bytes(content)
            elif i % 2:
                path.mkdir()
                continue
            else:
                path.symlink_to("nowhere")
            is_seen = not folders.is_passed_over(name_of_file)
            count += is_seen and not folders.is_passed_over(name)
    return count


@given(st.dictionaries(NAMES, CLASSES, max_size=4))
def test_a_folder_is_read_or_refused_in_words(classes):
    load_pictures = pytest.importorskip("gcvit.pipelines").load_pictures
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count = lay_down(Path(folder), classes)
        try:
            train, validation, names = load_pictures(folder, 8, 4)
        except ValueError as error:
            assert folder in str(error) or "no picture to learn" in str(error)
            return
        assert set(names) <= set(classes)
        seen = sum(
            len(labels) for data in (train, validation) for _, labels in data
        )
        assert seen + len(train.left_out) == count


ANSWERING = small_model(
    (None, 16, 16, 3), window_size=(4,), depths=(1,), num_heads=(1,)
)


@given(st.dictionaries(NAMES, CLASSES, min_size=1, max_size=3))
@settings(max_examples=settings().max_examples // 2)
def test_a_folder_is_answered_whatever_is_in_it(classes):
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder, answers = Path(place) / "pictures", Path(place) / "a.csv"
        folder.mkdir()
        count = lay_down(folder, classes)
        try:
            gcvit.predict_folder(ANSWERING, folder, answers, 4)
        except ValueError as error:
            assert count == 0 and "no file in it" in str(error)
            return
        with answers.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    assert len(rows) == count
    for row in rows:
        assert bool(row["error"]) != bool(row["class"])
