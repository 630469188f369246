"""Regenerate the modules, run the chapters, and store their outputs.

    python tools/chapters.py                        every chapter
    python tools/chapters.py block level            these chapters
    python tools/chapters.py --from-module block    take an edited module back
    python tools/chapters.py --maps                 redraw the maps only

The chapters are the source. `--from-module` carries what was edited in a
module into its chapter, once, before the rest. A module whose text was edited
is never overwritten: its first line knows what was generated. A chapter that
does not run to its end keeps its stored outputs, and the others run.

Each chapter shows the map of the model. After a change of the map, `--maps`
stores it anew, and leaves the other outputs as they are.
"""

import argparse
import os
import re
import sys
from hashlib import sha256
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from jupytext.config import load_jupytext_config
from nbclient import NotebookClient
from nbclient.exceptions import (
    CellExecutionError,
    CellTimeoutError,
    DeadKernelError,
)

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tools import outputs

METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}
FORMAT = {"extension": ".py", "format_name": "percent"}
# Otherwise TensorFlow's start-up noise lands in the outputs.
KERNEL_OPTIONS = ["--IPKernelApp.capture_fd_output=False"]
# A cell that could not have its real data or weights says this word.
STAND_IN = "stand-in"
WAY_BACK = ".venv/bin/python tools/chapters.py --from-module"
HEADER = re.compile(
    r"# Generated from book/\w+\.ipynb, digest (\w+)\..*\n"
    r"# .*--from-module.*\n"
)


def chapter_path(name):
    return ROOT / "book" / f"{name}.ipynb"


def module_path(name):
    return ROOT / "gcvit" / f"{name}.py"


def known_chapters():
    return sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))


# === A chapter and its module ===


def digest_of(body):
    """A few digits that tell one text from another."""
    return sha256(body.encode()).hexdigest()[:8]


def header(name, body):
    """The first lines of a module: where it is from, and the way back."""
    return (
        f"# Generated from book/{name}.ipynb, digest {digest_of(body)}. To "
        f"carry an edit back:\n# {WAY_BACK} {name}\n"
    )


def body_of(text):
    """A module's text without its header, if it has one."""
    found = HEADER.match(text)
    return text[found.end() :] if found else text


def chapter_body(name):
    """The text of a chapter's cells, as the module has them."""
    notebook = nbformat.read(chapter_path(name), as_version=4)
    config = load_jupytext_config(str(chapter_path(name)))
    return jupytext.writes(notebook, "py:percent", config=config)


def module_text(name):
    """The text of the module that a chapter stands for."""
    body = chapter_body(name)
    return header(name, body) + body


def is_edited(name):
    """Whether a module holds an edit that its chapter does not have."""
    path = module_path(name)
    if not path.exists():
        return False
    text = path.read_text("utf-8")
    body = body_of(text)
    is_as_generated = text == header(name, body) + body
    if is_as_generated or not chapter_path(name).exists():
        return not is_as_generated
    return body != chapter_body(name)


def is_chapter_edited(name):
    """Whether a chapter changed after its module was generated."""
    found = HEADER.match(module_path(name).read_text("utf-8"))
    is_known = found and chapter_path(name).exists()
    return bool(is_known) and found[1] != digest_of(chapter_body(name))


def take_module(name):
    """Carry a module's cells into its chapter, which keeps its outputs."""
    path = chapter_path(name)
    config = load_jupytext_config(str(module_path(name)))
    text = body_of(module_path(name).read_text("utf-8"))
    notebook = jupytext.reads(text, "py:percent", config=config)
    if path.exists():
        before = nbformat.read(path, as_version=4)
        notebook = combine_inputs_with_outputs(notebook, before, FORMAT)
    write_chapter(notebook, path)


def take_modules(names):
    """Carry the modules that were edited into their chapters, or none."""
    edited = [name for name in names if is_edited(name)]
    both = [name for name in edited if is_chapter_edited(name)]
    if both:
        sys.exit(
            f"gcvit/{both[0]}.py and book/{both[0]}.ipynb were both edited, "
            "and one edit would be lost. Nothing was written. Repeat the "
            "module's edit in the chapter, then delete the module: "
            "make chapters writes it again."
        )
    for name in edited:
        take_module(name)


def write_chapter(notebook, path):
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("cell_marker", None)
    nbformat.write(notebook, path)


# === Running ===


def texts(notebook):
    """What each cell printed, one text for each cell."""
    return [
        "".join(output.get("text", "") for output in cell.get("outputs", []))
        for cell in notebook.cells
    ]


def execute(notebook):
    """Run a notebook from its first cell.

    Returns:
        Why it did not come to its end, a line; `None` if it did.
    """
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "book")}},
        extra_arguments=KERNEL_OPTIONS,
        record_timing=False,
        coalesce_streams=True,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        first_line = error.evalue.strip().partition("\n")[0]
        return f"a cell failed. {error.ename}: {first_line}"
    except (CellTimeoutError, DeadKernelError) as error:
        return str(error).strip().partition("\n")[0]


def stand_in(stored, new):
    """Find a stand-in where the stored outputs are from the real thing.

    Args:
        stored: a chapter as it is stored.
        new: the same chapter after it ran.

    Returns:
        The line that says so; `None` if no cell does.
    """
    for old_text, text in zip(texts(stored), texts(new)):
        if old_text and STAND_IN not in old_text and STAND_IN in text:
            return next(x for x in text.splitlines() if STAND_IN in x)


def keep_what_is_the_same(stored, new):
    """Give cells their stored outputs back, where nothing counts as new."""
    for old_cell, cell in zip(stored, new, strict=True):
        if cell.cell_type == "code" and outputs.same(
            old_cell.outputs, cell.outputs
        ):
            cell.outputs = old_cell.outputs


def run_chapter(name):
    """Run a chapter from its first cell and store what it shows.

    Returns:
        Why the stored outputs were kept, a line; `None` if they were stored.
    """
    path = chapter_path(name)
    notebook = nbformat.read(path, as_version=4)
    stored = nbformat.read(path, as_version=4)
    fault = execute(notebook)
    if fault:
        return fault
    line = stand_in(stored, notebook)
    if line:
        return (
            "it had to use a stand-in, and the stored outputs are from the "
            f"real thing. It printed: {line}"
        )
    keep_what_is_the_same(stored.cells, notebook.cells)
    write_chapter(notebook, path)


def redraw_map(name):
    """Run a chapter as far as its map of the model, and store that only.

    Returns:
        Why the stored map was kept, a line; `None` if it was stored.
    """
    notebook = nbformat.read(chapter_path(name), as_version=4)
    stored = nbformat.read(chapter_path(name), as_version=4)
    places = [
        place
        for place, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and "plots.model_map(" in cell.source
    ]
    if not places:
        return "it has no cell with plots.model_map."
    place = places[0]
    begin = nbformat.from_dict({**notebook, "cells": []})
    begin.cells = notebook.cells[: place + 1]
    fault = execute(begin)
    if fault:
        return fault
    keep_what_is_the_same([stored.cells[place]], [notebook.cells[place]])
    stored.cells[place].outputs = notebook.cells[place].outputs
    write_chapter(stored, chapter_path(name))


def asked_for(names, from_module):
    """The chapters to work on; an unknown one ends the program."""
    path_of = module_path if from_module else chapter_path
    missing = sorted(name for name in names if not path_of(name).exists())
    if missing:
        what = "module" if from_module else "chapter"
        sys.exit(
            f"{', '.join(missing)}: no such {what}. These chapters are known: "
            f"{', '.join(known_chapters())}."
        )
    return names or known_chapters()


def write_modules(names):
    """Write the modules of chapters, or none if one of them was edited."""
    edited = [name for name in names if is_edited(name)]
    if edited:
        files = ", ".join(f"gcvit/{name}.py" for name in edited)
        sys.exit(
            f"{files}: edited, and the chapter does not have the edit. "
            "Nothing was written. To carry it into the chapter: "
            f"{WAY_BACK} {' '.join(edited)}"
        )
    texts_of_modules = {name: module_text(name) for name in names}
    for name, text in texts_of_modules.items():
        module_path(name).write_text(text, "utf-8")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="chapters; nothing means all")
    work = parser.add_mutually_exclusive_group()
    work.add_argument("--from-module", action="store_true")
    work.add_argument("--maps", action="store_true")
    options = parser.parse_args(arguments)
    # The chapters' outputs are TensorFlow's, whatever this machine prefers.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    names = asked_for(options.names, options.from_module)
    if options.from_module:
        take_modules(names)
    if not options.maps:
        write_modules(names)
    work = redraw_map if options.maps else run_chapter
    failed = {}
    for name in names:
        print(f"running {name}", flush=True)
        fault = work(name)
        if fault:
            failed[name] = fault
    if failed:
        sys.exit(
            "\n".join(
                f"{name}: its stored outputs were kept; {fault}"
                for name, fault in failed.items()
            )
        )


if __name__ == "__main__":
    main()
