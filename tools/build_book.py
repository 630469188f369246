"""Build the book from the stored outputs, from nothing, warnings as errors.

    python tools/build_book.py

Stop at a chapter that was not run to its end, and at a figure that does not say
what is to be seen. Then check that no page and no output is missing, and say
where to look. What the chapter `live` fetches comes into the site, too; without
it the book is whole, and that page shows stills.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
# Autodoc imports the package: TensorFlow's start-up notes are not ours.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
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
    subprocess.run(
        command + [".", "-W", "-n", "--keep-going", "--quiet"],
        cwd=ROOT,
        env={**os.environ, **QUIET},
        check=True,
    )


def add_live():
    """Put what the chapter `live` fetches into the site."""
    command = [sys.executable, ROOT / "tools" / "live.py"]
    subprocess.run(command, env={**os.environ, **QUIET}, check=True)


def faults(notebook):
    """What is wrong with a chapter's stored outputs, cell by cell."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        errors = [x for x in cell.outputs if x.output_type == "error"]
        kinds = " ".join(
            key for x in cell.outputs for key in x.get("data", {})
        )
        image = cell.metadata.get("mystnb", {}).get("image", {})
        if cell.execution_count is None:
            fault = "was never run"
        elif errors:
            fault = f"ended in {errors[0].ename}: {errors[0].evalue}"
        elif "image/" in kinds and not image.get("alt"):
            fault = "shows a figure without alternative text"
        else:
            continue
        first_line = cell.source.partition("\n")[0]
        yield f"the cell `{first_line}` {fault}"


def check_chapter(path):
    """Complain about outputs that cannot be published.

    Args:
        path: a chapter's notebook.
    """
    found = list(faults(nbformat.read(path, as_version=4)))
    if found:
        sys.exit(
            "\n".join(f"{path.name}: {fault}." for fault in found)
            + f"\nMend it, and run: make chapters NAMES={path.stem}. The "
            "alternative text is in a cell's metadata, mystnb: image: alt."
        )


def outputs(path):
    """How many cells of a notebook show something."""
    cells = nbformat.read(path, as_version=4).cells
    return sum(
        bool(cell.get("outputs"))
        and not HIDDEN & set(cell.metadata.get("tags", []))
        for cell in cells
    )


def figures_without_text(html):
    """The files of the pictures that lack an alternative text.

    A figure without one carries the name of its file instead.
    """
    figures = re.findall(r"<img [^>]*_images/[^>]*>", html)
    named = r'alt="[^"]+(?<!\.svg)(?<!\.png)(?<!\.jpg)"'
    return [
        re.search(r'src="([^"]*)"', figure)[1]
        for figure in figures
        if not re.search(named, figure)
    ]


def check_page(page):
    """Complain about a page that is missing or lacks its outputs.

    Jupyter Book 2 builds nothing and says nothing, and a notebook that was
    never run builds without a warning.
    """
    html = SITE / f"{page}.html"
    if not html.exists():
        sys.exit(f"{page}: not built.")
    silent = figures_without_text(html.read_text("utf-8"))
    if silent:
        sys.exit(
            f"{page}: no alternative text for {', '.join(silent)}; say in "
            "`:alt:` what is to be seen."
        )
    notebook = ROOT / f"{page}.ipynb"
    if not notebook.exists():
        return
    expected = outputs(notebook)
    found = html.read_text("utf-8").count('class="cell_output')
    if not found or found != expected:
        sys.exit(
            f"{page}: {expected} cells have stored outputs, the page shows "
            f"{found}; run: make chapters NAMES={notebook.stem}"
        )


def main():
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        check_chapter(path)
    build()
    add_live()
    for page in pages():
        check_page(page)
    print(f"The book is at {(SITE / 'index.html').as_uri()}")
    print(f"To serve it: python -m http.server -d {SITE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
