"""A chapter that was laid down runs, has its place, and says what is missing."""

import contextlib
import io
import json
import re
import shutil
from inspect import signature

import nbformat
import pytest
import test_chapters
import test_lists
from nbformat import v4

from gcvit import plots
from tools import chapters, new_chapter

# No name that somebody would give a chapter.
NAME, TITLE = "laid_down_by_a_test", "Laid down by a test"
# The tests of any one chapter.
GENERIC = [
    test
    for name, test in vars(test_chapters).items()
    if name.startswith("test_") and "name" in signature(test).parameters
]


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A copy of the book and the package, to add a chapter to."""
    for folder in ("book", "gcvit"):
        (tmp_path / folder).mkdir()
        for path in (chapters.ROOT / folder).iterdir():
            if path.suffix in (".ipynb", ".py", ".md"):
                shutil.copy(path, tmp_path / folder)
    for name in ("_toc.yml", "pyproject.toml"):
        shutil.copy(chapters.ROOT / name, tmp_path)
    for module in (chapters, new_chapter, test_chapters, test_lists):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def everything(folder):
    return {path: path.read_bytes() for path in folder.glob("*/*")}


def run_here(name):
    """Run a chapter's code in this process, and store what it prints."""
    path = chapters.chapter_path(name)
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    names = {}
    for count, cell in enumerate(cells, start=1):
        cell.execution_count = count
        source = re.sub(r"^( *)%.*", r"\1pass", cell.source, flags=re.M)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(source.replace("plots.use_style()", ""), names)
        if "model_map" in source:
            picture = {"image/svg+xml": "<svg></svg>"}
            cell.outputs = [v4.new_output("display_data", picture)]
        elif printed.getvalue():
            text = printed.getvalue()
            cell.outputs = [v4.new_output("stream", text=text)]
    nbformat.write(notebook, path)


@pytest.mark.parametrize("after", new_chapter.order())
def test_it_has_its_place_behind_any_chapter(house, after):
    order = new_chapter.order()
    end = new_chapter.read_chapter(after).cells[-1].source
    new_chapter.lay_down(NAME, TITLE, after)
    order.insert(order.index(after) + 1, NAME)
    assert new_chapter.order() == order
    test_lists.test_the_numbered_chapters_are_all_chapters()
    test_lists.test_each_chapter_leads_to_the_next()
    listed = new_chapter.listed_on_front_page()
    assert listed == list(enumerate(order, start=1))
    # What was said of the chapter behind it is said in it.
    paragraph = end.partition("\n\n")[0]
    last = new_chapter.read_chapter(NAME).cells[-1].source
    assert last.startswith(paragraph)
    before = new_chapter.read_chapter(after).cells[-1].source
    assert paragraph not in before
    assert before.endswith(end.partition("\n\n")[2])
    for name in (after, NAME):
        test_chapters.test_module_is_its_chapter(name)


def test_other_cells_stay_as_they_are(house):
    before = new_chapter.read_chapter("block")
    new_chapter.lay_down(NAME, TITLE, "block")
    after = new_chapter.read_chapter("block")
    assert after.cells[:-1] == before.cells[:-1]


def write_marked(path):
    """What an author does in the marked places of a file."""
    text = path.read_text("utf-8")
    assert new_chapter.MARK in text
    path.write_text(text.replace(new_chapter.MARK, "Written:"), "utf-8")


def test_it_runs_and_suits_the_tests_of_each_chapter(house, monkeypatch):
    new_chapter.lay_down(NAME, TITLE, "block")
    write_marked(chapters.chapter_path(NAME))
    chapters.write_modules([NAME])
    *others, (owner, label, x, row, width) = plots.BOXES
    half = width / 2  # a neighbour shrinks to make room
    boxes = [(owner, label, x, row, half), (NAME, TITLE, x + half, row, half)]
    monkeypatch.setattr(plots, "BOXES", [*others, *boxes])
    run_here(NAME)
    assert len(GENERIC) >= 10
    for test in GENERIC:
        test(NAME)
    test_lists.test_the_map_shows_each_chapter()
    test_lists.test_the_maps_boxes_have_room()


def test_what_is_left_to_write_is_found(house):
    new_chapter.lay_down(NAME, TITLE, "block")
    for name in (NAME, "block"):
        with pytest.raises(AssertionError, match="search book/"):
            test_chapters.test_nothing_is_left_to_write(name)
        write_marked(chapters.chapter_path(name))
        test_chapters.test_nothing_is_left_to_write(name)
    with pytest.raises(AssertionError):
        test_lists.test_the_front_page_lists_the_chapters_in_order()


def test_without_a_box_it_is_missing_on_the_map(house):
    new_chapter.lay_down(NAME, TITLE, "block")
    with pytest.raises(AssertionError):
        test_lists.test_the_map_shows_each_chapter()
    with pytest.raises(ValueError, match=f"no box for '{NAME}'"):
        run_here(NAME)


@pytest.mark.parametrize(
    ("name", "after", "message"),
    [
        ("Cross-Attention", "block", "cannot be a chapter's name"),
        ("lambda", "block", "cannot be a chapter's name"),
        ("glossary", "block", "glossary is there already"),
        ("check", "block", "check is there already"),
        ("level", "block", "level is there already"),
        (NAME, "blok", "'blok' is not a chapter. These are known: squeeze_ex"),
    ],
)
def test_what_cannot_be_a_chapter_changes_nothing(house, name, after, message):
    before = everything(house)
    with pytest.raises(SystemExit, match=message):
        new_chapter.lay_down(name, TITLE, after)
    assert everything(house) == before


def test_an_edited_neighbour_is_not_overwritten(house):
    path = chapters.module_path("block")
    path.write_text(path.read_text() + "\n# an edit\n")
    before = everything(house)
    with pytest.raises(SystemExit, match="--from-module block"):
        new_chapter.lay_down(NAME, TITLE, "block")
    assert everything(house) == before


def test_the_last_one_and_its_title_are_not_asked_for(
    house, monkeypatch, capsys
):
    last = new_chapter.order()[-1]
    monkeypatch.setattr("sys.argv", ["new_chapter.py", NAME])
    new_chapter.main()
    assert new_chapter.order()[-2:] == [last, NAME]
    cells = new_chapter.read_chapter(NAME).cells
    assert cells[0].source.startswith(f"# {TITLE}\n")
    said = capsys.readouterr().out
    label = json.dumps(TITLE.replace(" ", "\n"))
    assert f'("{NAME}", {label}, x, row, width)' in said
    assert f"make chapters NAMES={NAME}" in said
