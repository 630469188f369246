"""Chapters and modules are the same text, and the stored outputs are whole."""

import re
from pathlib import Path

import nbformat
import pytest

from tools import chapters, new_chapter

ROOT = Path(__file__).resolve().parents[1]
NAMES = chapters.known_chapters()


def code_cells(name):
    notebook = nbformat.read(chapters.chapter_path(name), as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_demo(cell):
    return "active-ipynb" in cell.metadata.get("tags", [])


def test_what_is_generated_has_its_chapter():
    generated = [
        path.stem
        for path in (ROOT / "gcvit").glob("*.py")
        if chapters.HEADER.match(path.read_text("utf-8"))
    ]
    assert sorted(generated) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_module_is_its_chapter(name):
    text = chapters.module_text(name)
    assert chapters.module_path(name).read_text() == text, (
        f"gcvit/{name}.py is not book/{name}.ipynb without its outputs; "
        f"run: make chapters NAMES={name}"
    )
    compile(text, name, "exec")


@pytest.mark.parametrize("name", NAMES)
def test_chapter_was_run_from_top_to_bottom(name):
    counts = [cell.execution_count for cell in code_cells(name)]
    assert counts == list(range(1, len(counts) + 1)), (
        f"run: make chapters NAMES={name}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_fit_to_publish(name):
    assert chapters.chapter_path(name).stat().st_size < 500_000
    for cell in code_cells(name):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source
            assert not re.search(r"/(home|root|tmp|work)/", str(output))


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_says_what_is_to_be_seen(name):
    for cell in code_cells(name):
        data = [output.get("data", {}) for output in cell.outputs]
        if any(key.startswith("image/") for item in data for key in item):
            figure = cell.metadata.get("mystnb", {})
            assert {"image", "figure"} <= set(figure), cell.source
            assert figure["image"]["alt"], cell.source
            assert figure["figure"]["caption"], cell.source
            assert figure["figure"]["name"].startswith("figure-"), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_each_chapter_says_where_you_are(name):
    maps = [c.source for c in code_cells(name) if "model_map" in c.source]
    assert maps == [f'plots.model_map("{name}")']


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_to_write(name):
    text = chapters.chapter_path(name).read_text("utf-8")
    assert new_chapter.MARK not in text, f"search book/{name}.ipynb for it"


@pytest.mark.parametrize("name", NAMES)
def test_each_paper_is_in_the_references(name):
    references = (ROOT / "book" / "references.md").read_text("utf-8")
    papers = re.findall(r"\b\d{4}\.\d{5}\b", chapters.module_text(name))
    for paper in papers:
        assert f"arxiv.org/abs/{paper}" in references, paper


@pytest.mark.parametrize("name", NAMES)
def test_code_fits_the_page(name):
    for cell in code_cells(name):
        lines = cell.source.splitlines()
        too_wide = [line for line in lines if len(line) > 79]
        assert not too_wide, f"{name}: {too_wide}"
        assert len(lines) <= 40 or not is_demo(cell), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_each_chapter_starts_by_installing_the_package(name):
    first = code_cells(name)[0]
    assert is_demo(first)
    assert "import gcvit" in first.source and "%pip install" in first.source
    assert first.source == code_cells(NAMES[0])[0].source


@pytest.mark.parametrize("name", NAMES)
def test_each_chapter_has_a_proof_and_breaks_it(name):
    source = "\n".join(cell.source for cell in code_cells(name))
    assert "assert difference < check.TOLERANCE" in source
    assert "assert difference > check.TOLERANCE" in source
    solutions = [
        cell
        for cell in code_cells(name)
        if "hide-cell" in cell.metadata.get("tags", [])
    ]
    assert solutions and all(cell.outputs for cell in solutions)


def test_the_flowers_that_are_published_are_photographs():
    notebook = nbformat.read(chapters.chapter_path("flowers"), as_version=4)
    printed = "".join(chapters.texts(notebook))
    assert "3,303 pictures to train" in printed
    assert chapters.STAND_IN not in printed
