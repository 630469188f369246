"""GCViT on one page: as it is made, short, on its own, and exact."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from gcvit import check
from tools import one_page

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
# What a reader does with the file, where there is no gcvit.
ALONE = """
import json
import runpy
import sys

import numpy as np

sys.modules["gcvit"] = None  # importing it, or a part of it, fails
file, arguments, weights, images, logits = sys.argv[1:]
page = runpy.run_path(file, run_name="__main__")
model = page["GCViT"](**json.loads(arguments))
model(np.zeros((1, 224, 224, 3), "float32"))  # creates the variables
model.load_weights(weights)
np.save(logits, page["ops"].convert_to_numpy(model(np.load(images))))
"""


def shown_file():
    """Find the file whose text the page shows."""
    text = (BOOK / "one_page.md").read_text("utf-8")
    (name,) = re.findall(r"```\{literalinclude\} (\S+)\n", text)
    assert f"<{name}>`" in text, "no link that downloads it"
    return BOOK / name


def test_the_page_shows_the_file_as_it_is_made():
    stored = shown_file().read_text("utf-8")
    assert stored == one_page.page_text(), "run: make tables"


def test_the_page_can_be_found():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [c["file"] for part in contents["parts"] for c in part["chapters"]]
    assert "book/one_page" in files
    assert "(one_page.md)" in (BOOK / "intro.md").read_text("utf-8")


def test_the_page_is_one_page():
    lines = map(str.strip, shown_file().read_text("utf-8").splitlines())
    code = [line for line in lines if line and not line.startswith("#")]
    assert len(code) < 350


def test_the_file_on_its_own_is_exact(tmp_path):
    with np.load(ROOT / "tests" / "data" / "ref_small.npz") as stored:
        images = (stored["x_u8"].astype("float32") - 128) / 64
        expected = stored["logits_f64"]
    np.save(tmp_path / "images.npy", images)
    weights = ROOT / "gcvit" / "data" / "official_small.keras"
    files = [weights, tmp_path / "images.npy", tmp_path / "logits.npy"]
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            ALONE,
            shown_file(),
            json.dumps(check.MODEL),
            *files,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        check=False,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "11,995,428 parameters\n"
    logits = np.load(tmp_path / "logits.npy")
    assert len(logits) == 2
    assert check.difference(logits, expected) < check.TOLERANCE
