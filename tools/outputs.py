"""What of an output has to stay the same when a chapter is run again.

An SVG's coordinates move by a digit from machine to machine, and a training
takes another time on each. So of an SVG the texts and the colours count, in
their order, the numbers in the texts rounded; and of a text all but the
durations. `book/conftest.py` compares like this, and `tools/chapters.py` keeps
a stored output that is the same.
"""

import re

DURATION = re.compile(r"\b\d+(\.\d+)? ?(ms|s)\b(/step)?")
SVG = re.compile(r"(?s)<\?xml.*</svg>")
SVG_TEXT = re.compile(r"(?s)<text[^>]*>(.*?)</text>")
COLOUR = re.compile(r"#[0-9a-f]{3,8}\b")
DECIMAL = re.compile(r"\d+\.\d+")


def rounded(text):
    """Round each decimal in a text to three digits."""
    return DECIMAL.sub(lambda found: f"{float(found[0]):.3g}", text)


def texts_and_colours(svg):
    """List what can be read in an SVG, and the colours that it is drawn in."""
    texts = [rounded(text) for text in SVG_TEXT.findall(svg)]
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
    return DURATION.sub("(a duration)", text)


def same(stored, new):
    """Tell whether the outputs of a cell are the same as those stored.

    Args:
        stored: a cell's outputs, a list of notebook nodes.
        new: another such list.

    Returns:
        A bool.
    """

    def reduced(value):
        if isinstance(value, dict):
            return {key: reduced(item) for key, item in value.items()}
        if isinstance(value, list):
            return [reduced(item) for item in value]
        return comparable(value)

    return reduced(stored) == reduced(new)
