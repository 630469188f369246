"""Each list has one home; what repeats it is held against it here."""

import importlib
import itertools
import re
import subprocess
from pathlib import Path

import pytest

import gcvit
from gcvit import plots
from tools import chapters, new_chapter

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    return (ROOT / name).read_text("utf-8")


# === The chapters, in the order of _toc.yml ===


def test_the_numbered_chapters_are_all_chapters():
    assert sorted(new_chapter.order()) == chapters.known_chapters()


def test_the_front_page_lists_the_chapters_in_order():
    expected = list(enumerate(new_chapter.order(), start=1))
    assert new_chapter.listed_on_front_page() == expected
    assert new_chapter.MARK not in read("book/intro.md")


def test_each_chapter_leads_to_the_next():
    order = new_chapter.order()
    leads = {name: new_chapter.next_chapter(name) for name in order}
    assert leads == dict(zip(order, [*order[1:], None]))


# What "ten chapters" would be: true until somebody adds one.
COUNTED = re.compile(
    r"\b(\d+|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    r"thirteen|fourteen|fifteen)\s+(\w+\s+)?chapters\b",
    re.IGNORECASE,
)


def test_nobody_counts_the_chapters():
    listed = subprocess.run(
        ["git", "ls-files", "*.md", "*.cff", "*.toml", "*.ipynb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = listed.stdout.splitlines()
    assert {"README.md", "CHANGELOG.md", "book/intro.md"} <= set(files)
    for name in files:
        found = COUNTED.search(read(name))
        assert not found, f"{name}: {found[0]!r}"


# === The map of the model ===


def test_the_map_shows_each_chapter():
    assert {owner for owner, *_ in plots.BOXES} == set(new_chapter.order())


def test_the_maps_boxes_have_room():
    width = 12
    for row, name in enumerate(plots.ROWS):
        boxes = [
            (x, x + w, label) for _, label, x, r, w in plots.BOXES if r == row
        ]
        assert boxes, f"{name}: an empty row"
        for left, right in itertools.pairwise(sorted(boxes)):
            assert left[1] <= right[0], f"{left[2]!r} covers {right[2]!r}"
        assert min(boxes)[0] >= 0 and max(boxes)[1] <= width, name
    assert {row for *_, row, _ in plots.BOXES} == set(range(len(plots.ROWS)))


def test_a_chapter_without_a_box_is_named():
    known = ", ".join(chapters.known_chapters())
    with pytest.raises(ValueError, match=f"no box for 'nonsense'.* {known}"):
        plots.model_map("nonsense")


# === The public names ===

ENTRY = re.compile(
    r"^\.\. (?:(currentmodule)|auto\w+|py:data):: ([\w.]+)$", re.M
)


def documented():
    """The full name of each entry of the API page."""
    module, names = None, []
    for is_module, name in ENTRY.findall(read("book/api.md")):
        if is_module:
            module = name
        else:
            names.append(f"{module}.{name}")
    return names


def find(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def public_names():
    """What may be relied upon, by full name.

    The names in `gcvit.__all__`, those that are imported when they are asked
    for, and those that the changelog promises.
    """
    promise = read("CHANGELOG.md").partition("\n## ")[0]
    promised = re.findall(r"`(gcvit(?:\.[a-z]\w*)+)`", promise)
    own = [*gcvit.__all__, *getattr(gcvit, "LATER", [])]
    return {f"gcvit.{name}" for name in own} | set(promised)


def test_each_public_name_is_on_the_api_page():
    entries = documented()
    assert len(set(entries)) == len(entries)
    shown = [find(name) for name in entries]
    missing = [
        name
        for name in public_names()
        if not any(find(name) is thing for thing in shown)
    ]
    assert not missing


def test_each_entry_of_the_api_page_is_public():
    public = public_names()
    for name in documented():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
        assert not attribute.startswith("_"), name
        # What is in a module of its own, an entry says by being in it.
        assert module != "gcvit" or name in public, name


# === The tests ===


def test_contributing_says_what_each_test_guards():
    files = [*ROOT.glob("tests/test_*.py"), *ROOT.glob("tests/site/test_*.py")]
    tests = sorted(path.relative_to(ROOT).as_posix() for path in files)
    row = re.compile(r"^\| `(tests/[\w/]+\.py)` \| (.+) \|$", re.M)
    rows = row.findall(read("CONTRIBUTING.md"))
    assert sorted(name for name, _ in rows) == tests
    assert all(len(what) > 10 for _, what in rows)
