"""Write GCViT on one page: the chapters' code without the care around it.

    python tools/one_page.py

It has the code of the chapters that build the model, in their order, and the
functions of `gcvit/sizes.py` that it needs. Nothing is written again by hand.
These rules take things out:

- Docstrings, decorators and imports go; one header imports what is used.
- The methods in `CARE` go.
- A check, `arguments.rate("rate", rate)`, becomes the value that it checks.
  One that stands alone goes, as does an `if` that raises. A `try` becomes its
  body.
- What a check computes, as `arguments.channels_per_head` does, is written out.
- What `fast_ops` has written another way becomes Keras's own: a layer the class
  that it extends, a call what the function's last line returns.
- A class does not build the layers inside it, nor hand them its dtype or
  names: Keras builds a layer when it is first called.
- What is then made and never read goes.

Lines are closed up at the end: entries between brackets fill lines, and
statements such as `self.rate = rate` share them.
"""

import ast
import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "_static" / "gcvit_one_page.py"
# The parts of the contents whose chapters build the model.
PARTS = ("The parts", "The whole")
ARMOUR = ("arguments", "fast_ops", "sizes")

# Methods that are care, not mathematics, some only in one class.
CARE = {
    "GCViT.build",
    "build_graph",
    "compute_output_shape",
    "compute_output_spec",
    "export",
    "feature_maps",
    "from_variant",
    "get_config",
    "load_weights",
    "refine_any_size",
    "summary",
}
# Arguments that no layer computes with.
NOT_ON_THE_PAGE = {"dtype", "class_names", "value_range"}
# What a check calls that which it checks, right after its name.
CHECKED = {"value", "values", "sizes"}

WIDTH = 79

# What is on the page before and after the code of the package.
TOP = """\
# GCViT in Keras 3, on one page. {address}
# The code of the book's chapters, without its checks and explanations: written
# by tools/one_page.py, so do not edit it there.
# SPDX-License-Identifier: Apache-2.0
"""
USE = """
if __name__ == "__main__":
    model = GCViT(**XXTINY)
    model(np.zeros((1, 224, 224, 3)))  # creates the variables
    print(f"{model.count_params():,} parameters")
"""


# === What the page is made from ===


def read_yaml(name):
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def chapters():
    """List the notebooks that build the model, in the order of the book."""
    return [
        ROOT / f"{chapter['file']}.ipynb"
        for part in read_yaml("_toc.yml")["parts"]
        if part["caption"] in PARTS
        for chapter in part["chapters"]
    ]


def chapter_text(number, path):
    """Give a chapter's code, the cells that its module runs, under a ruler."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    title = "".join(cells[0]["source"]).splitlines()[0].lstrip("# ")
    code = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code"
        and "active-ipynb" not in cell["metadata"].get("tags", [])
    ]
    return "\n\n\n".join([f"# === Chapter {number}: {title} ===", *code])


def package_text(module):
    return (ROOT / "gcvit" / f"{module}.py").read_text("utf-8")


def variant_text(name):
    """Give the lines of `gcvit/variants.py` with a variant's arguments."""
    text = package_text("variants")
    (assignment,) = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    ]
    return source(text, assignment)


# === Changing a text, and leaving the rest as it is, comments too ===


def rewrite(text, rules):
    """Apply rules to a text until none finds anything.

    Args:
        text: Python source.
        rules: a function of the text that yields edits, `(start, end, new)`;
            the places are counted in bytes.

    Returns:
        The new source.
    """
    while edits := sorted(set(rules(text)), key=lambda x: (x[0], -x[1])):
        data, rest = text.encode(), 0
        pieces = []
        for start, end, new in edits:
            if start >= rest:  # else it is inside another, and has its turn
                pieces += [data[rest:start], new.encode()]
                rest = end
        text = b"".join([*pieces, data[rest:]]).decode()
    return text


def replace(text, node, new):
    """Make the edit that puts a new text in a node's place."""
    lines = text.encode().splitlines(keepends=True)

    def place(line, column):
        return sum(map(len, lines[: line - 1])) + column

    start = place(node.lineno, node.col_offset)
    return start, place(node.end_lineno, node.end_col_offset), new


def source(text, node):
    """Give a node's text, as `ast.get_source_segment`, but fast."""
    start, end, _ = replace(text, node, "")
    return text.encode()[start:end].decode()


def remove(text, node):
    """Make the edit that takes a statement's whole lines out."""
    lines = text.encode().splitlines(keepends=True)
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(line.lineno for line in decorators)]) - 1
    start = sum(map(len, lines[:first]))
    return start, sum(map(len, lines[: node.end_lineno])), ""


# === The armour, bare ===


class Bare(ast.NodeTransformer):
    """Takes from a function what it does for errors only."""

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        match node.body[-2:]:
            case [ast.Assign([ast.Name(name)], value), ast.Return(result)]:
                if getattr(result, "id", None) == name:
                    node.body[-2:] = [ast.Return(value)]
        return node

    def visit_Expr(self, node):
        is_docstring = isinstance(node.value, ast.Constant)
        return None if is_docstring else self.generic_visit(node)

    def visit_If(self, node):
        return None if raises(node) else self.generic_visit(node)

    def visit_Try(self, node):
        return [self.visit(child) for child in node.body]

    def visit_arguments(self, node):
        if node.args and node.args[-1].arg == "name":
            del node.args[-1], node.defaults[-1:]
        return node

    def visit_Call(self, node):
        # A text says what an argument is called.
        node.args = [x for x in node.args if not is_text(x)]
        return self.generic_visit(node)


def raises(node):
    """Tell whether a statement is an `if` that ends in an error."""
    return isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise)


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def armour():
    """Give what the plain modules define, bare: module, to name, to node."""
    return {
        module: {
            node.name: Bare().visit(node)
            for node in ast.parse(package_text(module)).body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        }
        for module in ARMOUR
    }


# === The rules ===


def called(node, armour):
    """Give the armour's function that a node calls; `None` for others."""
    match node:
        case ast.Call(func=ast.Name(name)):
            return armour["sizes"].get(name)
        case ast.Call(func=ast.Attribute(ast.Name(module), name)):
            return armour.get(module, {}).get(name)


def names_read(tree):
    """Collect every name and attribute that is read somewhere."""
    nodes = list(ast.walk(tree))
    # Who only appends to a list does not read it.
    appended = [
        node.value
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr == "append"
    ]
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in nodes
        if isinstance(node, (ast.Name, ast.Attribute))
        and isinstance(node.ctx, ast.Load)
        and node not in appended
    }


def goes(node, armour):
    """Tell whether a statement goes, wherever it stands."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(ast.Constant()):
            return True
        case ast.Expr(call):
            return called(call, armour) is not None
        case ast.Assign([ast.Attribute(ast.Name("self"), name)]):
            return name in NOT_ON_THE_PAGE
    return raises(node)


def builds(node):
    """Tell whether a statement only builds the layers inside."""
    match node:
        case ast.Expr(ast.Call(ast.Attribute(_, "build"))):
            return True
        case ast.For(body=body) | ast.If(body=body, orelse=[]):
            return all(map(builds, body))
    return False


def unread(node, names, attributes):
    """Tell whether a statement of a function makes what nobody reads."""
    match node:
        case ast.Assign([ast.Attribute(ast.Name("self"), name)]):
            return name not in attributes
        case ast.Assign([ast.Tuple(targets)]) | ast.Assign(targets):
            return not names & {getattr(x, "id", "self") for x in targets}
        case ast.Expr(ast.Call(ast.Attribute(ast.Name(name), "append"))):
            return name not in names
        case ast.FunctionDef(name):
            return name not in names
    return False


def is_care(node, cls):
    """Tell whether a part of a class is care, not mathematics."""
    targets = getattr(node, "targets", [])  # of an assignment
    names = [getattr(x, "id", None) for x in targets]
    names += [getattr(node, "name", None)]
    return {*names, *(f"{cls.name}.{name}" for name in names)} & CARE


def statements_that_go(tree, armour):
    """Find the statements that the rules take out."""
    attributes = names_read(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from node.decorator_list
            yield from (child for child in node.body if is_care(child, node))
            inside = [x for child in node.body for x in ast.walk(child)]
            yield from filter(builds, inside)
        if isinstance(node, ast.stmt) and goes(node, armour):
            yield node
        if isinstance(node, ast.FunctionDef):
            names = names_read(node)
            inside = [x for child in node.body for x in ast.walk(child)]
            yield from (x for x in inside if unread(x, names, attributes))


def instead(text, call, function):
    """Give what stands for a call of the armour; `None` for the call."""
    if isinstance(function, ast.ClassDef):
        (base,) = function.bases
        return source(text, call).replace(
            source(text, call.func), ast.unparse(base), 1
        )
    names = [argument.arg for argument in function.args.args]
    if names[:1] == ["name"] and names[1] in CHECKED:
        return source(text, call.args[1])
    if not any(isinstance(x, ast.Return) for x in ast.walk(function)):
        return "None"
    if isinstance(call.func, ast.Name):  # of `sizes`, which the page has
        return None
    values = dict(zip(names, map(ast.unparse, call.args), strict=True))
    result = copy.deepcopy(function.body[-1].value)
    for node in ast.walk(result):
        if isinstance(node, ast.Name):
            node.id = values.get(node.id, node.id)
    if isinstance(result, (ast.Call, ast.Name)):
        return ast.unparse(result)
    return f"({ast.unparse(result)})"  # ruff takes most needless ones away


def is_handed_on(node):
    """Tell whether an argument is the dtype, or a name, for a layer inside."""
    match node:
        case ast.keyword("dtype", value):
            return is_handed_on(value)
        case ast.Name("dtype") | ast.Attribute(
            ast.Name("self"), "dtype_policy"
        ):
            return True
        case ast.keyword(None, ast.Call(ast.Name("named"))):
            return True
    return False


def without_handed_on(text, node):
    """Give a call or a dict without what is handed on; `None` for others."""

    def own(part):
        return source(text, part)

    match node:
        case ast.Call(func, args, keywords):
            parts = args + keywords
            kept = [part for part in parts if not is_handed_on(part)]
            if len(kept) < len(parts):
                return f"{own(func)}({', '.join(map(own, kept))})"
        case ast.Dict(keys, values) if any(map(is_handed_on, values)):
            kept = [
                f"{own(key)}: {own(value)}"
                for key, value in zip(keys, values)
                if not is_handed_on(value)
            ]
            return f"{{{', '.join(kept)}}}"


def edits(text, armour):
    """Find what the rules change in a text, for `rewrite`."""
    tree = ast.parse(text)
    for node in statements_that_go(tree, armour):
        yield remove(text, node)
    for node in ast.walk(tree):
        function = called(node, armour)
        new = function and instead(text, node, function)
        new = new or without_handed_on(text, node)
        if new:
            yield replace(text, node, new)
        match node:
            case ast.arguments(
                args=[*_, before, ast.arg(name)], defaults=[*others, default]
            ) if name in NOT_ON_THE_PAGE:
                last = others[-1] if others else before
                _, start, _ = replace(text, last, "")
                _, end, _ = replace(text, default, "")
                yield start, end, ""


# === The page ===


def imports(text):
    """List a text's imports, but for those from the package itself."""
    found = [node for node in ast.parse(text).body]
    found = [x for x in found if isinstance(x, (ast.Import, ast.ImportFrom))]
    return [
        line for line in map(ast.unparse, found) if "from gcvit" not in line
    ]


def needed_sizes(text, armour):
    """Give the functions of `sizes` that a text calls, and those they call."""
    names, waiting = set(), [ast.parse(text)]
    while waiting:
        calls = [called(node, armour) for node in ast.walk(waiting.pop())]
        new = {function.name for function in calls if function} - names
        names |= new
        waiting += [armour["sizes"][name] for name in new]
    bare = [node for name, node in armour["sizes"].items() if name in names]
    return "\n\n\n".join(map(ast.unparse, bare))


def ruff(text, *options):
    """Give a text as ruff leaves it; stop at a fault that it cannot mend."""
    command = [sys.executable, "-m", "ruff", *options, "--quiet"]
    command += ["--stdin-filename", str(PAGE), "-"]
    result = subprocess.run(
        command,
        input=text,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    if result.returncode:
        sys.exit(f"tools/one_page.py: {result.stdout}{result.stderr}")
    return result.stdout


def page_text():
    """Give the text of the page's file."""
    checks = armour()
    chapter_texts = [
        chapter_text(number, path) for number, path in enumerate(chapters(), 1)
    ]
    whole = "\n\n\n".join(chapter_texts)
    code = rewrite(whole, lambda text: edits(text, checks))
    lines = [*map(package_text, ARMOUR), whole]
    lines = [line for text in lines for line in imports(text)]
    address = read_yaml("_config.yml")["repository"]["url"]
    parts = [
        TOP.format(address=address) + "\n".join(lines),
        "# === Sizes ===",
        needed_sizes(code, checks),
        code,
        "# === Use: XXTiny, for images of 224×224 pixels ===",
        variant_text("XXTINY") + USE,
    ]
    text = "\n\n\n".join(parts)
    # Unused and unsorted imports, and names that nothing defines.
    text = ruff(text, "check", "--fix", "--select", "F401,F821,I")
    text = re.sub(r":\n\n+(?= )", ":\n", text)  # where a statement was
    return kept_together(entries_filled(ruff(text, "format")))


def entries_filled(text):
    """Fill the lines between brackets that have one entry each."""
    lines, filled = text.splitlines(), []
    while lines:
        line = lines.pop(0)
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        entry = re.compile(rf"{indent}[^ #][^#]*[^#(\[{{]")
        count = 0
        while line.endswith(("(", "[", "{")) and entry.fullmatch(lines[count]):
            count += 1
        filled.append(line)
        if count and re.match(r" *[)\]}]", lines[count]):
            entries = [entry.strip() for entry in lines[:count]]
            entries[-1] = entries[-1].rstrip(",") + lines[count].strip()
            more = "    " if line.lstrip().startswith("def ") else ""
            filled += in_lines(entries, indent + more)
            del lines[: count + 1]
    return "\n".join(filled) + "\n"


def in_lines(entries, indent):
    """Put as many entries in each line as go there."""
    lines = [indent + entries[0]]
    for entry in entries[1:]:
        if len(lines[-1]) + 1 + len(entry) <= WIDTH:
            lines[-1] += f" {entry}"
        else:
            lines.append(indent + entry)
    return lines


def kept(names):
    """Write the statement that keeps arguments as attributes."""
    attributes = ", ".join(f"self.{name}" for name in names)
    return f"        {attributes} = {', '.join(names)}"


def kept_together(text):
    """Let `self.rate = rate` and its like share lines."""

    def together(match):
        first, *names = re.findall(r"self\.(\w+)", match[0])
        rows = [[first]]
        for name in names:
            if len(kept([*rows[-1], name])) <= WIDTH:
                rows[-1].append(name)
            else:
                rows.append([name])
        return "".join(f"{kept(row)}\n" for row in rows)

    return re.sub(r"(?m)(^        self\.(\w+) = \2\n)+", together, text)


def main():
    PAGE.write_text(page_text(), "utf-8")


if __name__ == "__main__":
    main()
