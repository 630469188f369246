"""Rows: what of a model's outputs stands in a file of answers.

That depends on the head: it chooses one class, gives a probability for each
label, or numbers.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
from keras import activations, ops

COLUMNS = 100  # of classes; of more, the `BEST` are named
BEST = 5


class Columns(NamedTuple):
    """What stands in a row.

    `kind` is `"classes"`, `"best"`, `"probability"` or `"output"`; `names` are
    those of the outputs; `is_logits` tells outputs without their softmax.
    """

    kind: str
    names: list
    is_logits: bool = False

    def types(self):
        """Give a dict from the names of the columns to `str` or `float`."""
        own = {}
        if self.kind in ("classes", "best"):
            own = {"class": str, "probability": float}
        if self.kind == "best":
            for place in range(2, BEST + 1):
                own |= {f"class_{place}": str, f"probability_{place}": float}
        else:
            prefix = "output" if self.kind == "output" else "probability"
            own |= {f"{prefix}_{name}": float for name in self.names}
        return {"file": str, **own, "error": str}

    def row(self, path, output):
        """Give the row of a picture that the model has seen."""
        if not np.isfinite(output).all():
            return self.row_without_answer(
                path, "the answer is NaN or infinite"
            )
        values = [float(str(x)) for x in output]  # no more digits than it has
        if self.kind not in ("classes", "best"):
            return [path, *values, None]
        order = np.argsort(-output)[: BEST if self.kind == "best" else 1]
        best = [x for i in order for x in (self.names[i], values[i])]
        return [path, *best, *(values if self.kind == "classes" else []), None]

    def row_without_answer(self, path, reason):
        return [path, *[None] * (len(self.types()) - 2), reason]

    def rows(self, found, outputs):
        """Give the rows of a batch.

        Args:
            found: pairs of a path and what was read, an array, or a text, the
                reason why there is none.
            outputs: of the model, `(B, outputs)`; B may be more.
        """
        if self.is_logits:
            outputs = ops.softmax(outputs)
        outputs = np.asarray(ops.convert_to_numpy(outputs), "float32")
        return [
            self.row_without_answer(path, result)
            if isinstance(result, str)
            else self.row(path, output)
            for (path, result), output in zip(found, outputs)
        ]


def columns_of(model):
    """Say which columns the answers of a model have."""
    count, head = model.num_classes, model.head_activation
    names = [*map(str, model.class_names or range(count))]
    is_linear = head is activations.linear
    is_logits = is_linear and count > 1 and model.class_names is not None
    is_choice = is_logits or (head is activations.softmax and count > 1)
    if is_choice and count > COLUMNS:
        return Columns("best", names, is_logits)
    often = Counter(names)  # columns of one name would hide each other
    names = [
        name if often[name] == 1 else f"{name}_{i}"
        for i, name in enumerate(names)
    ]
    if is_choice:
        return Columns("classes", names, is_logits)
    is_sigmoid = head is activations.sigmoid
    return Columns("probability" if is_sigmoid else "output", names)
