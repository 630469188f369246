"""Write the row of the running backend into the front page's table.

    KERAS_BACKEND=tensorflow .venv/bin/python tools/backends.py
    KERAS_BACKEND=jax .venv-jax/bin/python tools/backends.py
    KERAS_BACKEND=torch .venv-torch/bin/python tools/backends.py

The small official model answers for the first stored image: its first four
logits, and how far all ten are from the official ones. `tests/test_model.py`
compares the stored row of each backend with what it computes.
"""

import re
from importlib.metadata import version
from pathlib import Path

import keras

from gcvit import check

TABLE = Path(__file__).resolve().parents[1] / "book/_tables/backends.md"
OFFICIAL = "official code, float64"
# How Keras calls a backend, and how people do.
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
SHOWN, DECIMALS = 4, 7
HEAD = f"""\
<!-- Written by tools/backends.py: edit that. -->

| computed by | {" | ".join(f"logit {i}" for i in range(SHOWN))} | largest difference |
|{" --- |" * (SHOWN + 2)}
"""


def call(layer, *inputs):
    return layer(*inputs)


def answers(run=call):
    """Compute the logits of the first image, and read the official ones.

    Args:
        run: calls a layer, perhaps compiled.
    """
    (images, *_), expected = check.official("model")
    model = check.LAYERS["model"]()
    model.build((None, *images.shape[1:]))
    check.load_official_weights(model, "model")
    found = keras.ops.convert_to_numpy(run(model, images[:1]))
    return found, expected[:1]


def row(name, logits, last):
    """Lay out a line of the table."""
    shown = [f"{logit:.{DECIMALS}f}" for logit in logits[0, :SHOWN]]
    return f"| {' | '.join([name, *shown, last])} |\n"


def stored_rows():
    """The lines of the stored table, by what computed them."""
    text = TABLE.read_text("utf-8") if TABLE.exists() else ""
    lines = re.findall(r"^\| [^|]+\| +-?\d.*\n", text, re.MULTILINE)
    return {line[2:].partition(" | ")[0]: line for line in lines}


def main():
    found, expected = answers()
    backend = keras.backend.backend()
    name = BACKENDS[backend]
    difference = f"{check.difference(found, expected):.1e}"
    rows = stored_rows()
    rows[OFFICIAL] = row(OFFICIAL, expected, "–")
    rows[name] = row(name, found, difference)
    print(name, version(backend), difference)
    order = [OFFICIAL, *BACKENDS.values()]
    text = HEAD + "".join(rows.get(name, "") for name in order)
    TABLE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
