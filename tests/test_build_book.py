"""The build stops at what cannot be published, and names it."""

import json

import nbformat
import pytest
from nbformat import v4

from tools import build_book, live

PICTURE = v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})
ERROR = v4.new_output("error", ename="ValueError", evalue="too wide")
PRINTED = v4.new_output("stream", text="7\n")


@pytest.fixture
def chapter(tmp_path):
    """Writes a chapter whose second cell has the given parts."""

    def write(**parts):
        cells = [
            v4.new_code_cell("x = 7", execution_count=1),
            v4.new_code_cell(
                "print(x)\nx", **{"execution_count": 2, "outputs": []} | parts
            ),
        ]
        path = tmp_path / "block.ipynb"
        nbformat.write(v4.new_notebook(cells=cells), path)
        return path

    return write


def test_a_chapter_that_was_run_passes(chapter):
    build_book.check_chapter(chapter(outputs=[PRINTED]))
    seen = {"mystnb": {"image": {"alt": "A cat."}}}
    build_book.check_chapter(chapter(outputs=[PICTURE], metadata=seen))


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"execution_count": None}, "was never run"),
        ({"outputs": [ERROR]}, "ended in ValueError: too wide"),
        ({"outputs": [PICTURE]}, "shows a figure without alternative text"),
    ],
)
def test_the_cell_at_fault_is_named(chapter, parts, fault):
    message = rf"^block\.ipynb: the cell `print\(x\)` {fault}\.\n"
    with pytest.raises(SystemExit, match=message):
        build_book.check_chapter(chapter(**parts))


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Writes a page, "block", and the site and the sources around it."""
    monkeypatch.setattr(build_book, "ROOT", tmp_path)
    monkeypatch.setattr(build_book, "SITE", tmp_path)

    def write(html):
        (tmp_path / "block.html").write_text(html)

    return write


@pytest.mark.parametrize("alt", ["", 'alt=""', 'alt="figures/cat.svg"'])
def test_the_figure_without_alternative_text_is_named(page, alt):
    seen = '<img alt="A cat." src="_images/a.svg" />'
    page(f'{seen}<img {alt} src="_images/cat.svg" />')
    with pytest.raises(SystemExit, match=r"^block: .+ for _images/cat\.svg;"):
        build_book.check_page("block")
    page(seen)
    build_book.check_page("block")


def test_the_page_without_its_outputs_is_named(page, chapter):
    chapter(outputs=[PRINTED])
    page("<p>No output.</p>")
    with pytest.raises(
        SystemExit, match="^block: 1 cells .+ the page shows 0"
    ):
        build_book.check_page("block")
    page('<div class="cell_output docutils">7</div>')
    build_book.check_page("block")


def test_the_page_that_was_not_built_is_named(page):
    with pytest.raises(SystemExit, match="^block: not built"):
        build_book.check_page("block")


def test_without_a_network_the_page_live_knows_that_it_has_no_model(
    tmp_path, monkeypatch
):
    (tmp_path / "_static" / "live").mkdir(parents=True)
    monkeypatch.setattr(live, "install_runtime", lambda: "no network")
    assert live.add_to(tmp_path) == "no network"
    [path] = tmp_path.rglob("*.json")
    assert json.loads(path.read_text("utf-8"))["files"] is None


def test_a_runtime_that_cannot_be_installed_is_said(tmp_path, monkeypatch):
    lock = {"name": "x", "lockfileVersion": 3, "packages": {}}
    (tmp_path / "package-lock.json").write_text(json.dumps(lock))
    monkeypatch.setattr(live, "RUNTIME", tmp_path)  # without package.json
    assert "npm" in live.install_runtime()
