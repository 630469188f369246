"""What the figures of several chapters share: a style, and the map of the model."""

import json
from importlib.resources import files

import matplotlib.pyplot as plt
from IPython.display import HTML
from matplotlib_inline.backend_inline import set_matplotlib_formats

INK, PAPER, HERE = "#3d4a57", "#eef2f5", "#f2a541"
BLUE, GREEN, RED = "#2f6f9f", "#3f8f6b", "#b8483a"

# Chapter, label, x, y, width: the three rows of the map, from the model to
# what is inside its parts.
BOXES = [
    ("", "image", 0.0, 2, 1.0),
    ("patch_embed", "PatchEmbed", 1.4, 2, 1.6),
    ("level", "Level 0", 3.4, 2, 1.3),
    ("level", "Level 1", 5.1, 2, 1.3),
    ("level", "Level 2", 6.8, 2, 1.3),
    ("level", "Level 3", 8.5, 2, 1.3),
    ("model", "norm, mean,\nhead", 10.2, 2, 1.8),
    ("feature_extraction", "GlobalQueryGenerator", 0.0, 1, 2.6),
    ("block", "Block\n(local)", 3.4, 1, 1.3),
    ("block", "Block\n(global)", 5.1, 1, 1.3),
    ("block", "… more\nBlocks", 6.8, 1, 1.3),
    ("reduce_size", "ReduceSize", 10.2, 1, 1.8),
    ("feature_extraction", "FeatureExtraction", 0.0, 0, 2.6),
    ("window_attention", "Window-\nAttention", 3.4, 0, 1.5),
    ("block", "MLP", 5.3, 0, 1.1),
    ("squeeze_excitation", "SqueezeAndExcitation", 7.0, 0, 2.6),
    ("reduce_size", "fused MBConv", 10.2, 0, 1.8),
]
ROWS = ["the model", "inside a Level", "inside those"]


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
            "image.interpolation": "nearest",
        }
    )


def show_photos():
    """Show a figure of photographs as JPEG, which is smaller than SVG."""
    options = {"dpi": 110, "pil_kwargs": {"quality": 75}}
    set_matplotlib_formats("jpeg", **options)
    plt.show()
    use_style()


def box(axes, x, y, width, height, label, color=PAPER):
    """A labelled rectangle whose lower left corner is (x, y)."""
    axes.add_patch(
        plt.Rectangle((x, y), width, height, fc=color, ec=INK, lw=1)
    )
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
    """
    axes = canvas(14, 4, figure_width=9)
    for row, name in enumerate(ROWS):
        axes.text(1.7, 3.35 - 1.3 * row, name, ha="right", va="center")
    for owner, label, x, row, width in BOXES:
        color = HERE if owner == chapter else PAPER
        box(axes, x + 1.95, 1.3 * row + 0.3, width, 0.9, label, color)
    for (_, label, x, row, width), (_, _, end, next_row, _) in zip(
        BOXES, BOXES[1:]
    ):
        # The global query goes to the global blocks, not to the first.
        if row == next_row > 0 and label != "GlobalQueryGenerator":
            y = 1.3 * row + 0.75
            arrow(axes, (x + 1.95 + width, y), (end + 1.95, y))
    axes.plot([3.25, 3.25, 7.7], [2.5, 2.7, 2.7], color=INK, lw=1)
    arrow(axes, (7.7, 2.7), (7.7, 2.5))
    plt.show()


def touch(name, data):
    """Make a figure that answers to mouse, touch and keyboard.

    Without JavaScript it shows a sentence only, so a still figure goes before.

    Args:
        name: which one, such as "attention"; `data/` has its markup and script.
        data: what the script draws, anything that `json` can write.

    Returns:
        The figure with all it needs, for the notebook to show.
    """
    folder = files("gcvit") / "data"
    style, helpers, markup, script = (
        (folder / file).read_text("utf-8")
        for file in ("touch.css", "touch.js", f"{name}.html", f"{name}.js")
    )
    return HTML(f"""\
<figure class="touch {name}" style="--here: {HERE}">
<style>
{style}</style>
{markup}<script type="application/json">{json.dumps(data)}</script>
<script>
{{
{helpers}
{script}}}
</script>
</figure>""")
