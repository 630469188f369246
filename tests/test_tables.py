"""The tables of the architecture and the tensors' names are true and current."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import stored_arrays

from gcvit.model import GCViT
from gcvit.variants import ROWS

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
sys.path.insert(0, str(ROOT / "tools"))
import tables

XXTINY_PARTS = {
    "stem": 45_632,
    "level 0": 180_964,
    "level 1": 688_456,
    "level 2": 5_170_608,
    "level 3": 5_395_744,
    "norm": 1_024,
    "head": 513_000,
    "whole model": 11_995_428,
}


def rows_of(name):
    """The cells of a stored table, without Markdown's marks."""
    lines = (tables.FOLDER / f"{name}.md").read_text("utf-8").splitlines()
    rows = [line[2:-2] for line in lines if line.startswith("| ")]
    return [re.sub("[*`]", "", row).split(" | ") for row in rows]


def number(cell):
    return int(cell.replace(",", ""))


# === The stored tables ===


@pytest.mark.parametrize("name", tables.TABLES)
def test_stored_table_is_current(name):
    stored = (tables.FOLDER / f"{name}.md").read_text("utf-8")
    assert stored == tables.text_of(name), "run: python tools/tables.py"


def test_ledger_has_the_official_counts():
    counts = {row[0].split(",")[0]: row[2] for row in rows_of("shape_ledger")}
    assert {
        part: number(counts[part]) for part in XXTINY_PARTS
    } == XXTINY_PARTS


def test_ledger_adds_up():
    counts = [
        number(count)
        for _, _, count, layer in rows_of("shape_ledger")
        if count[0].isdigit() and layer != "Level"
    ]
    assert sum(counts[:-1]) == counts[-1]


def test_ledger_and_map_have_the_shapes_of_the_model():
    model = GCViT.from_variant("xxtiny")
    model.build((None, 224, 224, 3))
    shapes = [model.patch_embed.compute_output_shape((None, 224, 224, 3))]
    for level in model.levels:
        shapes.append(level.compute_output_shape(shapes[-1]))
    shapes = [shape[1:] for shape in shapes]
    outputs = [
        output
        for _, output, _, layer in rows_of("shape_ledger")
        if layer in ("PatchEmbed", "Level")
    ]
    assert outputs == [f"(B, {str(shape)[1:]}" for shape in shapes]
    picture = (BOOK / "_static" / "figures" / "architecture.svg").read_text(
        "utf-8"
    )
    drawn = re.findall(r'class="shape"[^>]*>([\d×]+)<', picture)
    assert drawn == ["×".join(map(str, shape)) for shape in shapes]


def test_table_has_a_line_for_each_variant():
    results = {row[0]: row[2] for row in rows_of("variants") if len(row) == 5}
    for name, row in ROWS.items():
        assert number(results[name]) == row.parameters, name


# === The crosswalk ===


def crosswalk():
    """Every kind of tensor: attribute, Keras path, PyTorch name, axes."""
    return [
        (*tables.join(place, names), tables.AXES[axes])
        for _, places, tensors in tables.CROSSWALK
        for place in places
        for _, *names, axes in tensors
    ]


def keras_numbers(pattern, path):
    """i, j and k of a Keras path; None if it does not follow the pattern."""
    # Keras leaves number 0 out: level, level_1, level_2.
    expression = re.sub("_([ijk])/", r"(?:_(?P<\1>[1-9]\\d*))?/", pattern)
    found = re.fullmatch(expression, path)
    return found and {
        key: int(digits or 0) for key, digits in found.groupdict().items()
    }


def pytorch_numbers(pattern, name):
    """i, j and k of a PyTorch name; None if it does not follow the pattern."""
    expression = re.sub(
        r"\b([ijk])\b", r"(?P<\1>0|[1-9]\\d*)", re.escape(pattern)
    )
    found = re.fullmatch(expression, name)
    return found and {
        key: int(digits) for key, digits in found.groupdict().items()
    }


def only_row(column, numbers_of, name):
    """The one row that a name is on, and the name's numbers."""
    found = [
        (row, numbers)
        for row in crosswalk()
        if (numbers := numbers_of(row[column], name)) is not None
    ]
    assert len(found) == 1, f"{name} is on {len(found)} rows"
    return found[0]


def test_crosswalk_maps_every_official_name():
    names = json.loads(
        (ROOT / "tests/data/small_names.json").read_text("utf-8")
    )
    assert names
    for name, (path, transform) in names.items():
        keras_side = only_row(1, keras_numbers, path)
        assert only_row(2, pytorch_numbers, name) == keras_side, name
        assert keras_side[0][3] == tables.AXES[transform], name


def test_crosswalk_maps_every_stored_tensor(reference):
    tensors = stored_arrays(reference.checkpoint)
    assert len(tensors) == len(reference.model.weights)
    for path, stored in tensors.items():
        (attribute, *_), numbers = only_row(1, keras_numbers, path)
        variable = eval(attribute, {"model": reference.model, **numbers})
        np.testing.assert_array_equal(variable.numpy(), stored, attribute)


def test_every_row_of_the_crosswalk_is_needed():
    # The model with layer scale has every kind of tensor.
    checkpoint = ROOT / "tests/data/ref_small_ls.keras"
    paths = stored_arrays(checkpoint)
    used = [only_row(1, keras_numbers, path)[0] for path in paths]
    assert set(used) == set(crosswalk())


# === The front page ===


def test_first_code_runs(capsys, tmp_path):
    text = (BOOK / "intro.md").read_text("utf-8")
    code = re.search(r"```python\n(.+?)```", text, re.DOTALL)[1]
    path = tmp_path / "start.py"
    path.write_text(code)
    runpy.run_path(str(path))
    assert capsys.readouterr().out.strip() == "cat"
