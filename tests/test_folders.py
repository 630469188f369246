"""Folders: the layouts that people have, links, and what belongs together."""

import os
import shutil

import pytest
from picture_files import fill

from gcvit import folders
from gcvit.folders import read_folder


def names_of(examples):
    return sorted(example.picture.name for example in examples)


# === Layouts ===


def test_a_picture_belongs_to_the_class_of_its_folder(tmp_path):
    examples, names, *_ = read_folder(fill(tmp_path, {"cat": 2, "dog": 1}))
    assert names == ["cat", "dog"]
    seen = [(x.label, x.picture.parent.name) for x in examples]
    assert seen == [(0, "cat"), (0, "cat"), (1, "dog")]


def test_folders_only_are_no_class_and_the_call_that_works_is_named(tmp_path):
    fill(tmp_path / "train", {"cat": 1, "dog": 1})
    fill(tmp_path / "val", {"cat": 1, "dog": 1})
    with pytest.raises(ValueError) as error:
        read_folder(tmp_path)
    text = str(error.value)
    train, validation = str(tmp_path / "train"), str(tmp_path / "val")
    call = f"load_pictures({train!r}, validation={validation!r})"
    assert "folders: cat, dog" in text and call in text
    assert "group_by='folder'" in text


def test_notes_beside_folders_do_not_make_a_class(tmp_path):
    for split in ("train", "val"):
        fill(tmp_path / split, {"cat": 1, "dog": 1})
        (tmp_path / split / "labels.csv").write_text("0,cat")
    with pytest.raises(ValueError, match="validation='.*val'"):
        read_folder(tmp_path)


def test_empty_folders_in_a_folder_are_no_class(tmp_path):
    (tmp_path / "one" / "two").mkdir(parents=True)
    with pytest.raises(ValueError, match="one, which would be a class"):
        read_folder(tmp_path)


def test_one_level_too_high_names_the_level_below(tmp_path):
    pets = tmp_path / "data" / "pets"
    fill(pets, {"cat": 1, "dog": 1})
    with pytest.raises(ValueError) as error:
        read_folder(tmp_path)
    assert f"load_pictures({str(pets)!r})" in str(error.value)


def test_no_folder_and_no_class_are_errors(tmp_path):
    with pytest.raises(ValueError, match="validation='.*nowhere' is not a fold"):
        read_folder(tmp_path / "nowhere", name="validation")
    (tmp_path / "red.png").touch()
    with pytest.raises(ValueError, match="no sub-folder"):
        read_folder(tmp_path)


def test_what_lies_beside_the_classes_is_listed(tmp_path):
    fill(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / "loose.png").touch()
    _, _, [(file, reason)], _ = read_folder(tmp_path)
    assert file.name == "loose.png" and "beside" in reason


def test_a_split_of_ones_own_is_numbered_alike(tmp_path):
    train = fill(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    own, own_names, *_ = read_folder(fill(tmp_path / "val", {"b": 1, "c": 2}))
    names = ["a", "b", "c"]
    numbered = folders.with_classes_of(own, own_names, names, train, "val")
    assert [example.label for example in numbered] == [1, 2, 2]
    with pytest.raises(ValueError, match=r"not in .*: c\. Known are: a, b"):
        folders.with_classes_of(own, own_names, ["a", "b"], train, "val")


# === What is passed over, and links ===


def test_hidden_and_system_folders_are_passed_over_and_listed(tmp_path):
    fill(tmp_path, {"cat": 1, "dog": 1, "__MACOSX": 3, ".cache": 2})
    fill(tmp_path / "cat", {"@eaDir": 2})
    (tmp_path / "dog" / "Thumbs.db").touch()
    examples, names, left_out, passed_over = read_folder(tmp_path)
    assert names == ["cat", "dog"] and len(examples) == 2 and not left_out
    seen = sorted(path.name for path in passed_over)
    assert seen == [".cache", "@eaDir", "Thumbs.db", "__MACOSX"]


def test_links_are_followed_once_and_dead_ones_listed(tmp_path):
    fill(tmp_path / "elsewhere", {"forty": 40})
    mine = fill(tmp_path / "mine", {"cat": 1, "dog": 1})
    pool = tmp_path / "elsewhere" / "forty"
    (mine / "cat" / "pool").symlink_to(pool)
    (mine / "cat" / "again").symlink_to(pool)
    (mine / "cat" / "circle").symlink_to(mine / "cat")
    (mine / "dog" / "dead.png").symlink_to("nowhere")
    (mine / "dog" / "own.png").symlink_to("own.png")
    examples, _, left_out, _ = read_folder(mine)
    assert len(examples) == 42
    assert {reason for _, reason in left_out} == {"links to nothing"}
    assert sorted(path.name for path, _ in left_out) == ["dead.png", "own.png"]


def test_a_class_can_be_a_linked_folder(tmp_path):
    fill(tmp_path / "elsewhere", {"cats": 3})
    mine = fill(tmp_path / "mine", {"dog": 1})
    (mine / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    examples, names, *_ = read_folder(mine)
    assert names == ["cat", "dog"] and len(examples) == 4


def test_a_folder_that_cannot_be_listed_stops_the_reading(
    tmp_path, monkeypatch
):
    fill(tmp_path, {"cat": 1, "dog": 1})
    scandir = os.scandir

    def fail(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(PermissionError, match="dog"):
        read_folder(tmp_path)


# === Groups ===


def test_a_sub_folder_is_a_group(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / name, {"patient 1": 1, "patient 2": 2})
    shutil.copy(
        tmp_path / "cat/patient 1/00.png", tmp_path / "cat" / "loose.png"
    )
    with pytest.raises(ValueError, match="dog, which would be a class"):
        read_folder(tmp_path)
    examples, names, *_ = read_folder(tmp_path, "folder")
    assert names == ["cat", "dog"]
    groups = [(x.label, x.group) for x in examples]
    one, two = "patient 1", "patient 2"
    assert groups == [(0, None), (0, one), (0, two), (0, two)] + [
        (1, one),
        (1, two),
        (1, two),
    ]


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [("^p[0-9]+", ["p1", "p1", "p22"]), ("p([0-9]+)", ["1", "1", "22"])],
)
def test_a_part_of_the_name_is_a_group(tmp_path, group_by, expected):
    fill(tmp_path, {"a": 0, "b": 0})
    for name in ("p1-left.png", "p1-right.png"):
        (tmp_path / "a" / name).touch()
    (tmp_path / "b" / "p22-left.png").touch()
    examples, *_ = read_folder(tmp_path, group_by)
    assert [example.group for example in examples] == expected
    for wrong in ("[", 3):
        with pytest.raises(ValueError, match="is not a regular expression"):
            read_folder(tmp_path, wrong)
    (tmp_path / "b" / "left.png").touch()
    with pytest.raises(ValueError, match=r"group_by=.* name of .*left\.png"):
        read_folder(tmp_path, group_by)
