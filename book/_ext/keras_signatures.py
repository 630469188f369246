"""Show Keras classes and this package's docstrings as they are meant.

Keras wraps the constructor of each layer, so that autodoc finds nothing but
`(*args, **kwargs)`; and napoleon does not know the lines "Shapes:" and
"Source:". Each entry gets a link to the chapter that builds it, and what it
names of Keras, links to keras.io, which has no inventory for Sphinx.
"""

import inspect
import re

FIELDS = ("Shapes", "Source")
# The pages of keras.io/api.
KERAS = {
    "keras.Model": "models/model/",
    "keras.Model.compile": "models/model_training_apis/",
    "keras.Model.export": "models/model_saving_apis/export/",
    "keras.Model.fit": "models/model_training_apis/",
    "keras.Model.load_weights": (
        "models/model_saving_apis/weights_saving_and_loading/"
    ),
    "keras.Model.summary": "models/model/",
    "keras.distribution.initialize": "distribution/distribution_utils/",
    "keras.distribution.DataParallel": "distribution/data_parallel/",
    "keras.distribution.DeviceMesh": "distribution/layout_map/",
    "keras.distribution.LayoutMap": "distribution/layout_map/",
    "keras.distribution.ModelParallel": "distribution/model_parallel/",
    "keras.layers.Conv2D": "layers/convolution_layers/convolution2d/",
    "keras.layers.DepthwiseConv2D": (
        "layers/convolution_layers/depthwise_convolution2d/"
    ),
    "keras.layers.Dropout": "layers/regularization_layers/dropout/",
    "keras.layers.Layer": "layers/base_layer/",
    "keras.metrics.Metric": "metrics/base_metric/",
}


def signature(app, what, name, obj, options, arguments, returned):
    """The signature of a class is its `__init__`'s, without `self`."""
    if what != "class":
        return None
    constructor = inspect.signature(obj.__init__)
    parameters = list(constructor.parameters.values())[1:]
    return str(constructor.replace(parameters=parameters)), returned


def keras_link(name):
    """A link to keras.io, in reStructuredText."""
    return f"`{name} <https://keras.io/api/{KERAS[name]}>`__"


def link_bases(app, name, obj, options, bases):
    """Link the Keras classes that a class is derived from."""
    public = {link.rpartition(".")[2]: link for link in KERAS}
    bases[:] = [
        keras_link(public[base.__name__])
        if base.__module__.startswith("keras.")
        else base
        for base in bases
    ]


def link_names(app, what, name, obj, options, lines):
    """Link what a docstring names of Keras, and the chapter of an entry."""
    for index, line in enumerate(lines):
        lines[index] = re.sub(
            r"`(keras\.[\w.]+)`", lambda found: keras_link(found[1]), line
        )
    page = f"book/{getattr(obj, '__module__', '').rpartition('.')[2]}"
    if what in ("class", "function") and page in app.env.found_docs:
        lines += ["", f":Built in: :doc:`/{page}`"]


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
    app.connect("autodoc-process-docstring", link_names, priority=700)
    app.connect("autodoc-process-bases", link_bases)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}
