"""The palette: legible in both themes, and for colour-blind readers."""

import ast
import itertools
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.colors import is_color_like, to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from gcvit import plots

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
PALETTE = {
    name: getattr(plots, name)
    for name in ("INK", "PAPER", "HERE", "BLUE", "RED", "WHITE")
}
# What stands on the page without an outline.
MARKS = ("INK", "BLUE", "RED")
# How linear RGB looks to eyes without one kind of cone: Machado, Oliveira,
# Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", IEEE Transactions on Visualization and Computer Graphics 15(6),
# 2009, severity 1.
EYES = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# The dark theme's page, and CSS's `hue-rotate(180deg)` by the specification
# "Filter Effects", applied to an inverted picture.
DARK_PAGE = np.array(to_rgb("#121212"))
HALF_TURN = np.array(
    [
        [-0.574, 1.430, 0.144],
        [0.426, 0.430, 0.144],
        [0.426, 1.430, -0.856],
    ]
)


def linear(color):
    return np.where(
        color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4
    )


def encoded(color):
    color = np.clip(color, 0, 1)
    return np.where(
        color <= 0.0031308, color * 12.92, 1.055 * color ** (1 / 2.4) - 0.055
    )


def in_light(color):
    return np.array(to_rgb(color))


def in_dark(color):
    """What `book.css` makes of a drawing's colour on the dark page."""
    turned = np.clip(HALF_TURN @ (1 - in_light(color)), 0, 1)
    return 1 - (1 - turned) * (1 - DARK_PAGE)  # `screen`


THEMES = {"light": in_light, "dark": in_dark}


def contrast(color, other):
    """WCAG 2's contrast of two colours, from 1 to 21."""
    weights = [0.2126, 0.7152, 0.0722]
    low, high = sorted(float(linear(c) @ weights) for c in (color, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("theme", THEMES)
def test_no_two_colours_look_alike(theme, eyes):
    seen = {
        name: rgb2lab(encoded(EYES[eyes] @ linear(THEMES[theme](color))))
        for name, color in PALETTE.items()
        if name != "WHITE"  # paper is drawn on it, with an outline
    }
    for one, other in itertools.combinations(seen, 2):
        difference = deltaE_ciede2000(seen[one], seen[other])
        assert difference > 15, f"{one} and {other}: {difference:.0f}"


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", MARKS)
def test_marks_stand_out_from_the_page(name, theme):
    see = THEMES[theme]
    assert contrast(see(PALETTE[name]), see(plots.WHITE)) >= 3
    assert contrast(see(PALETTE[name]), see(plots.PAPER)) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    "behind", ["WHITE", "PAPER", "HERE", "two fifths of SHADES"]
)
def test_text_can_be_read(behind, theme):
    see = THEMES[theme]
    # As far as a heat map with numbers goes.
    background = see(PALETTE.get(behind, plots.SHADES(0.4)[:3]))
    assert contrast(see(plots.INK), background) >= 4.5


# A colour for each theme, as `plots.touch` writes it: light-dark(one, other).
PAIR = re.compile(r"(--[\w-]+): light-dark\((#\w+), (#\w+)\)")


@pytest.mark.parametrize("theme", THEMES)
def test_figures_to_touch_have_the_highlight_of_drawings(theme):
    pairs = PAIR.findall(plots.touch("window_partition", {}).data)
    place = list(THEMES).index(theme)
    used = {name: in_light(colours[place]) for name, *colours in pairs}
    expected = np.clip(THEMES[theme](plots.HERE), 0, 1)
    np.testing.assert_allclose(used["--here"], expected, atol=1 / 255)
    assert contrast(used["--on-here"], used["--here"]) >= 4.5


def test_labels_of_photographs_can_be_read():
    # Photographs are the same in both themes.
    assert contrast(in_light(plots.PAPER), in_light(plots.INK)) >= 4.5


def demo_cells(name):
    notebook = nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if "active-ipynb" in cell.metadata.get("tags", []):
            yield re.sub(r"^( *)%.*", r"\1pass", cell.source, flags=re.M)


@pytest.mark.parametrize("name", NAMES)
def test_chapters_take_their_colours_from_the_palette(name):
    for source in demo_cells(name):
        tree = ast.walk(ast.parse(source))
        for call in (node for node in tree if isinstance(node, ast.Call)):
            for argument in call.keywords:
                if argument.arg == "cmap":  # a photograph may be grey
                    assert ast.unparse(argument.value) == "'gray'", source
                elif isinstance(argument.value, ast.Constant):
                    value = argument.value.value
                    literal = isinstance(value, str) and value != "none"
                    assert not (literal and is_color_like(value)), source
        assert not re.search(r"""["'](#[0-9a-fA-F]{3,8}|C\d)["']""", source)


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "book/_static/figures").glob("*.svg")),
    ids=lambda path: path.stem,
)
def test_drawings_take_their_colours_from_the_palette(path):
    used = set(re.findall(r"#[0-9a-f]{6}\b", path.read_text("utf-8")))
    assert used <= set(PALETTE.values())
