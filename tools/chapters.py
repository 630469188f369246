"""Regenerate the modules, run the chapters, and store their outputs.

    python tools/chapters.py                        every chapter
    python tools/chapters.py block level            these chapters
    python tools/chapters.py --from-module block    take an edited module back

The chapters are the source. `--from-module` carries what was edited in a
module into its chapter, once, before the rest. A module whose text was edited
is never overwritten: its first line knows what was generated.
"""

import argparse
import os
import sys
from hashlib import sha256
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import combine_inputs_with_outputs
from jupytext.config import load_jupytext_config
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

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


def chapter_path(name):
    return ROOT / "book" / f"{name}.ipynb"


def module_path(name):
    return ROOT / "gcvit" / f"{name}.py"


def known_chapters():
    return sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))


# === A chapter and its module ===


def header(name, body):
    """The first lines of a module: where it is from, and the way back."""
    digest = sha256(body.encode()).hexdigest()[:8]
    return (
        f"# Generated from book/{name}.ipynb, digest {digest}. To carry an "
        f"edit back:\n# {WAY_BACK} {name}\n"
    )


def body_of(text):
    """A module's text without its header, if it has one."""
    if not text.startswith("# Generated from "):
        return text
    return text.split("\n", 2)[2]


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
    return not is_as_generated and body != chapter_body(name)


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


def run_chapter(name):
    """Run a chapter from its first cell and store what it shows.

    Returns:
        Why the stored outputs were kept, a line; `None` if they were stored.
    """
    path = chapter_path(name)
    notebook = nbformat.read(path, as_version=4)
    stored = nbformat.read(path, as_version=4)
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
        return f"a cell failed. {error.ename}: {error.evalue}"
    for old, new in zip(texts(stored), texts(notebook)):
        if old and STAND_IN not in old and STAND_IN in new:
            return (
                "it had to use a stand-in, and the stored outputs are from "
                f"the real thing. It printed: {new.splitlines()[0]}"
            )
    for old, new in zip(stored.cells, notebook.cells):
        if new.cell_type == "code" and outputs.same(old.outputs, new.outputs):
            new.outputs = old.outputs
    write_chapter(notebook, path)


def asked_for(names, from_module):
    """The chapters to work on; an unknown one ends the program."""
    unknown = sorted(set(names) - set(known_chapters()))
    if from_module:  # a new chapter can begin as a module
        unknown = [name for name in unknown if not module_path(name).exists()]
    if unknown:
        sys.exit(
            f"{', '.join(unknown)}: no such chapter. These are known: "
            f"{', '.join(known_chapters())}."
        )
    return names or known_chapters()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="chapters; nothing means all")
    parser.add_argument("--from-module", action="store_true")
    options = parser.parse_args()
    # The chapters' outputs are TensorFlow's, whatever this machine prefers.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    names = asked_for(options.names, options.from_module)
    if options.from_module:
        for name in names:
            take_module(name)
    edited = [name for name in names if is_edited(name)]
    if edited:
        sys.exit(
            f"gcvit/{edited[0]}.py holds an edit that its chapter does not "
            f"have. Nothing was written. To carry it into the chapter: "
            f"{WAY_BACK} {' '.join(edited)}"
        )
    for name in names:
        module_path(name).write_text(module_text(name), "utf-8")
    failed = {}
    for name in names:
        print(f"running {name}", flush=True)
        fault = run_chapter(name)
        if fault:
            failed[name] = fault
            print(f"{name}: {fault}", flush=True)
    if failed:
        sys.exit(
            f"not run to the end, outputs kept as they were: "
            f"{', '.join(failed)}."
        )


if __name__ == "__main__":
    main()
