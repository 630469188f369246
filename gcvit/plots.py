"""What the figures of several chapters share: a style, and the map of the model."""

import json
from importlib.resources import files

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.patches import FancyBboxPatch
from matplotlib_inline.backend_inline import set_matplotlib_formats

# The palette; book/_static/figures/README.md says what each colour is for,
# and tests/test_palette.py that they can be told apart.
INK, PAPER, HERE = "#33404c", "#eef2f5", "#fbc463"
BLUE, RED, WHITE = "#2a6fc4", "#b8483a", "#ffffff"
# What the dark theme makes of HERE in a drawing: what a figure to touch takes.
HERE_IN_DARK = "#734012"
SHADES = LinearSegmentedColormap.from_list("shades", [WHITE, BLUE])
matplotlib.colormaps.register(SHADES)

# Chapter, label, x, row, width: the four rows of the map, from what is done
# with the model to what is inside its parts.
BOXES = [
    ("pretrained", "preprocess", 0.0, 0, 1.5),
    ("dense", "dense\nhead", 1.65, 0, 0.9),
    ("pretrained", "load\ncheckpoint", 2.7, 0, 1.45),
    ("deploy", "export", 4.3, 0, 1.0),
    ("flowers", "fine-tune", 5.45, 0, 1.1),
    ("scale", "many\ndevices", 6.7, 0, 1.1),
    ("evidence", "compare", 7.95, 0, 1.0),
    ("live", "in a\npage", 9.1, 0, 0.95),
    ("pretrained", "predictions", 10.2, 0, 1.8),
    ("patch_embed", "PatchEmbed", 1.4, 1, 1.6),
    ("level", "Level 0", 3.4, 1, 1.3),
    ("level", "Level 1", 5.1, 1, 1.3),
    ("level", "Level 2", 6.8, 1, 1.3),
    ("level", "Level 3", 8.5, 1, 1.3),
    ("model", "norm, mean,\nhead", 10.2, 1, 1.8),
    ("feature_extraction", "GlobalQueryGenerator", 0.0, 2, 2.9),
    ("block", "Block\n(local)", 3.4, 2, 1.3),
    ("block", "Block\n(global)", 5.1, 2, 1.3),
    ("block", "… more\nBlocks", 6.8, 2, 1.3),
    ("reduce_size", "ReduceSize", 10.2, 2, 1.8),
    ("feature_extraction", "FeatureExtraction", 0.0, 3, 2.9),
    ("window_attention", "Window-\nAttention", 3.4, 3, 1.5),
    ("block", "MLP", 5.3, 3, 1.1),
    ("squeeze_excitation", "SqueezeAndExcitation", 6.8, 3, 3.0),
    ("reduce_size", "fused MBConv", 10.2, 3, 1.8),
]
ROWS = ["in use", "the model", "inside a Level", "inside those"]
# From row, x, to row, x: the arrows of the map. Where no row changes, they run
# along it.
ARROWS = [
    (0, 0.5, 1, 0.5),
    (0, 4.05, 1, 4.05),
    (1, 5.2, 0, 5.2),
    (0, 6.0, 1, 6.0),
    (0, 7.3, 1, 7.3),
    (0, 8.7, 1, 8.7),
    (1, 9.6, 0, 9.6),
    (1, 11.1, 0, 11.1),
    (1, 1.0, 1, 1.4),
    (1, 3.0, 1, 3.4),
    (1, 4.7, 1, 5.1),
    (1, 6.4, 1, 6.8),
    (1, 8.1, 1, 8.5),
    (1, 9.8, 1, 10.2),
    (2, 4.7, 2, 5.1),
    (2, 6.4, 2, 6.8),
    (2, 8.1, 2, 10.2),
]


def use_style():
    """Draw crisp SVG with real text, the same on each run."""
    set_matplotlib_formats("svg", metadata={"Date": None})
    plt.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "gcvit",
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=[BLUE, RED, INK]),
            "image.cmap": SHADES.name,
            "image.interpolation": "nearest",
        }
    )


def show_photos():
    """Show a figure of photographs as JPEG, which is smaller than SVG.

    They lie on ink with light labels, like slides: so the page needs no pale
    box around them when it is dark.
    """
    figure = plt.gcf()
    figure.set_facecolor(INK)
    for text in figure.findobj(plt.Text):
        text.set_color(PAPER)
    options = {"dpi": 110, "pil_kwargs": {"quality": 75}}
    set_matplotlib_formats("jpeg", **options)
    plt.show()
    use_style()


def highlight(axes, weights, **options):
    """Colour a picture where weights are large; 1 is full colour."""
    alpha = np.clip(weights, 0, 1)
    axes.imshow(alpha, ListedColormap([HERE]), alpha=alpha, **options)


def box(axes, x, y, width, height, label, color=PAPER):
    """Draw what computes: round corners, the lower left one at (x, y)."""
    corners = "round,pad=0,rounding_size=0.15"
    style = {"boxstyle": corners, "fc": color, "ec": INK, "lw": 1}
    axes.add_patch(FancyBboxPatch((x, y), width, height, **style))
    axes.text(x + width / 2, y + height / 2, label, ha="center", va="center")


def tensor(
    axes, x, y, width, height, label="", color=PAPER, cells=(1, 1), lines=WHITE
):
    """Draw what is computed: square corners, and lines between its cells.

    Args:
        cells: how many rows and columns of tokens, or of windows, to show.
        lines: `WHITE` between tokens, `INK` between windows.
    """
    square = ((x, y), width, height)
    axes.add_patch(plt.Rectangle(*square, fc=color, ec="none"))
    rows, columns = cells
    style = {"color": lines, "lw": 0.7, "zorder": 1}
    for row in range(1, rows):
        level = y + height * row / rows
        axes.plot([x, x + width], [level, level], **style)
    for column in range(1, columns):
        side = x + width * column / columns
        axes.plot([side, side], [y, y + height], **style)
    axes.add_patch(plt.Rectangle(*square, fc="none", ec=INK, lw=1))
    axes.text(x + width / 2, y + height / 2, label, ha="center", va="center")


def arrow(axes, start, end):
    """An arrow between two points, each an (x, y) pair."""
    style = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)


def canvas(width, height, figure_width=8):
    """Axes without ticks whose units are square, `width` by `height`."""
    size = (figure_width, figure_width * height / width)
    _, axes = plt.subplots(figsize=size, layout="constrained")
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return axes


def model_map(chapter):
    """Draw the whole model, with the parts that a chapter builds highlighted.

    Args:
        chapter: a chapter's name, such as "block".

    Raises:
        ValueError: for a name without a box.
    """
    known = sorted({owner for owner, *_ in BOXES})
    if chapter not in known:
        raise ValueError(
            f"The map has no box for {chapter!r}; it has boxes for "
            f"{', '.join(known)}. Give a new chapter one in BOXES of "
            "gcvit/plots.py."
        )
    axes = canvas(14, 5.2, figure_width=9)
    left, bottom = 1.95, [4.2 - 1.3 * row for row in range(len(ROWS))]
    for y, name in zip(bottom, ROWS):
        axes.text(1.7, y + 0.45, name, ha="right", va="center")
    tensor(axes, left, bottom[1], 1.0, 0.9, "image")
    for owner, label, x, row, width in BOXES:
        color = HERE if owner == chapter else PAPER
        box(axes, x + left, bottom[row], width, 0.9, label, color)
    for row, x, next_row, next_x in ARROWS:
        # Down from a box's lower edge, up from its upper one, or from its side.
        start = bottom[row] + 0.45 * (1 - next_row + row)
        end = bottom[next_row] + 0.45 * (1 + next_row - row)
        arrow(axes, (left + x, start), (left + next_x, end))
    # The global query goes to the global blocks, not to the first.
    axes.plot([3.25, 3.25, 7.7], [2.5, 2.7, 2.7], color=INK, lw=1)
    arrow(axes, (7.7, 2.7), (7.7, 2.5))
    plt.show()


def touch(name, data):
    """Make a figure that answers to mouse, touch and keyboard.

    Without JavaScript it shows a sentence only, so a still figure goes before.

    Args:
        name: which one, such as "image_sizes"; `data/` has its markup and script.
        data: what the script draws, anything that `json` can write.

    Returns:
        The figure with all it needs, for the notebook to show.
    """
    folder = files("gcvit") / "data"
    style, helpers, markup, script = (
        (folder / file).read_text("utf-8")
        for file in ("touch.css", "touch.js", f"{name}.html", f"{name}.js")
    )
    here = f"--here: light-dark({HERE}, {HERE_IN_DARK})"
    text = f"--on-here: light-dark(#000, {WHITE})"
    return HTML(f"""\
<figure class="touch {name}" style="{here}; {text}">
<style>
{style}</style>
{markup}<script type="application/json">{json.dumps(data)}</script>
<script>
{{
{helpers}
{script}}}
</script>
</figure>""")
