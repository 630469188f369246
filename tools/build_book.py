"""Build the book from the stored outputs, from nothing, warnings as errors.

    python tools/build_book.py

Then check that no page and no output is missing, and say where to look.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
# Cells with these tags leave no output in the page.
HIDDEN = {"remove-cell", "remove-output"}


def pages():
    """The pages of the table of contents, such as "book/intro"."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    chapters = [page for part in toc["parts"] for page in part["chapters"]]
    return [toc["root"]] + [chapter["file"] for chapter in chapters]


def build():
    shutil.rmtree(ROOT / "_build", ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build"]
    # Autodoc imports the package: TensorFlow's start-up notes are not ours.
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(
        command + [".", "-W", "-n", "--keep-going", "--quiet"],
        cwd=ROOT,
        env={**os.environ, **quiet},
        check=True,
    )


def outputs(path):
    """How many cells of a notebook show something."""
    cells = nbformat.read(path, as_version=4).cells
    return sum(
        bool(cell.get("outputs"))
        and not HIDDEN & set(cell.metadata.get("tags", []))
        for cell in cells
    )


def check_page(page):
    """Complain about a page that is missing or lacks its outputs.

    Jupyter Book 2 builds nothing and says nothing, and a notebook that was
    never run builds without a warning.
    """
    html = SITE / f"{page}.html"
    if not html.exists():
        sys.exit(f"{page}: not built.")
    notebook = ROOT / f"{page}.ipynb"
    if not notebook.exists():
        return
    expected = outputs(notebook)
    found = html.read_text("utf-8").count('class="cell_output')
    if not found or found != expected:
        sys.exit(
            f"{page}: {expected} cells have stored outputs, the page shows "
            f"{found}; run `python tools/chapters.py {notebook.stem}`."
        )


def main():
    build()
    for page in pages():
        check_page(page)
    print(f"The book is at {(SITE / 'index.html').as_uri()}")
    print(f"To serve it: python -m http.server -d {SITE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
