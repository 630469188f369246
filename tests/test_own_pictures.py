"""Ten folders, each another mess, through the recipe of the README.

Five train, and their models answer rightly in another process. Five are refused
in one sentence, which names the call that works where there is one.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the pipelines are tf.data's")

from PIL import Image
from training import SMALL

import gcvit

COLOURS = {"night": 60, "day": 200}


# === The folders ===


def photograph(name, number, mode="RGB", size=(40, 34)):
    """A grey picture, dark or bright, with noise that no other has."""
    random = np.random.default_rng(number)
    noise = random.normal(COLOURS[name], 12, (size[1], size[0]))
    grey = np.clip(noise, 0, 255).astype("uint8")
    return Image.fromarray(grey).convert(mode)


def write(folder, names=tuple(COLOURS), count=12, first=0, **options):
    """A folder for each class, of JPEG files."""
    for offset, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(first, first + count):
            picture = photograph(name, 100 * offset + number, **options)
            picture.save(folder / name / f"{number:02}.jpg", quality=95)
    return folder


def a_phone(folder):
    """Pictures that the camera turned, some HEIC, and what a Mac leaves."""
    write(folder, size=(60, 34))
    for path in sorted(folder.rglob("*.jpg"))[::2]:
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = 6
            image.save(path, exif=exif, quality=95)
    for number in range(7):
        (folder / "day" / f"IMG_{number}.HEIC").write_bytes(b"ftypheic")
    shutil.copytree(folder / "day", folder / "__MACOSX" / "day")
    (folder / "night" / ".DS_Store").touch()
    return {}


def a_scanner(folder):
    """12 bits, stored in 16."""
    write(folder)
    for path in folder.rglob("*.jpg"):
        grey = np.asarray(Image.open(path).convert("L"), "uint16") * 16
        grey[0, 0] = 4095
        Image.fromarray(grey).save(path.with_suffix(".tiff"))
        path.unlink()
    return {}


def a_hospital(folder):
    """Several pictures of each patient, in a folder for each of them."""
    write(folder, count=16)
    for path in sorted(folder.rglob("*.jpg")):
        patient = path.parent / f"patient {int(path.stem) // 4}"
        patient.mkdir(exist_ok=True)
        path.rename(patient / path.name)
    return {"group_by": "folder"}


def a_drive(folder):
    """Links: one class elsewhere, one in a circle, one to nothing."""
    write(folder.parent / "pool", ["day"])
    write(folder, ["night"])
    (folder / "day").symlink_to(folder.parent / "pool" / "day")
    (folder / "night" / "again").symlink_to(folder / "night")
    (folder / "night" / "lost.jpg").symlink_to("nowhere.jpg")
    return {}


def a_data_set(folder):
    """A split of its own, with notes and half a file in it."""
    write(folder / "train")
    write(folder / "val", count=3, first=50)
    whole = (folder / "train" / "day" / "00.jpg").read_bytes()
    (folder / "train" / "day" / "half.jpg").write_bytes(whole[:400])
    (folder / "train" / "day" / "labels.csv").write_text("0,day")
    return {"folder": folder / "train", "validation": folder / "val"}


TRAINED = [a_phone, a_scanner, a_hospital, a_drive, a_data_set]


def a_split_unseen(folder):
    write(folder / "train")
    write(folder / "val")
    (folder / "train" / "labels.csv").write_text("0,day")
    return r"load_pictures\('.*/train', validation='.*/val'\)"


def one_level_too_high(folder):
    write(folder / "times")
    return r"load_pictures\('.*/times'\)"


def one_class(folder):
    write(folder, ["day"])
    return "one class only, day"


def nothing_but_heic(folder):
    write(folder)
    for path in (folder / "day").iterdir():
        path.write_bytes(b"ftypheic")
        path.rename(path.with_suffix(".heic"))
    return "no picture to learn from in: day"


def no_classes(folder):
    write(folder)
    for path in list((folder / "day").iterdir()):
        path.rename(folder / path.name)
    shutil.rmtree(folder / "day")
    shutil.rmtree(folder / "night")
    return "no sub-folder; each class needs one"


REFUSED = [
    a_split_unseen,
    one_level_too_high,
    one_class,
    nothing_but_heic,
    no_classes,
]


# === The recipe ===

ELSEWHERE = """
import json, sys
import gcvit

for model, *photos in json.loads(sys.argv[1]):
    answers = gcvit.classify(model, photos)
    print(json.dumps([best[0] for best in answers]))
"""


def trained(make, folder):
    """Train a small model on a folder, and save it; see the README."""
    options = {"folder": folder} | make(folder)
    train, validation, names = gcvit.load_pictures(
        image_size=32, batch_size=8, **options
    )
    model = gcvit.GCViT(**(SMALL | {"num_classes": len(names)}))
    run = folder.parent / "my run"
    settings = {"head_epochs": 0, "epochs": 6, "learning_rate": 1e-2}
    gcvit.fine_tune(model, train, validation, run, **settings, verbose=0)
    model.save(folder.parent / "mine.keras")
    return folder.parent / "mine.keras"


@pytest.mark.filterwarnings("ignore:left out")
def test_five_folders_train_and_answer_elsewhere(tmp_path):
    asked = []
    for make in TRAINED:
        place = tmp_path / make.__name__
        path = trained(make, place / "my pictures")
        photos = [place / "night.png", place / "day.png"]
        for photo in photos:
            photograph(photo.stem, 9000).save(photo)
        asked.append([str(path), *map(str, photos)])
    report = tmp_path / "a_phone" / "my run" / "left_out.json"
    assert len(json.loads(report.read_text())) == 7
    elsewhere = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps(asked)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = elsewhere.stdout.splitlines()
    assert len(lines) == len(TRAINED), elsewhere.stderr
    for make, line in zip(TRAINED, lines):
        (dark, dark_share), (bright, bright_share) = json.loads(line)
        assert (dark, bright) == ("night", "day"), make.__name__
        assert min(dark_share, bright_share) > 0.6, make.__name__


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("make", REFUSED)
def test_five_folders_are_refused_in_a_sentence(make, tmp_path):
    message = make(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        gcvit.load_pictures(tmp_path, image_size=32)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)
