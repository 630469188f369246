"""What of an output has to stay the same when a chapter is run again.

Three things differ from run to run and from machine to machine. They are left
out:

- durations, such as the "12s 345ms/step" of a training: `DURATION`;
- how far a layer is from the official one, as 1.3e-07, where that is rounding:
  `ROUNDING`;
- an SVG's coordinates, which move by a digit. Of an SVG the texts and the
  colours count, in their order; decimals in its texts are rounded.

Photographs count byte for byte here. nbval does not look at them.

`book/conftest.py` makes nbval compare like this, and `tools/chapters.py` keeps
a stored output that is the same.
"""

import re

DURATION = re.compile(r"\b\d+(\.\d+)? ?(us|µs|ms|s|seconds)\b(/step)?")
POWER_OF_TEN = re.compile(r"\b\d\.\de[-+]\d\d\b")
ROUNDING = 5e-6  # `gcvit.check.TOLERANCE`
SVG = re.compile(r"(?s)<\?xml.*</svg>")
SVG_TEXT = re.compile(r"(?s)<text\b[^>]*>(.*?)</text>")
# As a style or an attribute; names of an SVG's parts begin with # too.
COLOUR = re.compile(r'(?:fill|stroke|stop-color)[:=]\s*"?(#[0-9a-fA-F]+)\b')
TAG = re.compile(r"<[^>]*>")  # those within a text have coordinates
DECIMAL = re.compile(r"\d+\.\d+")
SIGNIFICANT_DIGITS = 3


def rounded(text):
    """Round each decimal in a text."""
    return DECIMAL.sub(
        lambda found: f"{float(found[0]):.{SIGNIFICANT_DIGITS}g}", text
    )


def without_rounding(text):
    """Replace each number below `ROUNDING`, where it is a power of ten."""
    return POWER_OF_TEN.sub(
        lambda found: "(rounding)" if float(found[0]) < ROUNDING else found[0],
        text,
    )


def texts_and_colours(svg):
    """List what can be read in an SVG, and the colours that it is drawn in."""
    texts = [rounded(TAG.sub("", text)) for text in SVG_TEXT.findall(svg)]
    return "\n".join(["a figure", *texts, *COLOUR.findall(svg)])


def comparable(text):
    """Reduce a text of an output to what has to stay the same.

    Args:
        text: a text, with or without a figure; anything else stays as it is.

    Returns:
        A text.
    """
    if not isinstance(text, str):
        return text
    text = SVG.sub(lambda found: texts_and_colours(found[0]), text)
    return DURATION.sub("(a duration)", without_rounding(text))


def reduced(value):
    """Reduce each text in nested dictionaries and lists."""
    if isinstance(value, dict):
        return {key: reduced(item) for key, item in value.items()}
    if isinstance(value, list):
        return [reduced(item) for item in value]
    return comparable(value)


def same(stored, new):
    """Tell whether the outputs of a cell are the same as those stored.

    Args:
        stored: a cell's outputs, a list of notebook nodes.
        new: another such list.

    Returns:
        A bool.
    """
    return reduced(stored) == reduced(new)
