"""What `make chapters` writes, what it keeps, and what it refuses."""

import nbformat
import pytest
from nbformat import v4

from tools import chapters

CODE = "def one():\n    return 1"
EDITED = "def one():\n    return 11"


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository with two chapters, "first" and "second", as generated."""
    root = chapters.ROOT
    (tmp_path / "pyproject.toml").write_bytes(
        (root / "pyproject.toml").read_bytes()
    )
    (tmp_path / "book").mkdir()
    (tmp_path / "gcvit").mkdir()
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # main sets it
    for name in ("first", "second"):
        cells = [
            v4.new_markdown_cell(f"# {name}\n\nA promise."),
            v4.new_code_cell(CODE, execution_count=1),
            demo("print(one(), '8s')", "1 8s\n"),
        ]
        store(name, v4.new_notebook(cells=cells))
    chapters.write_modules(["first", "second"])
    return tmp_path


def demo(source, printed):
    return v4.new_code_cell(
        source,
        metadata={"tags": ["active-ipynb"]},
        execution_count=2,
        outputs=[v4.new_output("stream", text=printed)],
    )


def store(name, notebook):
    chapters.write_chapter(notebook, chapters.chapter_path(name))


def read(name):
    return nbformat.read(chapters.chapter_path(name), as_version=4)


def edit_module(name, old="return 1", new="return 11"):
    path = chapters.module_path(name)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def edit_chapter(name, source=EDITED):
    notebook = read(name)
    notebook.cells[1].source = source
    store(name, notebook)


def everything(folder):
    return {path: path.read_bytes() for path in folder.glob("*/*")}


# === A module and its chapter ===


def test_a_module_says_where_it_is_from(house):
    first_line, *rest = (house / "gcvit/first.py").read_text().splitlines()
    assert "Generated from book/first.ipynb" in first_line
    assert f"{chapters.WAY_BACK} first" in rest[0]
    values = {}
    exec((house / "gcvit/first.py").read_text(), values)
    assert values["__doc__"] == "\n# first\n\nA promise.\n"


def test_an_edited_module_is_not_overwritten(house):
    edit_module("second")
    edit_chapter("first")
    before = everything(house)
    with pytest.raises(SystemExit, match=r"^gcvit/second\.py: edited") as end:
        chapters.main(["first", "second"])
    assert f"{chapters.WAY_BACK} second" in str(end.value)
    assert everything(house) == before


def test_an_edited_chapter_overwrites_its_module(house):
    edit_chapter("first")
    chapters.write_modules(["first"])
    assert EDITED in (house / "gcvit/first.py").read_text()


def test_a_missing_module_is_written(house):
    before = everything(house)
    (house / "gcvit/first.py").unlink()
    chapters.write_modules(["first"])
    assert everything(house) == before


def test_a_module_without_its_first_lines(house):
    path = house / "gcvit/first.py"
    before = path.read_text()
    path.write_text(chapters.body_of(before))
    chapters.write_modules(["first"])
    assert path.read_text() == before
    path.write_text(chapters.body_of(before).replace("return 1", "return 2"))
    with pytest.raises(SystemExit, match=r"^gcvit/first\.py: edited"):
        chapters.write_modules(["first"])


def test_an_edited_module_goes_into_its_chapter(house):
    edit_module("first")
    outputs = read("first").cells[2].outputs
    chapters.take_modules(["first", "second"])
    sources = [cell.source for cell in read("first").cells]
    assert sources == ["# first\n\nA promise.", EDITED, "print(one(), '8s')"]
    assert read("first").cells[2].outputs == outputs
    chapters.write_modules(["first", "second"])
    text = chapters.module_path("first").read_text()
    assert text == chapters.module_text("first")


def test_a_module_without_an_edit_leaves_the_chapters_edit(house):
    edit_chapter("first")
    chapters.take_modules(["first"])
    assert read("first").cells[1].source == EDITED


def test_two_edits_are_not_made_one(house):
    edit_chapter("second", "def one():\n    return 1.0")
    edit_module("first")
    edit_module("second")
    before = everything(house)
    with pytest.raises(SystemExit, match="second.ipynb were both edited"):
        chapters.take_modules(["first", "second"])
    assert everything(house) == before


def test_a_chapter_can_begin_as_a_module(house):
    text = chapters.body_of(chapters.module_path("first").read_text())
    (house / "gcvit/third.py").write_text(text)
    chapters.take_modules(["third"])
    chapters.write_modules(["third"])
    assert read("third").cells[1].source == CODE
    first = (house / "gcvit/third.py").read_text()
    assert first.startswith("# Generated from book/third.ipynb")


# === Running ===


@pytest.mark.parametrize("more", [[], ["--from-module"], ["--maps"]])
def test_an_unknown_chapter_gets_the_list_of_known_ones(house, more):
    with pytest.raises(SystemExit) as end:
        chapters.main(["frist", *more])
    assert "frist: no such" in end.value.code
    assert end.value.code.endswith("known: first, second.")
    assert "\n" not in end.value.code


@pytest.fixture
def execute(monkeypatch):
    """Chapters run by this instead of a kernel: a function of the notebook."""

    def use(function):
        monkeypatch.setattr(chapters, "execute", function)

    return use


def test_a_chapter_that_fails_does_not_stop_the_others(house, execute, capsys):
    def fail_in_first(notebook):
        notebook.cells[2].outputs[0].text = "2\n"
        if "first" in notebook.cells[0].source:
            return "a cell failed. ValueError: no"

    execute(fail_in_first)
    edit_chapter("first")
    before = read("first")
    with pytest.raises(SystemExit) as end:
        chapters.main([])
    assert end.value.code == (
        "first: its stored outputs were kept; a cell failed. ValueError: no"
    )
    assert read("first") == before
    assert read("second").cells[2].outputs[0].text == "2\n"
    assert capsys.readouterr().out == "running first\nrunning second\n"


def test_each_chapter_that_fails_has_a_line(house, execute):
    execute(lambda notebook: "no network")
    with pytest.raises(SystemExit) as end:
        chapters.main([])
    lines = end.value.code.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["first", "second"]


def test_a_stand_in_replaces_nothing_real(house, execute):
    def take_stand_in(notebook):
        text = "reading\na stand-in for the photographs\n"
        notebook.cells[2].outputs[0].text = text

    execute(take_stand_in)
    before = everything(house)
    with pytest.raises(SystemExit, match="printed: a stand-in for the photo"):
        chapters.main(["first"])
    assert everything(house) == before


def test_a_second_run_changes_no_file(house, execute):
    def take_longer(notebook):
        notebook.cells[2].outputs[0].text = "1 12s\n"

    execute(take_longer)
    before = everything(house)
    chapters.main([])
    assert everything(house) == before


def test_only_the_map_is_redrawn(house, execute):
    notebook = read("first")
    picture = demo('plots.model_map("first")', "old map\n")
    notebook.cells.insert(2, picture)
    store("first", notebook)
    chapters.write_modules(["first"])

    def draw(notebook):
        assert len(notebook.cells) == 3
        notebook.cells[2].outputs[0].text = "new map\n"

    execute(draw)
    chapters.main(["first", "--maps"])
    cells = read("first").cells
    assert [x.outputs[0].text for x in cells[2:]] == ["new map\n", "1 8s\n"]


def test_a_kernel_says_what_failed(house):
    cells = [v4.new_code_cell('raise ValueError("too\\nwide")')]
    notebook = v4.new_notebook(cells=cells, metadata=chapters.METADATA)
    assert chapters.execute(notebook) == "a cell failed. ValueError: too"
    cells = [v4.new_code_cell("import os; os._exit(1)")]
    notebook = v4.new_notebook(cells=cells, metadata=chapters.METADATA)
    assert "ernel died" in chapters.execute(notebook)
