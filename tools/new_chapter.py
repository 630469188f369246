"""Lay down a new chapter in the book's form, and give it its place.

    python tools/new_chapter.py cross_attention "Cross attention"
    python tools/new_chapter.py cross_attention "Cross attention" --after block

The chapter runs as it is: its layer does nothing yet, and what you write
stands in capitals. It gets its place in the table of contents, in the front
page's list, and between the "Next" links; `--after` says behind which chapter,
otherwise it is the last one. CONTRIBUTING.md says how to go on.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
import yaml
from nbformat import v4

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tools import chapters

DEMO, HIDDEN = "active-ipynb", "hide-input"

IDEA = """\
## The idea

SAY IN PLAIN WORDS WHAT THE LAYER DOES, WITH NUMBERS SMALL ENOUGH TO FOLLOW BY
HAND. THEN THE FORMULA, AND ITS SOURCE.

## The code"""
CODE = '''\
@keras.saving.register_keras_serializable(package="gcvit")
class {cls}(layers.Layer):
    """SAY IN ONE LINE WHAT IT DOES.

    Shapes: `(B, H, W, C)` in and out.

    Args:
        scale: THE FACTOR OF THE MAP, a finite float above 0.

    Raises:
        ValueError: for another `scale`.

    Source: PAPER AND SECTION, OR REPOSITORY.
    """

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = arguments.factor("scale", scale)

    def call(self, inputs):
        return inputs * self.scale  # (B, H, W, C)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | arguments.given(self, {cls})'''
PROOF_TEXT = """\
## The proof

Where the official code has this layer, compare with what it returns:
`check.parity(layer, "{name}")`, after `tools/official_arrays.py` has stored it.
Otherwise compare with the formula, written in NumPy."""
PROOF = """\
import numpy as np

x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
expected = 2 * x
layer = {cls}(scale=2)
difference = check.difference(layer(x), expected)
print(tuple(layer(x).shape), f"max |Δ| / std = {{difference:.5f}}")
assert difference < check.TOLERANCE"""
BREAK_TEXT = """\
## What can go wrong

BREAK ONE THING, AND SEE WHICH CHECK CATCHES IT."""
BREAK = """\
difference = check.difference({cls}(scale=2.1)(x), expected)
print(f"max |Δ| / std = {{difference:.2f}}")
assert difference > check.TOLERANCE"""
SUMMARY = """\
## Summary

- ONE
- TWO
- THREE

## Exercises

1. A QUESTION.
2. Write the layer yourself, and compare it with the formula.

<details><summary>Answer to 1</summary>

1. ITS ANSWER.

</details>

The solution to 2 is folded below."""
SOLUTION = """\
class My{cls}(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


print(f"{{check.difference(My{cls}()(x), expected):.5f}}")"""
LOOK_UP = """\
To look up: the [API reference](api.md); the [papers](references.md); the
[words](glossary.md)."""
LAST = """\
The [architecture page](architecture.md) is there when you want to look
something up."""


# === The chapters that are there ===


def order():
    """The names of the numbered chapters, in the order of the contents."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    parts = [part for part in contents["parts"] if part.get("numbered")]
    files = [page["file"] for part in parts for page in part["chapters"]]
    return [file.removeprefix("book/") for file in files]


def read_chapter(name):
    return nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4)


def title_of(name):
    """A chapter's title, from its first line."""
    return read_chapter(name).cells[0].source.splitlines()[0][2:]


# === The new one ===


def code(source, *tags, **mystnb):
    metadata = {"tags": list(tags)} if tags else {}
    if mystnb:
        metadata["mystnb"] = mystnb
    return v4.new_code_cell(source, metadata=metadata)


def cells(name, title, following):
    """The cells of a new chapter.

    Args:
        name: of the chapter, such as "cross_attention".
        title: of the chapter.
        following: the name of the next chapter; `None` for the last.
    """
    cls = "".join(word.capitalize() for word in name.split("_"))
    names = {"name": name, "cls": cls}
    slug = name.replace("_", "-")
    here = {
        "figure": {
            "caption": f"You are here: `{cls}`.",
            "name": f"figure-{slug}-map",
        },
        "image": {
            "alt": f"Map of GCViT in four rows; the box {cls} is highlighted."
        },
    }
    folded = {
        "code_prompt_show": "Show the solution",
        "code_prompt_hide": "Hide the solution",
    }
    # What installs the package in Colab is the same in each chapter.
    install = next(
        cell
        for cell in read_chapter(order()[0]).cells
        if cell.cell_type == "code"
    )
    end = LAST
    if following:
        end = f"Next: [{title_of(following)}]({following}.ipynb)."
    return [
        v4.new_markdown_cell(
            f"# {title}\n\nAt the end of this chapter you have `{cls}`, WHICH "
            "DOES THIS AND THAT."
        ),
        v4.new_code_cell(install.source, metadata=install.metadata),
        code(f'plots.model_map("{name}")', DEMO, HIDDEN, **here),
        v4.new_markdown_cell(IDEA),
        code(
            "import keras\nfrom keras import layers\n\n"
            "from gcvit import arguments"
        ),
        code(CODE.format(**names)),
        v4.new_markdown_cell(PROOF_TEXT.format(**names)),
        code(PROOF.format(**names), DEMO),
        v4.new_markdown_cell(BREAK_TEXT),
        code(BREAK.format(**names), DEMO),
        v4.new_markdown_cell(SUMMARY),
        code(SOLUTION.format(**names), DEMO, "hide-cell", **folded),
        v4.new_markdown_cell(f"{end}\n\n{LOOK_UP}"),
    ]


# === Its place ===


def replace_once(path, old, new):
    """Replace a text in a file that has it once."""
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        sys.exit(f"{path.name} has no single line {old!r} to put it behind.")
    path.write_text(text.replace(old, new), "utf-8")


def list_on_front_page(name, title, after):
    """Put a chapter into the front page's numbered list, and count anew."""
    path = ROOT / "book" / "intro.md"
    lines = path.read_text("utf-8").splitlines()
    item = re.compile(r"^\d+\. \[")
    place = next(
        number
        for number, line in enumerate(lines)
        if item.match(line) and f"]({after}.ipynb)" in line
    )
    lines.insert(place + 1, f"0. [{title}]({name}.ipynb) DOES THIS AND THAT.")
    count = 0
    for number, line in enumerate(lines):
        if item.match(line):
            count += 1
            lines[number] = re.sub(r"^\d+", str(count), line)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def link_from(after, name, title, following):
    """Let the chapter before lead to the new one."""
    notebook = read_chapter(after)
    last = notebook.cells[-1]
    if following:
        link = re.compile(rf"\[[^\]]*\]\({following}\.ipynb\)")
        last.source = link.sub(f"[{title}]({name}.ipynb)", last.source, 1)
    else:
        last.source = f"Next: [{title}]({name}.ipynb).\n\n{last.source}"
    path = ROOT / "book" / f"{after}.ipynb"
    nbformat.write(notebook, path)
    chapters.module_path(after).write_text(
        chapters.module_text(after), "utf-8"
    )


def lay_down(name, title, after):
    """Write a new chapter, and all that leads to it.

    Args:
        name: of the chapter, words joined by underscores.
        title: of the chapter.
        after: the chapter before it.
    """
    names = order()
    path = ROOT / "book" / f"{name}.ipynb"
    if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name):
        sys.exit(f"{name!r} is no name of a chapter; cross_attention is one.")
    if path.exists() or chapters.module_path(name).exists():
        sys.exit(f"{name} is there already, as a chapter or as a module.")
    if after not in names:
        sys.exit(f"{after!r} is no chapter. These are: {', '.join(names)}.")
    following = dict(zip(names, names[1:])).get(after)
    notebook = v4.new_notebook(cells=cells(name, title, following))
    chapters.write_chapter(notebook, path)
    line = f"      - file: book/{after}\n"
    new_line = f"      - file: book/{name}\n"
    replace_once(ROOT / "_toc.yml", line, line + new_line)
    list_on_front_page(name, title, after)
    link_from(after, name, title, following)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="such as cross_attention")
    parser.add_argument("title", help='such as "Cross attention"')
    parser.add_argument("--after", default=order()[-1], help="a chapter")
    options = parser.parse_args()
    lay_down(options.name, options.title, options.after)
    print(
        f"book/{options.name}.ipynb is laid down, after {options.after}.\n"
        f"1. Give it a box in BOXES of gcvit/plots.py, the map of the model.\n"
        f"2. make chapters NAMES={options.name}\n"
        "3. Write what stands in capitals, there and in book/intro.md.\n"
        "CONTRIBUTING.md has the rest."
    )


if __name__ == "__main__":
    main()
