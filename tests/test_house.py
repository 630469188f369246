"""The plan of the house: which modules there are, and who may use whom."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gcvit"
# Plain modules, written by hand, from which chapters are built.
ARMOUR = {
    "answer_files",
    "answer_pictures",
    "answer_rows",
    "answers",
    "arguments",
    "checkpoints",
    "devices",
    "downloads",
    "drawn_flowers",
    "examples",
    "exporting",
    "fast_ops",
    "flower_sources",
    "folders",
    "hub",
    "limits",
    "pictures",
    "pipelines",
    "processes",
    "quantization",
    "recomputation",
    "resizing",
    "runs",
    "saved_models",
    "shares",
    "sizes",
    "stored_tensors",
    "tasks",
    "variants",
}
# What readers and figures use: these may import anything.
BY_HAND = {"__init__", "check", "plots"}
LINES_OF_A_METHOD = 40
LINES_OF_A_CELL = 180


def chapters():
    """The chapters that are modules, in the order of the book."""
    listed = re.findall(
        r"file: book/(\w+)", (ROOT / "_toc.yml").read_text("utf-8")
    )
    return [name for name in listed if (ROOT / f"book/{name}.ipynb").exists()]


MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


@cache
def tree_of(module):
    return ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))


def imported(module):
    """The names of modules, and of private things, that a module imports."""
    public = set()
    for node in ast.walk(tree_of(module)):
        names = getattr(node, "names", [])
        names = [x.name for x in names if isinstance(x, ast.alias)]
        if isinstance(node, ast.Import):
            public |= {x.split(".")[1] for x in names if "gcvit." in x}
            assert "gcvit" not in names, "import what is meant"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative"
            package, *module_in_it = node.module.split(".")
            if package == "gcvit":
                public |= set(module_in_it or names)
    return public


def test_modules_are_the_chapters_and_the_armour():
    assert sorted({*chapters(), *ARMOUR, *BY_HAND}) == MODULES


@pytest.mark.parametrize("module", sorted(ARMOUR))
def test_armour_is_built_from_armour(module):
    assert imported(module) <= ARMOUR - {module}


@pytest.mark.parametrize("module", chapters())
def test_chapter_is_built_from_armour_and_earlier_chapters(module):
    earlier = chapters()[: chapters().index(module)]
    assert imported(module) <= ARMOUR | set(earlier)


def names_used(module):
    """Every name and attribute in a module, and those that it defines."""
    used, defined = set(), set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute):
            (defined if isinstance(node.ctx, ast.Store) else used).add(
                node.attr
            )
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            used |= {x.name for x in node.names}
    return used, defined


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("module", MODULES)
def test_nobody_uses_a_siblings_private_name(module):
    used, own = names_used(module)
    siblings = [names_used(other)[1] for other in MODULES if other != module]
    theirs = set().union(*siblings) - own
    assert not [name for name in used & theirs if is_private(name)]


# === Measures ===


def length(node):
    first = min([node.lineno, *(x.lineno for x in node.decorator_list)])
    return node.end_lineno - first + 1


@pytest.mark.parametrize("module", chapters())
def test_methods_of_a_chapter_fit_on_a_screen(module):
    for node in tree_of(module).body:
        for part in getattr(node, "body", []):
            if isinstance(node, ast.ClassDef) and hasattr(part, "args"):
                assert length(part) <= LINES_OF_A_METHOD, part.name


@pytest.mark.parametrize("module", chapters())
def test_cell_of_a_class_is_short(module):
    for node in tree_of(module).body:
        if isinstance(node, ast.ClassDef):
            assert length(node) <= LINES_OF_A_CELL, node.name
