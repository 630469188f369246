"""Regenerate the modules, run the chapters, and store their outputs.

    python tools/chapters.py                        every chapter
    python tools/chapters.py block level            these chapters
    python tools/chapters.py --from-module block    take an edited module back

The chapters are the source. `--from-module` carries what was edited in a
module into its chapter, once, before the rest.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
from jupytext.config import load_jupytext_config
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}
# Otherwise TensorFlow's start-up noise lands in the outputs.
KERNEL_OPTIONS = ["--IPKernelApp.capture_fd_output=False"]
# A cell that could not have its real data or weights says this word.
STAND_IN = "stand-in"


def chapter_path(name):
    return ROOT / "book" / f"{name}.ipynb"


def module_path(name):
    return ROOT / "gcvit" / f"{name}.py"


def module_text(name):
    """The text of the module that a chapter stands for."""
    notebook = nbformat.read(chapter_path(name), as_version=4)
    config = load_jupytext_config(str(chapter_path(name)))
    return jupytext.writes(notebook, "py:percent", config=config)


def take_module(name):
    """Carry a module's cells into its chapter, which keeps its outputs."""
    update = ["--update"] if chapter_path(name).exists() else []
    command = [sys.executable, "-m", "jupytext", "--quiet"]
    formats = ["--from", "gcvit//py:percent", "--to", "book//ipynb"]
    subprocess.run(
        command + formats + update + [module_path(name)], cwd=ROOT, check=True
    )


def texts(notebook):
    """What each cell printed, one text a cell."""
    return [
        "".join(output.get("text", "") for output in cell.get("outputs", []))
        for cell in notebook.cells
    ]


def run_chapter(name):
    """Run a chapter from its first cell and store what it shows."""
    notebook = nbformat.read(chapter_path(name), as_version=4)
    stored = texts(notebook)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "book")}},
        extra_arguments=KERNEL_OPTIONS,
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    for old, new in zip(stored, texts(notebook)):
        if old and STAND_IN not in old and STAND_IN in new:
            sys.exit(
                f"{name}: this run had to use a stand-in; the stored outputs "
                f"are from the real thing, and were kept. It printed: {new}"
            )
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("cell_marker", None)
    nbformat.write(notebook, chapter_path(name))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="chapters; none means all")
    parser.add_argument("--from-module", action="store_true")
    options = parser.parse_args()
    # The chapters' outputs are TensorFlow's, whatever this machine prefers.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    names = options.names or sorted(
        path.stem for path in (ROOT / "book").glob("*.ipynb")
    )
    if options.from_module:
        for name in names:
            take_module(name)
    for name in names:
        module_path(name).write_text(module_text(name))
    for name in names:
        print(f"running {name}", flush=True)
        run_chapter(name)


if __name__ == "__main__":
    main()
