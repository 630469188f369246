"""What counts when outputs are compared: not durations, coordinates or rounding."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from gcvit import check
from tools import outputs

ROOT = Path(__file__).resolve().parents[1]
FIGURE = (
    '<?xml version="1.0"?>\n<svg><g id="patch_1"><path d="M 10.123456 20" '
    'style="fill: #2a6fc4"/></g><g id="text_1"><text x="3.1" y="4">'
    'level 1 <tspan x="0.25">0.51234567</tspan></text></g></svg>\n'
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("10.123456", "10.123457"),
        ('x="3.1"', 'x="3.2"'),
        ('x="0.25"', 'x="0.75"'),
        ("0.51234567", "0.51234999"),
    ],
)
def test_a_figure_may_move_by_a_digit(old, new):
    moved = FIGURE.replace(old, new)
    assert moved != FIGURE
    assert outputs.comparable(moved) == outputs.comparable(FIGURE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("level 1", "level 2"), ("0.512", "0.522"), ("#2a6fc4", "#b8483a")],
)
def test_a_figures_labels_and_colours_count(old, new):
    changed = FIGURE.replace(old, new)
    assert outputs.comparable(changed) != outputs.comparable(FIGURE)


@pytest.mark.parametrize(
    "line",
    ["104/104 - 8s - 76ms/step - loss: 1.5", "1s 12us/step", "took 114 s"],
)
def test_durations_do_not_count(line):
    slower = line.translate(str.maketrans("678", "999")).replace("1s", "42s")
    slower = slower.replace("114 s", "3.5 s").replace("12us", "2ms")
    assert slower != line
    assert outputs.comparable(slower) == outputs.comparable(line)


def test_rounding_does_not_count():
    line = "max |Δ| / std = {}"
    small, other, zero, large = (
        outputs.comparable(line.format(number))
        for number in ("1.3e-07", "2.9e-06", "0.0e+00", "1.3e-05")
    )
    assert small == other == zero != large
    assert outputs.ROUNDING == check.TOLERANCE


def test_other_numbers_count():
    assert outputs.comparable("8 steps") != outputs.comparable("9 steps")
    assert outputs.comparable("loss: 1.5") != outputs.comparable("loss: 1.6")
    assert outputs.comparable({"no": "text"}) == {"no": "text"}


def shown(data, count=1):
    return [v4.new_output("execute_result", data, execution_count=count)]


def test_outputs_are_the_same_with_another_coordinate_only():
    moved = {"image/svg+xml": FIGURE.replace("10.123456", "10.123457")}
    figure = shown({"image/svg+xml": FIGURE})
    assert outputs.same(figure, shown(moved))
    assert not outputs.same(figure, shown(moved, count=2))
    assert not outputs.same(figure, [])
    printed = [v4.new_output("stream", text="8s\n")]
    assert outputs.same(printed, [v4.new_output("stream", text="9s\n")])
    photo = shown({"image/jpeg": "aaaa"})
    assert not outputs.same(photo, shown({"image/jpeg": "aaab"}))


@pytest.fixture
def rerun(tmp_path):
    """Tells how nbval judges stored texts of a figure, one for each cell."""
    shutil.copy(ROOT / "book" / "conftest.py", tmp_path)

    def judge(*stored):
        source = (
            "from IPython.display import SVG, display\n"
            f"display({{'image/svg+xml': {FIGURE!r}}}, raw=True)"
        )
        cells = [
            v4.new_code_cell(
                source,
                execution_count=count,
                outputs=[
                    v4.new_output("display_data", {"image/svg+xml": text})
                ],
            )
            for count, text in enumerate(stored, 1)
        ]
        nbformat.write(v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
        command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-rA"]
        run = subprocess.run(
            command
            + ["--nbval-current-env", "-p", "no:cacheprovider"]
            + ["--rootdir", tmp_path, tmp_path / "a.ipynb"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        lines = run.stdout.splitlines()
        return [x.split()[0] for x in lines if "::Cell" in x and x[0] in "PF"]

    return judge


def test_nbval_compares_like_this(rerun):
    verdicts = rerun(
        FIGURE,
        FIGURE.replace("10.123456", "10.123457"),
        FIGURE.replace("level 1", "level 2"),
        FIGURE.replace("#2a6fc4", "#b8483a"),
    )
    assert sorted(verdicts) == ["FAILED", "FAILED", "PASSED", "PASSED"]
