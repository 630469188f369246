"""The pipelines: from a folder to the batches that a model trains on."""

import shutil
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")

from picture_files import file_of, fill
from PIL import Image

import gcvit
from gcvit import examples, flower_sources, flowers, pipelines
from gcvit.pipelines import load_pictures


def colours_and_labels(batches):
    """The numbers of the pictures in a dataset, and their class numbers."""
    images, labels = (np.concatenate(part) for part in zip(*batches))
    images = (
        (images - pipelines.BLACK) / (pipelines.WHITE - pipelines.BLACK) * 255
    )
    assert np.ptp(images, axis=(1, 2)).max() < 0.01  # plain
    steps = np.rint(images[:, 0, 0] / 80).astype(int)
    return (steps @ [1, 4, 16]).tolist(), labels.argmax(axis=1).tolist()


# === A folder ===


def test_each_pass_sees_each_picture_once_and_no_pass_those_aside(tmp_path):
    fill(tmp_path, {"a": 20, "b": 30})
    train, validation, names = load_pictures(
        tmp_path, image_size=32, batch_size=16
    )
    assert names == ["a", "b"]
    aside, labels = colours_and_labels(validation)
    assert labels.count(0) == 2 and labels.count(1) == 3
    orders = []
    for _ in range(2):
        seen, labels = colours_and_labels(train)
        assert sorted(seen + aside) == list(range(50))
        assert labels == [int(number >= 20) for number in seen]
        orders.append(seen)
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])
    assert colours_and_labels(validation)[0] == aside
    assert int(train.cardinality()) == 3
    assert [len(labels) for _, labels in train] == [16, 16, 13]


def test_the_seed_decides_who_is_aside(tmp_path):
    fill(tmp_path, {"a": 40, "b": 1})
    aside = [
        colours_and_labels(load_pictures(tmp_path, 32, seed=seed)[1])[0]
        for seed in (0, 0, 1)
    ]
    assert aside[0] == aside[1] != aside[2]


def test_copies_of_a_picture_are_on_one_side(tmp_path):
    fill(tmp_path, {"a": 30, "b": 10})
    for path in list((tmp_path / "a").iterdir()):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    shutil.copytree(tmp_path / "b", tmp_path / "a" / "more")
    train, validation, _ = load_pictures(tmp_path, image_size=32)
    seen, aside = (
        colours_and_labels(train)[0],
        colours_and_labels(validation)[0],
    )
    assert len(seen) + len(aside) == 80
    assert not set(seen) & set(aside)


def test_names_can_have_spaces_and_other_scripts(tmp_path, capsys):
    fill(tmp_path, {"薔薇": 2, "bleeding heart": 2, "Löwenzahn": 2})
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "薔薇" / ".DS_Store").write_bytes(b"no picture")
    fill(tmp_path / "薔薇", {".ipynb_checkpoints": 1})
    with warnings.catch_warnings(action="error"):
        train, validation, names = load_pictures(tmp_path, 32)
    assert "system's: 3." in capsys.readouterr().out
    assert names == ["Löwenzahn", "bleeding heart", "薔薇"]
    assert len(colours_and_labels(train)[0]) == 3
    assert len(colours_and_labels(validation)[0]) == 3


def test_what_is_no_picture_is_left_out_and_named_once(tmp_path):
    fill(tmp_path, {"a": 20, "b": 20})
    whole = file_of(Image.effect_noise((60, 60), 50), "jpeg")
    (tmp_path / "a" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a" / "notes.txt").write_text("by the river")
    (tmp_path / "b" / "empty.png").touch()
    with pytest.warns(UserWarning, match="^left out 3") as caught:
        train, validation, _ = load_pictures(tmp_path, 32)
    assert len(caught) == 1
    for name in ("half.jpg", "notes.txt", "empty.png"):
        assert str(caught[0].message).count(name) == 1
    pictures = colours_and_labels(train)[0] + colours_and_labels(validation)[0]
    assert sorted(pictures) == list(range(40))


def test_a_class_without_pictures_is_an_error(tmp_path):
    fill(tmp_path, {"a": 2, "b": 1, "c": 0})
    (tmp_path / "b" / "00.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="^left out 1"):
        with pytest.raises(ValueError, match="learn from in: b, c."):
            load_pictures(tmp_path)


def test_one_class_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="one class only, cat"):
        load_pictures(fill(tmp_path, {"cat": 9}))


def test_a_class_with_one_picture_is_no_error(tmp_path):
    train, validation, _ = load_pictures(fill(tmp_path, {"a": 1, "b": 1}))
    assert [len(labels) for _, labels in train] == [2]
    assert len(list(validation)) == 0


def test_a_path_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "mine", {"a": 2, "b": 2})
    for load in (gcvit.load_pictures, gcvit.load_flowers):
        assert load("~/mine", 32)[2] == ["a", "b"]


def test_a_folder_of_flowers_is_a_folder_of_pictures(tmp_path):
    fill(tmp_path, {"a": 20, "b": 20})
    one, other = (
        load(tmp_path, 32)
        for load in (gcvit.load_pictures, gcvit.load_flowers)
    )
    assert one[0].contents == other[0].contents
    for split in (0, 1):
        for batch, same in zip(one[split], other[split], strict=True):
            for array, again in zip(batch, same, strict=True):
                np.testing.assert_array_equal(array, again)


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": "64"}, "image_size='64'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
    ],
)
def test_sizes_are_checked_before_anything_is_read(options, seen, monkeypatch):
    monkeypatch.setattr(flower_sources, "read", None)
    with pytest.raises(ValueError) as error:
        gcvit.load_flowers("drawn", **options)
    assert seen in str(error.value)
    with pytest.raises(ValueError) as error:
        gcvit.load_pictures("nowhere", **options)
    assert seen in str(error.value)


# === Batches ===


def test_the_smallest_part_of_a_kept_picture_is_not_enlarged():
    side = pipelines.decoded_side((64, 48))
    area = pipelines.SMALLEST_AREA * side**2
    assert 64 <= (area / pipelines.MOST_OBLONG) ** 0.5 < 65


def test_validation_images_are_preprocessed_as_for_any_model(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 150, 3), "uint8")
    for name, image in {
        "a": noise,
        "b": noise[::-1].transpose(1, 0, 2),
    }.items():
        (tmp_path / name).mkdir()
        for i in range(2):  # one to train on, one to validate with
            Image.fromarray(image + np.uint8(i)).save(
                tmp_path / name / f"{i}.png"
            )
    _, validation, _ = flowers.load_flowers(tmp_path, image_size=(32, 48))
    ((images, labels),) = validation
    assert images.shape == (2, 32, 48, 3) and images.dtype == tf.float32
    for image, label in zip(images, labels.numpy().argmax(axis=1)):
        files = sorted((tmp_path / "ab"[label]).iterdir())
        answers = [gcvit.preprocess(Image.open(f), (32, 48))[0] for f in files]
        differences = [
            abs(np.asarray(answer) - np.asarray(image)).max()
            for answer in map(keras.ops.convert_to_numpy, answers)
        ]
        assert min(differences) < 1e-4


def test_the_same_seed_gives_the_same_images_and_each_pass_others():
    def passes(seed, count=1):
        train, _, _ = flowers.load_flowers("drawn", 32, seed=seed)
        return [next(iter(train)) for _ in range(count)]

    (first, second), (again,) = passes(0, count=2), passes(0)
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], second[0])
    # Other drawings too; so ask the cut for another seed.
    train, _, _ = flowers.load_flowers("drawn", 32)
    train.epoch.assign(1)
    np.testing.assert_array_equal(next(iter(train))[0], second[0])


def test_without_memory_pictures_are_decoded_anew(monkeypatch):
    def batches():
        train, validation, _ = flowers.load_flowers("drawn", 32)
        return next(iter(train))[0], next(iter(validation))[0]

    kept = batches()
    monkeypatch.setattr(examples, "CACHE_BYTES", 0)
    for one, other in zip(batches(), kept):
        np.testing.assert_array_equal(one, other)


def places(height, width):
    """An image in which each pixel says where it is: red down, green across."""
    image = np.zeros((height, width, 3), "uint8")
    image[..., 0] = np.arange(height)[:, None]
    image[..., 1] = np.arange(width)
    return image


def test_parts_are_large_enough_everywhere_and_half_are_mirrored():
    image = places(90, 120)
    parts = [
        pipelines.cut_and_mirror(image, (0, seed)).numpy().astype(int)
        for seed in range(400)
    ]
    areas = np.array([part.shape[0] * part.shape[1] for part in parts])
    shares = areas / (90 * 120)
    assert 0.33 < shares.min() < 0.4 and 0.9 < shares.max() <= 1
    proportions = np.array([part.shape[1] / part.shape[0] for part in parts])
    assert 0.72 < proportions.min() < 0.8 and 1.25 < proportions.max() < 1.36
    mirrored = [part[0, 0, 1] > part[0, -1, 1] for part in parts]
    assert 150 < sum(mirrored) < 250
    assert all((np.diff(part[..., 0], axis=0) == 1).all() for part in parts)
    lowest = [(part[..., 0].min(), part[..., 1].min()) for part in parts]
    assert np.ptp(lowest, axis=0).min() > 25


# === In a map of tf.data, and beside another backend ===


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_photos_are_prepared_in_a_map_on_every_backend(known):
    photo = np.random.default_rng(0).integers(0, 256, (50, 81, 3), "uint8")
    shape = photo.shape if known else (None, None, 3)
    data = tf.data.Dataset.from_generator(
        lambda: [photo], output_signature=tf.TensorSpec(shape, "uint8")
    )
    (image,) = data.map(lambda photo: gcvit.preprocess(photo, (24, 32)))
    expected = keras.ops.convert_to_numpy(gcvit.preprocess(photo, (24, 32)))
    assert image.shape == (1, 24, 32, 3)
    np.testing.assert_allclose(image, expected, atol=1e-5)
    (batch,) = data.batch(1).map(lambda x: gcvit.preprocess(x, (24, 32)))
    np.testing.assert_allclose(batch, expected, atol=1e-5)
    (cut,) = data.map(lambda x: gcvit.preprocess(x, (24, 32), crop=0.8))
    expected = gcvit.preprocess(photo, (24, 32), crop=0.8)
    expected = keras.ops.convert_to_numpy(expected)
    np.testing.assert_allclose(cut, expected, atol=1e-5)
    with pytest.raises(ValueError, match="are not photos"):
        data.map(lambda photo: gcvit.preprocess(photo[..., :2]))


HIDDEN = """
import keras, tensorflow as tf
calls = []
tf.config.set_visible_devices = lambda *given: calls.append(given)
from gcvit import pipelines
backend = keras.backend.backend()
assert calls == ([] if backend == "tensorflow" else [([], "GPU")]), calls
"""


def test_tensorflow_leaves_the_gpu_to_another_backend():
    subprocess.run([sys.executable, "-c", HIDDEN], check=True, timeout=300)


# === A split of one's own, and groups ===


def test_a_split_of_ones_own_is_kept(tmp_path):
    fill(tmp_path / "train", {"a": 3, "b": 5})
    fill(tmp_path / "val", {"b": 2})
    with pytest.warns(UserWarning, match="2 of 2 pictures to validate"):
        train, validation, names = load_pictures(
            tmp_path / "train", 32, validation=tmp_path / "val"
        )
    assert names == ["a", "b"]
    assert sorted(colours_and_labels(train)[0]) == list(range(8))
    assert colours_and_labels(validation) == ([0, 1], [1, 1])
