"""A chapter runs alone, as in Colab: in an empty folder, without the package.

Simulated is an environment that has all that the book's has, except this
project, and the package that `%pip install` gets from the repository: here it
is a wheel of the files that git knows. Not simulated are Colab's own versions
of TensorFlow and Keras, and the way to GitHub.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest

from tools import stamp
from tools.build_book import ROOT

# It reads what the package carries: weights, and a figure to touch.
CHAPTER = "window_attention"
RUN = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, tracked):
    """The package, built from the files that git knows."""
    tree = tmp_path_factory.mktemp("tree")
    for path in tracked:
        if path.parts[0] not in ("book", "tests"):
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, tree / path)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        + ["--no-build-isolation", "--wheel-dir", tree, tree],
        check=True,
    )
    [path] = tree.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python in an environment with everything but this project."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "gcvit" not in path.name:
            (packages / path.name).symlink_to(path)
    return Path(sysconfig.get_path("scripts", "venv", paths)) / "python"


def test_a_chapter_installs_the_package_and_runs(wheel, python, tmp_path):
    notebook = nbformat.read(ROOT / "book" / f"{CHAPTER}.ipynb", as_version=4)
    first = next(x for x in notebook.cells if x.cell_type == "code")
    from_git = f"git+{stamp.address()}"
    assert f"%pip install -q {from_git}\n" in first.source
    first.source = first.source.replace(from_git, str(wheel))
    where = "import gcvit; print(gcvit.__file__)"
    notebook.cells.append(nbformat.v4.new_code_cell(where))
    nbformat.write(notebook, tmp_path / "chapter.ipynb")
    environment = {
        **{key: os.environ[key] for key in ("PATH", "HOME")},
        "KERAS_BACKEND": "tensorflow",
        "PIP_NO_INDEX": "1",  # all it needs is there
    }
    run = subprocess.run(
        [python, "-c", RUN, "chapter.ipynb"],
        cwd=tmp_path,
        env=environment,
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    ran = nbformat.read(tmp_path / "chapter.ipynb", as_version=4)
    imported = Path(ran.cells[-1].outputs[0].text.strip())
    assert imported.is_relative_to(python.parents[1])
