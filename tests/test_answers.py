"""Answers for a folder: each picture's, once, whatever ends the run."""

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="Pillow reads the pictures")

import launch
from helpers import small_model

import gcvit
from gcvit import answer_files, answers, pictures, predict_folder

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


SMALL = {"window_size": (4,), "embed_dim": 4, "depths": (1,)}
SMALL |= {"num_heads": (1,), "num_classes": 5}


@pytest.fixture(scope="module")
def model():
    """A model whose answers differ, and do not hang on the last digit."""
    keras.utils.set_random_seed(0)
    model = gcvit.GCViT(**SMALL, class_names=NAMES)
    model.build((None, 32, 32, 3))
    model.head.kernel.assign(model.head.kernel * 10)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """21 pictures in sub-folders, of all kinds, and two that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "b" / "c").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(18):
        place = folder / ("", "b", "b/c")[i % 3]
        values = generator.integers(0, 256, (4, 3 + i // 3, 3), "uint8")
        image = Image.fromarray(values).resize((20 + i, 50))
        image.save(place / f"{i}{('.jpg', '.png')[i % 2]}")
    deep = generator.integers(0, 4096, (40, 30)).astype("uint16")
    Image.fromarray(deep).save(folder / "deep.tiff")
    image.convert("L").save(folder / "grey.png")
    image.convert("RGBA").save(folder / "a\nline, and a comma", "png")
    (folder / ".hidden.jpg").write_bytes(b"not seen")
    (folder / "b" / "notes.jpg").write_text("no picture")
    whole = (folder / "0.jpg").read_bytes()
    (folder / "b" / "cut.jpg").write_bytes(whole[:400])
    return folder


def read(file):
    """The rows of a CSV file, dicts."""
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def numbers(rows):
    """What a row has in numbers, an array."""
    return np.array(
        [
            [float(x or "nan") for k, x in row.items() if k[:5] == "proba"]
            for row in rows
        ]
    )


def assert_same(rows, others):
    """Two files say the same, but for rounding."""
    for name in ("file", "class", "error"):
        assert [row[name] for row in rows] == [row[name] for row in others]
    np.testing.assert_allclose(numbers(rows), numbers(others), atol=1e-5)


@pytest.fixture(scope="module")
def whole(model, folder, tmp_path_factory):
    """The rows of a run without a cut."""
    file = tmp_path_factory.mktemp("whole") / "answers.csv"
    assert predict_folder(model, folder, file, batch_size=8) == file
    assert list(file.parent.iterdir()) == [file]
    return read(file)


# === What the file says ===


def test_answers_are_those_of_classify(model, folder, whole):
    assert len(whole) == 23
    for row in whole:
        if row["error"]:
            continue
        ((*answers,),) = gcvit.classify(model, folder / row["file"])
        assert (row["class"], float(row["probability"])) == (
            answers[0][0],
            pytest.approx(answers[0][1], abs=1e-5),
        )
        for name, probability in answers:
            own = float(row[f"probability_{name}"])
            assert own == pytest.approx(probability, abs=1e-5)
    assert len({row["class"] for row in whole}) > 1


def test_each_file_has_a_row_in_order(folder, whole):
    names = [row["file"] for row in whole]
    assert names == sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "."
    )


def test_what_cannot_be_read_is_named(whole):
    errors = {row["file"]: row["error"] for row in whole if row["error"]}
    assert errors == {
        "b/cut.jpg": "damaged or cut off",
        "b/notes.jpg": ".jpg without a picture that Pillow knows",
    }
    assert np.isnan(numbers(whole)).all(axis=1).sum() == 2


def test_parquet_says_the_same(model, folder, whole, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="Parquet is written with it")
    from pyarrow import parquet

    monkeypatch.setattr(answer_files, "ROWS", 10)
    file = predict_folder(model, folder, tmp_path / "answers.parquet")
    table = parquet.read_table(file)
    assert table.column_names == list(whole[0])
    assert {str(table.schema.field(i).type) for i in range(8)} == {
        "string",
        "float",
    }
    rows = [
        {name: "" if x is None else str(x) for name, x in row.items()}
        for row in table.to_pylist()
    ]
    assert_same(rows, whole)


AB = {"class_names": ("a", "b")}


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({}, "class probability probability_0 probability_1"),
        (
            {"class_names": ("a", "a")},
            "class probability probability_a_0 probability_a_1",
        ),
        (
            {**AB, "head_activation": None},
            "class probability probability_a probability_b",
        ),
        (
            {**AB, "head_activation": "sigmoid"},
            "probability_a probability_b",
        ),
        ({"head_activation": None}, "output_0 output_1"),
        ({"head_activation": None, "num_classes": 1}, "output_0"),
        ({"head_activation": "sigmoid", "num_classes": 1}, "probability_0"),
    ],
)
def test_columns_are_those_of_the_head(changes, columns, folder, tmp_path):
    model = small_model(**{**SMALL, "num_classes": 2, **changes})
    picture = tmp_path / "pictures" / "0.jpg"
    picture.parent.mkdir()
    shutil.copy(folder / "0.jpg", picture)
    file = predict_folder(model, picture.parent, tmp_path / "answers.csv", 2)
    (row,) = read(file)
    assert list(row) == ["file", *columns.split(), "error"]
    images = gcvit.preprocess(picture, 32)
    (outputs,) = model.predict(images, verbose=0)
    if changes.get("head_activation", "") is None and "class" in row:
        outputs = keras.ops.convert_to_numpy(keras.ops.softmax(outputs))
    own = [float(row[name]) for name in columns.split() if name[-2:-1] == "_"]
    np.testing.assert_allclose(own, outputs, rtol=1e-3, atol=1e-5)
    if "class" in row:
        assert float(row["probability"]) == max(own)


def test_of_many_classes_the_best_five_are_named(folder, tmp_path):
    names = tuple(f"name {i}" for i in range(101))
    model = small_model(**{**SMALL, "num_classes": 101, "class_names": names})
    row = read(predict_folder(model, folder, tmp_path / "answers.csv"))[0]
    ((*best,),) = gcvit.classify(model, folder / row["file"])
    places = ("", "_2", "_3", "_4", "_5")
    columns = [f"{x}{y}" for y in places for x in ("class", "probability")]
    assert list(row) == ["file", *columns, "error"]
    for (name, probability), y in zip(best, places):
        assert row[f"class{y}"] == name
        assert float(row[f"probability{y}"]) == pytest.approx(
            probability, abs=1e-4
        )


def test_an_answer_that_is_no_number_is_named(folder, tmp_path):
    model = small_model(**SMALL)
    model.head.bias.assign(np.full(5, np.nan))
    rows = read(predict_folder(model, folder, tmp_path / "answers.csv"))
    assert sum("NaN" in row["error"] for row in rows) == 21


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_that_are_not_utf_8_are_written(model, folder, tmp_path):
    (tmp_path / "pictures").mkdir()
    name = os.fsdecode("ä".encode("latin-1")) + ".jpg"
    shutil.copy(folder / "0.jpg", tmp_path / "pictures" / name)
    os.symlink("nowhere", tmp_path / "pictures" / "link.jpg")
    os.mkfifo(tmp_path / "pictures" / "pipe.jpg")
    file = predict_folder(model, tmp_path / "pictures", tmp_path / "a.csv")
    link, pipe, row = read(file)
    assert (row["file"], row["error"]) == (r"\xe4.jpg", "")
    assert "links to nothing" in link["error"] and "no file" in pipe["error"]


def test_a_picture_of_50_megapixels_is_answered(model, tmp_path):
    for name, size in (("small.png", (80, 62)), ("large.png", (8000, 6250))):
        Image.new("RGB", size, (200, 30, 90)).save(tmp_path / name)
    # The file may be among the pictures.
    large, small = read(predict_folder(model, tmp_path, tmp_path / "a.csv", 2))
    np.testing.assert_allclose(*map(numbers, ([large], [small])), atol=1e-5)
    assert (large["file"], large["error"]) == ("large.png", "")


# === Cuts ===


KILLED = """
import os, signal, sys
import gcvit
from gcvit import answer_files

model, folder, file, batches = sys.argv[1:]
left = int(batches)
write = answer_files.Part.write

def write_and_die(self, rows):
    global left
    write(self, rows)
    left -= 1
    if not left:
        self.file.write(b'["half of a')
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

answer_files.Part.write = write_and_die
gcvit.predict_folder(model, folder, file, batch_size=4)
"""


@pytest.fixture
def counted(monkeypatch):
    """The names of the pictures that are read."""
    names, decode = [], pictures.decode

    def decode_counted(picture, **options):
        names.append(picture.name)
        return decode(picture, **options)

    monkeypatch.setattr(pictures, "decode", decode_counted)
    return names


def test_a_run_that_was_killed_goes_on(
    model, folder, whole, tmp_path, counted
):
    copy = shutil.copytree(folder, tmp_path / "pictures")
    model.save(tmp_path / "model.keras")
    file = copy / "answers.csv"  # the file may be among the pictures
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "model.keras", copy]
        + [file, "3"],
        cwd=ROOT,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not file.exists()
    gone, stays = whole[0]["file"], whole[1:]
    shutil.move(copy / gone, copy / "00.jpg")  # it was answered
    rows = read(predict_folder(model, copy, file, batch_size=8))
    left = {path.name for path in copy.iterdir()} - {"00.jpg", file.name}
    assert left == {path.name for path in folder.iterdir()} - {gone}
    assert len(counted) == 23 - 3 * 4 + 1
    assert [row["file"] for row in rows[:2]] == [gone, "00.jpg"]
    (new,) = [row for row in rows if row["file"] == "00.jpg"]
    assert not new["error"]
    assert_same([row for row in rows if row is not new], [whole[0], *stays])


def test_a_drive_that_fails_stops_and_loses_nothing(
    model, folder, whole, tmp_path, monkeypatch
):
    decode, file = pictures.decode, tmp_path / "answers.csv"
    last = whole[-1]["file"]

    def fail(picture, **options):
        if picture.name == last:
            raise OSError(errno.EIO, "Input/output error")
        return decode(picture, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "decode", fail)
        with pytest.raises(OSError, match="no answer is lost") as caught:
            predict_folder(model, folder, file, batch_size=4)
        assert caught.value.filename == folder / last
    assert not file.exists()
    seen = []
    monkeypatch.setattr(
        pictures,
        "decode",
        lambda x, **options: seen.append(x.name) or decode(x, **options),
    )
    assert_same(read(predict_folder(model, folder, file)), whole)
    assert len(seen) == 23 - 20


def test_a_file_that_cannot_be_written_loses_nothing(
    model, folder, whole, tmp_path, monkeypatch, counted
):
    file = tmp_path / "answers.csv"
    with monkeypatch.context() as patch:

        def fail(columns, rows, path):
            path.write_text("half of")
            raise OSError("no space left")

        patch.setattr(answer_files, "write_csv", fail)
        with pytest.raises(OSError, match="no space left"):
            predict_folder(model, folder, file)
    assert not file.exists() and len(counted) == 23
    assert_same(read(predict_folder(model, folder, file)), whole)
    assert len(counted) == 23


def test_another_models_answers_are_not_mixed_in(model, folder, tmp_path):
    file = tmp_path / "answers.csv"
    columns = answers.answer_rows.columns_of(model)
    answers.begin(model, folder, file, columns)
    other = small_model(**SMALL)
    other_columns = answers.answer_rows.columns_of(other)
    answers.begin(other, folder, file, other_columns)  # nothing came of it
    with answer_files.Part(file, 0) as part:
        part.write([["0.jpg", *[0.0] * 5, None]])
    with pytest.raises(ValueError, match="model was .* parameters.*, now"):
        predict_folder(model, folder, file)
    with pytest.raises(ValueError, match="folder was .*, now"):
        predict_folder(other, folder / "b", file)
    assert answer_files.find_rows(answer_files.folder_of(file)) == {
        "0.jpg": (0, 0)
    }


# === Several processes ===

SHARED = KILLED.replace("sys.argv[1:]", 'os.environ["CALL"].split("\\n")')
SHARED = 'import sys\nsys.modules["tensorflow"] = None\n' + SHARED  # no need
SHARED += """
try:
    gcvit.predict_folder(model, folder, file + ".csv", batch_size=3)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("batches", [0, 2])
def test_processes_share_the_work(model, folder, whole, tmp_path, batches):
    pytest.importorskip("jax", reason="it joins the processes")
    model.save(tmp_path / "model.keras")
    file = tmp_path / "answers.csv"
    call = "\n".join(
        map(str, (tmp_path / "model.keras", folder, file, batches))
    )
    found = launch.finish(launch.start(SHARED, 2, 2, CALL=call))
    if batches:
        assert -signal.SIGKILL in [code for code, _ in found]
        parts = answer_files.parts_in(answer_files.folder_of(file))
        assert [part.name[:5] for part in parts] == ["part-"] * 2
        predict_folder(model, folder, file)
    else:
        assert [code for code, _ in found] == [0, 0], found
        assert "23/23" in found[0][1] and "23 pictures, 2" in found[0][1]
        assert "pictures" not in found[1][1]
        for _, text in found:
            assert "among the 2 devices of each process; 4 would" in text
    assert_same(read(file), whole)
    assert len(list(tmp_path.iterdir())) == 2


# === What is refused ===


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": "nowhere"}, "folder='nowhere' is not a folder"),
        ({"folder": 3}, "folder=3 is not a path"),
        ({"file": "answers.txt"}, "neither .csv nor .parquet"),
        ({"file": "nowhere/answers.csv"}, "that does not exist"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"model": keras.Sequential()}, "model is a Sequential; a GCViT"),
        ({"model": gcvit.GCViT(**SMALL)}, "no weights"),
        ({"model": small_model((None, 32, 32, 1), **SMALL)}, "1 channels"),
    ],
)
def test_what_cannot_be_is_refused(changes, message, model, folder, tmp_path):
    call = {"model": model, "folder": folder, "file": tmp_path / "a.csv"}
    with pytest.raises(ValueError, match=message):
        predict_folder(**(call | changes))
    assert not list(tmp_path.iterdir())


def test_a_folder_without_files_is_refused(model, tmp_path):
    file = tmp_path / "answers.csv"
    with pytest.raises(ValueError, match="has no file in it"):
        predict_folder(model, tmp_path, file)
    assert not list(tmp_path.iterdir())


def test_no_file_is_written_over(model, folder, tmp_path):
    file = tmp_path / "answers.csv"
    file.write_text("mine")
    with pytest.raises(ValueError, match="exists. Delete it, or name another"):
        predict_folder(model, folder, file)
    assert file.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_without_pyarrow_nothing_begins(model, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        predict_folder(model, folder, tmp_path / "answers.parquet")
    assert not list(tmp_path.iterdir())
