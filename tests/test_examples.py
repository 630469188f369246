"""Examples: reading all pictures, saying what is left out, putting aside."""

import errno
from pathlib import Path

import numpy as np
import pytest
from picture_files import colour_of, file_of, plain
from PIL import Image

from gcvit import examples, pictures
from gcvit.examples import Example, read_all


def drawn(number, label=0, group=None):
    return Example(
        file_of(plain("RGB", colour_of(number)), "png"), label, group
    )


def written(path, content):
    path.write_bytes(content)
    return Example(path, 0)


# === What is left out, and why ===


def test_each_reason_is_counted_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures.pillow(), "MAX_IMAGE_PIXELS", 2_000)
    whole = file_of(Image.effect_noise((40, 40), 50), "jpeg")
    scan = file_of(plain("L", 90, (70, 70)), "png")
    found = [written(tmp_path / f"{i}.HEIC", b"ftypheic") for i in range(600)]
    found += [written(tmp_path / "half.jpg", whole[: len(whole) // 2])]
    found += [written(tmp_path / "notes.txt", b"by the river")]
    found += [written(tmp_path / "scan.png", scan), drawn(1)]
    kept, left_out = read_all(found, 32)
    assert len(kept) == 1 and len(left_out) == 603
    text = examples.report(left_out)
    assert (
        "left out 603: 600 × .heic: pip install pillow-heif (0.HEIC, …" in text
    )
    assert "1 × damaged or cut off (half.jpg)" in text
    assert "1 × .txt without a picture that Pillow knows (notes.txt)" in text
    assert "million pixels: shrink them, or raise PIL.Image.MAX" in text
    assert len(text) < 600


def test_five_names_at_most_are_shown():
    left_out = [(Path(f"{i}.txt"), "damaged or cut off") for i in range(9)]
    text = examples.report(left_out)
    assert text == (
        "left out 9: 9 × damaged or cut off "
        "(0.txt, 1.txt, 2.txt, 3.txt, 4.txt, …)."
    )


def test_a_drive_that_fails_stops_the_reading(tmp_path, monkeypatch):
    found = [written(tmp_path / "a.png", b"x")]

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pictures, "read", fail)
    with pytest.raises(OSError, match=r"nothing was loaded.*a\.png") as error:
        read_all(found, 32)
    assert error.value.errno == errno.EIO


def test_what_takes_long_shows_a_bar(capsys, monkeypatch):
    read_all([drawn(i) for i in range(4)], 32)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(examples, "PATIENCE", 0)
    read_all([drawn(i) for i in range(4)], 32)
    assert "4/4" in capsys.readouterr().out


def test_memory_stays_bounded(monkeypatch):
    size = 20 * 30 * 3
    monkeypatch.setattr(examples, "CACHE_BYTES", 2 * size)
    kept, _ = read_all([drawn(i) for i in range(5)], 32)
    assert [x.values is None for x in kept] == [False] * 2 + [True] * 3


# === One scale ===


def deep(values):
    picture = Image.fromarray(np.asarray(values, "uint16"))
    return Example(file_of(picture, "png"), 0)


def test_all_deep_pictures_of_a_data_set_have_one_scale():
    found, _ = read_all([deep([[0, 1000]]), deep([[0, 4000]]), drawn(1)], 32)
    scaled, value_range = examples.same_scale(found)
    assert value_range == (0, 4095)
    assert scaled[0].values.max() == round(1000 / 4095 * 255)
    assert scaled[1].values.max() == round(4000 / 4095 * 255)
    np.testing.assert_array_equal(scaled[2].values, found[2].values)
    assert examples.same_scale(found[2:]) == (found[2:], None)


# === What is odd ===


def read(*found):
    return read_all(found, 32)[0]


def test_nearly_black_pictures_are_a_warning():
    dark = [Example(file_of(plain("L", i), "png"), i % 2) for i in range(8)]
    with pytest.warns(UserWarning, match="8 of 8 pictures are nearly black"):
        examples.check(read(*dark), [], ["a", "b"], [])


def test_one_picture_in_two_classes_is_said():
    train = read(drawn(9), drawn(9, 1), drawn(8, 1))
    text = examples.summary(train, [], ["a", "b"], None)
    assert text.startswith("3 pictures to train: 1 a, 2 b.")
    assert text.endswith("\n2 have copies in another class.")
    text = examples.summary(train[1:], train[:0], ["a", "b"], (0, 4095))
    assert text.endswith("more than 8 bits, 0 is black and 4095 white.")


def test_a_copy_on_both_sides_is_a_warning():
    train = read(drawn(9), drawn(8, 1), drawn(7, 0, "p1"))
    validation = read(drawn(9), drawn(6, 1), drawn(5, 0, "p1"))
    with pytest.warns(UserWarning, match="2 of 3 pictures to validate"):
        examples.check(train, validation, ["a", "b"], [])


# === Putting some aside ===


def test_a_group_stays_on_one_side():
    found = read(
        *(drawn(i, i % 2, f"patient {i // 4}") for i in range(60)),
    )
    for seed in range(5):
        train, validation = examples.split_off(found, seed)
        sides = [{x.group for x in side} for side in (train, validation)]
        assert validation and not sides[0] & sides[1]
        assert len(train) + len(validation) == 60


def test_copies_link_their_groups():
    found = read(drawn(1, 0, "a"), drawn(1, 0, "b"), drawn(2, 0, "b"))
    assert len(set(examples.siblings(found))) == 1
