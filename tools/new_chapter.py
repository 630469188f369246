"""Lay down a new chapter in the book's form, and give it its place.

    python tools/new_chapter.py cross_attention
    python tools/new_chapter.py cross_attention "Attention" --after block

The chapter's layer does nothing of use yet, but its proof runs. What you write
stands behind the word WRITE. The chapter gets its place in the table of
contents, in the front page's list, and between the "Next" links: `--after`
says behind which chapter, otherwise it is the last one. Its box in the map of
the model is yours to place. CONTRIBUTING.md says how to go on.
"""

import argparse
import keyword
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
# What an author must write begins with this; a test finds what was forgotten.
MARK = "WRITE:"

IDEA = """\
## The idea

WRITE: in plain words what the layer does, with numbers small enough to follow
by hand. Then the formula, and its source.

## The code"""
CODE = '''\
@keras.saving.register_keras_serializable(package="gcvit")
class {cls}(layers.Layer):
    """WRITE: what it does, in one line.

    Shapes: `(B, H, W, C)` in and out.

    Args:
        scale: WRITE: what it is for, a finite float above 0.

    Raises:
        ValueError: for another `scale`.

    Source: WRITE: the paper and section, or the repository.
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

WRITE: how you know that the layer is right. Where the official code has it,
compare with what that returns: `check.parity(layer, "{name}")`, after
`tools/official_arrays.py` has stored it. Otherwise compare with the formula,
written in NumPy, as here."""
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

WRITE: what you break, and which check notices."""
BREAK = """\
difference = check.difference({cls}(scale=2.1)(x), expected)
print(f"max |Δ| / std = {{difference:.2f}}")
assert difference > check.TOLERANCE"""
SUMMARY = """\
## Summary

- WRITE: what the layer does.
- WRITE: why it is in the model.
- WRITE: what goes wrong without it.

## Exercises

1. WRITE: a question.
2. Write the layer yourself, and compare it with the formula.

<details><summary>Answer to 1</summary>

1. WRITE: its answer.

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


# === The chapters that are there ===


def order():
    """The names of the numbered chapters, in the order of the contents."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    parts = [part for part in contents["parts"] if part.get("numbered")]
    files = [page["file"] for part in parts for page in part["chapters"]]
    return [file.removeprefix("book/") for file in files]


def read_chapter(name):
    return nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4)


def listed_on_front_page():
    """The chapters in the front page's numbered list: number, name."""
    text = (ROOT / "book" / "intro.md").read_text("utf-8")
    found = re.findall(r"^(\d+)\. \[[^\]]+\]\((\w+)\.ipynb\)", text, re.M)
    return [(int(number), name) for number, name in found]


def next_chapter(name):
    """Where a chapter's last cell leads: the first chapter it links to.

    Returns:
        A name; `None` if it links to none.
    """
    last = read_chapter(name).cells[-1].source
    found = re.search(r"\]\((\w+)\.ipynb\)", last)
    return found and found[1]


# === The new one ===


def code(source, *tags, **mystnb):
    metadata = {"tags": list(tags)} if tags else {}
    if mystnb:
        metadata["mystnb"] = mystnb
    return v4.new_code_cell(source, metadata=metadata)


def cells(name, title, end):
    """The cells of a new chapter.

    Args:
        name: of the chapter, such as "cross_attention".
        title: of the chapter.
        end: the paragraph that leads on from it.
    """
    cls = "".join(word.capitalize() for word in name.split("_"))
    names = {"name": name, "cls": cls}
    slug = name.replace("_", "-")
    here = {
        "figure": {
            "caption": f"Where `{cls}` is in the model.",
            "name": f"figure-{slug}-map",
        },
        "image": {
            "alt": f"Map of GCViT in four rows; the box {cls} is highlighted."
        },
    }
    drawing = {
        "code_prompt_show": "Show the drawing's code",
        "code_prompt_hide": "Hide the drawing's code",
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
    return [
        v4.new_markdown_cell(
            f"# {title}\n\nAt the end of this chapter you have `{cls}`. "
            f"{MARK} what it does, in two sentences."
        ),
        v4.new_code_cell(install.source, metadata=install.metadata),
        code(f'plots.model_map("{name}")', DEMO, HIDDEN, **here, **drawing),
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


def put_into_contents(name, after):
    """Put a chapter into the table of contents."""
    path = ROOT / "_toc.yml"
    line = f"      - file: book/{after}\n"
    text = path.read_text("utf-8")
    new_line = f"      - file: book/{name}\n"
    path.write_text(text.replace(line, line + new_line), "utf-8")


def put_on_front_page(name, title, after):
    """Put a chapter into the front page's numbered list, and count anew."""
    path = ROOT / "book" / "intro.md"
    lines = path.read_text("utf-8").splitlines()
    item = re.compile(r"^\d+\. \[.*\]\((\w+)\.ipynb\)")
    found = [item.match(line) for line in lines]
    place = [match and match[1] for match in found].index(after) + 1
    while lines[place].startswith(" "):  # an entry of several lines
        place += 1
    new = f"0. [{title}]({name}.ipynb) {MARK} what it does, in a few words."
    lines.insert(place, new)
    count = 0
    for number, line in enumerate(lines):
        if item.match(line):
            count += 1
            lines[number] = re.sub(r"^\d+", str(count), line)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def lead_to(name, title, after):
    """Let the chapter before lead to the new one.

    Returns:
        The paragraph that it ended in: the new chapter ends in it now.
    """
    notebook = read_chapter(after)
    last = notebook.cells[-1]
    end, _, rest = last.source.partition("\n\n")
    last.source = (
        f"Next: [{title}]({name}.ipynb). {MARK} what it does.\n\n{rest}"
    )
    nbformat.write(notebook, ROOT / "book" / f"{after}.ipynb")
    chapters.write_modules([after])
    return end


def check(name, after):
    """Stop at what cannot be a new chapter, before anything is written."""
    is_name = re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
    if not is_name or keyword.iskeyword(name):
        sys.exit(f"{name!r} cannot be a chapter's name; cross_attention can.")
    is_taken = chapters.module_path(name).exists()
    if is_taken or any((ROOT / "book").glob(f"{name}.*")):
        sys.exit(f"{name} is there already, as a page or as a module.")
    if after not in order():
        sys.exit(
            f"{after!r} is not a chapter. These are known: {', '.join(order())}."
        )
    if after not in [listed for _, listed in listed_on_front_page()]:
        sys.exit(f"{after!r} is missing in the list of book/intro.md.")
    if chapters.is_edited(after):
        sys.exit(
            f"gcvit/{after}.py was edited. First carry the edit into the "
            f"chapter: {chapters.WAY_BACK} {after}"
        )


def lay_down(name, title, after):
    """Write a new chapter, and all that leads to it.

    Args:
        name: of the chapter, words joined by underscores.
        title: of the chapter.
        after: the chapter before it.
    """
    check(name, after)
    end = lead_to(name, title, after)
    notebook = v4.new_notebook(cells=cells(name, title, end))
    chapters.write_chapter(notebook, chapters.chapter_path(name))
    chapters.write_modules([name])
    put_into_contents(name, after)
    put_on_front_page(name, title, after)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="such as cross_attention")
    parser.add_argument("title", nargs="?", help='as "Cross attention"')
    parser.add_argument("--after", default=order()[-1], help="a chapter")
    options = parser.parse_args()
    name, after = options.name, options.after
    title = options.title or name.replace("_", " ").capitalize()
    lay_down(name, title, after)
    label = title.replace(" ", r"\n")
    print(
        f"book/{name}.ipynb is laid down, after {after}. Now:\n"
        "1. Give it a box in the map of the model, BOXES in gcvit/plots.py. "
        "A line is\n   chapter, label, x, row, width; a neighbour can shrink "
        "to make room:\n"
        f'       ("{name}", "{label}", x, row, width),\n'
        f"2. make chapters NAMES={name}   runs it\n"
        "3. make maps   redraws the map in the other chapters\n"
        f"4. grep '{MARK}' book/*   finds what is yours to write: there, in "
        f"{after},\n   and on the front page\n"
        "5. make book test\n"
        "CONTRIBUTING.md has the rest."
    )


if __name__ == "__main__":
    main()
