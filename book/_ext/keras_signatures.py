"""Show Keras classes and this package's docstrings as they are meant.

Keras wraps the constructor of each layer, so that autodoc finds nothing but
`(*args, **kwargs)`; and napoleon does not know the lines "Shapes:" and
"Source:".
"""

import inspect
import re

FIELDS = ("Shapes", "Source")


def signature(app, what, name, obj, options, arguments, returned):
    """The signature of a class is its `__init__`'s, without `self`."""
    if what != "class":
        return None
    constructor = inspect.signature(obj.__init__)
    parameters = list(constructor.parameters.values())[1:]
    return str(constructor.replace(parameters=parameters)), returned


def fields(app, what, name, obj, options, lines):
    """Turn the paragraphs "Shapes: …" and "Source: …" into fields."""
    inside = False
    for index, line in enumerate(lines):
        # Bars are absolute values here, and substitutions in Sphinx.
        line = re.sub(r"\|(\S+)\|", r"\\|\1\\|", line)
        lines[index] = line
        found = re.match(rf"({'|'.join(FIELDS)}): ", line)
        inside = bool(found) or inside and bool(line)
        if found:
            lines[index] = f":{line}"
        elif inside:
            lines[index] = f"   {line}"


def setup(app):
    # After napoleon, whose priority is 500.
    app.connect("autodoc-process-docstring", fields, priority=600)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}
