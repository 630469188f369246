# Generated from book/live.ipynb, digest 9bb4a67a. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module live
# %% [markdown]
r"""
# Live

`nano` runs in this page: on the pictures below, and on a photograph of yours. Point
at it, and see who attends to what. Make a known mistake, and see the answer move. Give
one picture the global query of another, and see whose answer it is then.

About 20 minutes. Easy to use; how it is made takes what you know from
[Deploy](deploy.ipynb).
"""

# %% mystnb={"code_prompt_hide": "Hide the installation", "code_prompt_show": "Show the installation"} tags=["active-ipynb", "hide-input"]
r"""
# Only Colab needs to install anything: the package these chapters build.
try:
    import gcvit.check
except ImportError:
    %pip install -q git+https://github.com/gcvit-book/gcvit-book

from gcvit import check, plots

plots.use_style()
"""

# %% mystnb={"code_prompt_hide": "Hide what Colab needs besides", "code_prompt_show": "Show what Colab needs besides"} tags=["active-ipynb", "hide-input"]
r"""
try:
    import onnxruntime
    import tf2onnx
except ImportError:
    %pip install -q onnx onnxruntime tf2onnx
"""

# %% [markdown]
r"""
## The result

`nano` is the small GCViT that comes with the package, trained on ten kinds of pictures. It
cuts a picture into [tokens](glossary.md#term-token), and these into
[windows](glossary.md#term-window). A [global query](glossary.md#term-global-query) is
computed from the whole picture, once in each level, and asks every window the same question:
what of you matters to the picture?

This is what you are about to touch, as a still: two pictures, the answer of `nano` for
each, and what one token of the global query attends to. Before you look on: both
pictures are asked by a query of their own. If the rocket were asked by the cat's, what
would `nano` see in it?
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Two answers of `nano`, and the weights with which one token of the global query, at row 1 and column 1, attends in each window of the first level. Full colour is four times an even share.", "name": "figure-live-still"}, "image": {"alt": "A cat and a rocket in grey, with coloured patches in all sixteen windows of each. Beside them ten bars: cat has the longest bar for the first picture, ship for the second."}} tags=["active-ipynb", "hide-input", "nbval-ignore-output"]
r"""
from gcvit import from_pretrained, preprocess
from gcvit.block import window_partition
from keras import ops
from skimage.data import chelsea, rocket

nano = from_pretrained("nano", head_activation=None)  # logits
photos = {"chelsea": chelsea(), "rocket": rocket()}
images = preprocess(list(photos.values()), 64)
stem = nano.patch_embed(images)
first, second = nano.levels[0].blocks
query = nano.levels[0].q_global_gen(stem)
windows = window_partition(second.norm1(first(stem)), 4)
windows = ops.reshape(windows, (32, 16, 32))
_, scores = second.attn(windows, query, return_attention_scores=True)
weights = ops.reshape(scores[:, 0, 5], (2, 4, 4, 4, 4))  # of token 5
weights = ops.transpose(weights, (0, 1, 3, 2, 4))
weights = ops.convert_to_numpy(ops.reshape(weights, (2, 16, 16)))
shares = ops.convert_to_numpy(ops.softmax(nano(images)))
_, grid = plots.plt.subplots(2, 2, figsize=(7, 6), layout="constrained")
for row, name, weight, share in zip(grid, photos, weights, shares):
    height, width, _ = photos[name].shape
    left = (width - height) // 2
    middle = photos[name][:, left : left + height].mean(axis=-1)
    edges = (-0.5, 15.5, 15.5, -0.5)
    row[0].imshow(middle, cmap="gray", vmax=330, extent=edges)
    plots.highlight(row[0], weight * 16 / 4)
    row[0].set(title=name, xticks=[], yticks=[])
    row[1].barh(nano.class_names, share, color=plots.HERE)
    row[1].set(xlim=(0, 1), xlabel="probability")
    row[1].invert_yaxis()
plots.show_photos()
"""

# %% [markdown]
r"""
Now it is your turn. The button fetches `nano` and what runs it from this site, once;
your browser keeps them. Your pictures stay in this page: nothing is sent anywhere.

1. Point at a place, tap, or move with the arrow keys. In a local block its token asks its own window; in a global one the global query asks every window. Rows and columns count from 0. Full colour is four times an even share. Each [head](glossary.md#term-head) attends in its own way.
2. Look at the numbers of the global query below each picture. Blue is above zero, red below. Then drag them onto the other picture, or press the button above them.
3. Let nobody ask: a query of zeros. What is left of the attention?
4. Make a mistake. The thin line in each bar is the exact answer, and below the bars stands how far from it the logits are, the numbers before the softmax. At 1, a class is 2.7 times as probable, or as improbable, beside the others.
"""

# %% tags=["active-ipynb", "hide-input"]
r"""
import json
from importlib.resources import files

costs = json.loads((files("gcvit") / "data" / "mistakes.json").read_text())
known = {name: check.MISTAKES[name] for name in costs["changed"]}
own = {
    "unnormalised": "pixels are only divided by 255. Take off a mean, too.",
    "bilinear": "pictures are resized bilinearly, not bicubically.",
}


def entry(name, text, measured):
    accuracy, changed = measured["accuracy"], measured["changed"]
    points = 100 * (accuracy[name] - accuracy["exact"])
    return {
        "name": name,
        "text": text.partition(". ")[0].rstrip("."),
        "accuracy": f"{points:+.2f}".replace("-", "−"),
        "changed": f"{100 * changed[name]:.2f} %",
        "isInModel": name != "bilinear",
    }


entries = [entry(name, known[name], costs) for name in known]
entries += [entry(name, own[name], costs["preparation"]) for name in own]
shapes = zip((16, 8, 4, 2), nano.window_size, nano.num_heads)
levels = [
    {"map": side, "window": window, "heads": heads}
    for side, window, heads in shapes
]
data = {"classes": nano.class_names, "levels": levels, "switches": entries}
data["accuracy"] = f"{100 * costs['accuracy']['exact']:.2f} %"
data["channels"] = ["channels_stem"]
for i, level in enumerate(nano.levels):
    steps = range(len(level.q_global_gen.to_q_global))
    data["channels"] += [f"channels_level_{i}_query_{j}" for j in steps]
    data["channels"] += [f"channels_level_{i}_halving"] * level.downsample
plots.touch("live_page", data)
"""

# %% [markdown]
r"""
What is shown as attention is where weights are large, not what they mean to the model.
The other picture's query rarely changes what `nano` calls a picture: the keys and the
values are still the picture's own. It changes how each window mixes them, and with them
the numbers. Where the model is not sure, nobody's query can turn its answer.
That fits what [Evidence](evidence.ipynb) measures.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter is: the whole model, in a browser.", "name": "figure-live-map"}, "image": {"alt": "Map of GCViT in four rows; the box in a page, in the first row, is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("live")
"""

# %% [markdown]
r"""
## The idea

A file of [ONNX](deploy.ipynb) holds one graph, and a graph has no `if` that you could
reach from outside. So the graph computes both: what is right, and what a mistake would
make of it. A number from outside chooses. With $s = 0$ or $s = 1$,

$$y = s \cdot y_\text{wrong} + (1 - s) \cdot y_\text{right}$$

What a mistake is, [`check.mistaken`](api.md#checks) knows already: for each layer, the
attributes that make it. They are taken from there.

Who asks is a number, too. There are always two pictures in the batch, and three queries:
those of the pictures, and one of zeros, which is nobody's. For each picture the graph
takes one of the three. With zeros, all that is left of a score is the position bias.

## The code

The package has no switches. What follows is put onto a model in this chapter only.
"""

# %% tags=["active-ipynb", "site"]
r"""
import keras
import numpy as np
from gcvit import check, exporting, from_pretrained
from keras import ops

MISTAKES = ["flat_table", "zero_pooling", "same_pooling", "tile", "tanh_gelu"]


def either(switch, wrong, right):
    # Give what computes both, and answers as the switch says.
    def call(*inputs, **options):
        return keras.tree.map_structure(
            lambda w, r: switch * w + (1 - switch) * r,
            wrong(*inputs, **options),
            right(*inputs, **options),
        )

    return call


def mistaken(part, changes, attribute):
    # Give what a layer computes while it makes a mistake.
    def call(*inputs, **options):
        with check.switched_on([(part, changes)]):
            return getattr(part, attribute)(*inputs, **options)

    return call


def add_switches(model, switches):
    # Let each layer make the mistakes whose switches are 1.
    for part in model._flatten_layers():
        for name, changes in check.mistakes(part).items():
            for attribute, change in changes.items():
                if name in switches and callable(change):
                    wrong = mistaken(part, changes, attribute)
                    right = getattr(part, attribute)
                    call = either(switches[name], wrong, right)
                    vars(part)[attribute] = call
"""

# %% [markdown]
r"""
Three things are observed: the attention of each block, the global query of each level,
and the weights of each squeeze and excitation.
"""

# %% tags=["active-ipynb", "site"]
r"""
def watch(layer, name, seen, **options):
    # Note what a layer gives; of an attention, its weights.
    call = layer.call

    def watched(*inputs, **given):
        outputs = call(*inputs, **given, **options)
        seen[name] = outputs[-1] if options else outputs
        return outputs[0] if options else outputs

    vars(layer)["call"] = watched


def choose_query(generator, query_of):
    # Give each picture a query: of picture 0 or 1, or 2 for zeros.
    make = generator.call

    def call(inputs):
        query = make(inputs)
        queries = ops.concatenate([query, 0 * query[:1]])
        return ops.take(queries, query_of, axis=0)

    vars(generator)["call"] = call
"""

# %% tags=["active-ipynb", "site"]
r"""
def observe(model, query_of):
    # Watch a model; what is seen comes into a dict when it is called.
    seen = {}
    squeezes = {"stem": model.patch_embed.conv_down}
    for i, level in enumerate(model.levels):
        choose_query(level.q_global_gen, query_of)
        watch(level.q_global_gen, f"query_{i}", seen)
        for j, block in enumerate(level.blocks):
            scores = {"return_attention_scores": True}
            watch(block.attn, f"attention_{i}_{j}", seen, **scores)
        for j, part in enumerate(level.q_global_gen.to_q_global):
            squeezes[f"level_{i}_query_{j}"] = part
        if level.downsample:
            squeezes[f"level_{i}_halving"] = level.down
    for name, part in squeezes.items():
        watch(part.conv[1].fc[1], f"channels_{name}", seen)
    return seen
"""

# %% [markdown]
r"""
The graph takes pixels from 0 to 255, of the model's own size. Normalising is inside,
with a switch of its own. Resizing is not: pictures have all sizes.

The weights of `nano` are stored with 16 bits, and nothing is lost if the file keeps them
so. Each gets a `Cast` to 32 bits in front of it, and all that is computed has 32.
"""

# %% tags=["active-ipynb", "site"]
r"""
def unnormalised(pixels):
    return pixels / 255


def normalised(pixels):
    return keras.applications.imagenet_utils.preprocess_input(
        pixels, data_format="channels_last", mode="torch"
    )


def halve_weights(graph):
    # Store weights with 16 bits where nothing is lost, and cast them.
    from onnx import TensorProto, helper, numpy_helper

    for weight in list(graph.initializer):
        array = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = array.astype("float16")
        is_long = array.dtype == "float32" and array.size > 100
        if is_long and (half.astype("float32") == array).all():
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            cast = {"to": TensorProto.FLOAT}
            node = helper.make_node("Cast", [f"{name}_half"], [name], **cast)
            graph.node.insert(0, node)
"""

# %% tags=["active-ipynb", "site"]
r"""
def export_live(path):
    # Write `nano` with its switches, and with what is observed.
    import onnx
    import tensorflow
    import tf2onnx

    model = from_pretrained("nano", head_activation=None)
    spec = [
        tensorflow.TensorSpec((2, 64, 64, 3), "float32", "pixels"),
        tensorflow.TensorSpec(len(MISTAKES) + 1, "float32", "mistakes"),
        tensorflow.TensorSpec(2, "int32", "query_of"),
    ]

    @tensorflow.function(input_signature=spec, autograph=False)
    def answer(pixels, mistakes, query_of):
        *in_layers, in_pixels = ops.unstack(mistakes, len(MISTAKES) + 1)
        add_switches(model, dict(zip(MISTAKES, in_layers)))
        seen = observe(model, query_of)
        images = either(in_pixels, unnormalised, normalised)(pixels)
        return {"logits": model(images, training=False), **seen}

    with exporting.known_operators(model):
        written, _ = tf2onnx.convert.from_function(
            answer, input_signature=spec, opset=18
        )
    halve_weights(written.graph)
    onnx.save(written, path)
"""

# %% tags=["active-ipynb"]
r"""
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

temporary = TemporaryDirectory()
path = Path(temporary.name) / "nano.onnx"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what TensorFlow and tf2onnx say
    export_live(path)
print(f"{path.name}, {path.stat().st_size / 1e6:.1f} MB")
"""

# %% [markdown]
r"""
## The proof

The same file, run by ONNX Runtime in Python: for two photographs, all is as Keras has it,
with no mistake and with each one. The second number says how far a mistake moves the
logits. **Predict, then see.** Which mistake moves them the most?
"""

# %% tags=["active-ipynb"]
r"""
import onnxruntime

options = onnxruntime.SessionOptions()
# More would join one of the two GELUs, and lose a product that both need.
basic = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
options.graph_optimization_level = basic
session = onnxruntime.InferenceSession(path, options)
mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
pixels = 255 * (ops.convert_to_numpy(images) * deviation + mean)
pixels = pixels.astype("float32")
switches = [*MISTAKES, "unnormalised"]


def ask(name=None, query_of=(0, 1), pixels=pixels):
    mistakes = np.array([name == other for other in switches], "float32")
    inputs = {"pixels": pixels, "mistakes": mistakes}
    inputs["query_of"] = np.array(query_of, "int32")
    return session.run(["logits"], inputs)[0]


exact = ops.convert_to_numpy(nano(images))
difference = check.difference(ask(), exact)
print(f"exact         max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
for name in MISTAKES:
    with check.mistaken(nano, name):
        expected = ops.convert_to_numpy(nano(images))
    difference = check.difference(ask(name), expected)
    moved = check.difference(expected, exact)
    print(f"{name:13} max |Δ| / std = {difference:.1e}, moved {moved:.3f}")
    assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
The two others are outside the layers, or are no mistakes:
"""

# %% tags=["active-ipynb"]
r"""
import contextlib
from unittest import mock

expected = ops.convert_to_numpy(nano(unnormalised(pixels)))
difference = check.difference(ask("unnormalised"), expected)
print(f"unnormalised  max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE

with contextlib.ExitStack() as stack:
    for level in nano.levels:
        make = level.q_global_gen.call
        stack.enter_context(
            mock.patch.object(
                level.q_global_gen,
                "call",
                lambda x, make=make: ops.flip(make(x), axis=0),
            )
        )
    expected = ops.convert_to_numpy(nano(images))
difference = check.difference(ask(query_of=(1, 0)), expected)
print(f"other query   max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
for picture, own, other in zip(photos, exact, expected):
    best = [nano.class_names[x.argmax()] for x in (own, other)]
    print(f"{picture}: {best[0]}, and with the other's query {best[1]}")
"""

# %% [markdown]
r"""
In the page, ONNX Runtime's build for browsers runs this very file, and a test compares
its logits with Keras's: twelve pictures, each switch, and other queries, within
$10^{-4}$; the furthest was $1.5 \cdot 10^{-5}$.

## What can go wrong

A browser has a function that resizes: it draws a picture smaller. **Predict, then see.**
It interpolates between neighbours, as the switch "bilinear" does. How far does that move
the logits of a photograph?
"""

# %% tags=["active-ipynb", "site"]
r"""
def bilinear(photo):
    # Resize as many do: between neighbours, however far away they are.
    return ops.image.resize(
        ops.cast(photo, "float32"),
        (64, 64),
        interpolation="bilinear",
        crop_to_aspect_ratio=True,
        data_format="channels_last",
    )
"""

# %% tags=["active-ipynb"]
r"""
drawn = np.stack([bilinear(photo) for photo in photos.values()])
difference = check.difference(ask(pixels=drawn), exact)
print(f"max |Δ| / std = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
More than any mistake in the layers. From a large photograph it takes a few pixels and
leaves the others out. So the page resizes as [`preprocess`](api.md#gcvit.preprocess)
does: bicubically, over all pixels that a new one covers, with positions rounded to
float32 as TensorFlow rounds them.

What is not the page's own is decoding. In Chromium a JPEG, a turned one, and a picture
that is half transparent gave the same pixels as Pillow, and the test has them. Another
browser's decoder may round otherwise. A grey picture with 16 bits is cut to 8 in a
browser, and scaled by `preprocess`. And the page takes up to 40 megapixels.

What a picture costs: once the runtime and the model are here, the two pictures together
take about 45 ms on two cores that do other work as well; `make site-test` prints it.

Two more mistakes wait for whoever builds such a page:

- **A file for one runtime.** ONNX Runtime rewrites a graph before it runs it. Here two GELUs share a product, and at its highest level the rewriting loses it: the session does not start. The level is set to basic, in Python and in the page.
- **A page that waits.** A model that runs where the page is drawn stops the page. Here it runs in a worker, with one question at a time.

## Summary

- A graph can hold the right way and the wrong one; a number chooses.
- What is observed is an output like any other.
- The same file gives the same numbers in Keras, in ONNX Runtime and in a browser, if the picture is resized in the same way.

## Exercises

1. (2 minutes, easy) Why are there always two pictures in the batch?
2. (5 minutes, medium) With nobody's query, what still tells the keys of a window apart?
3. (10 minutes, easy) An experiment. Give the rocket the query of a rocket that is turned upside down. Is it further from the exact answer than with the cat's query? Predict before you run it.

<details><summary>Answer to 1</summary>

A query that is tiled across the batch is right for one picture alone: the mistake would change nothing. And there would be no other picture whose query one could take.

</details>

<details><summary>Answer to 2</summary>

The position bias. A query of zeros makes all products zero, so the weights are the softmax of the bias, the same in every window and for every picture.

</details>

The solution to 3 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
ship = pixels[1]
for name, other in {"cat": pixels[0], "upside down": ship[::-1]}.items():
    logits = ask(query_of=(0, 0), pixels=np.stack([other, ship]))[1]
    moved = np.abs(logits - exact[1]).max()
    print(f"query of {name:11}: {moved:.2f} from the exact logits")
temporary.cleanup()
"""

# %% [markdown]
r"""
Next: [Scale](scale.ipynb) trains on many devices, and cuts a model that one cannot hold.

To look up: [ONNX Runtime](https://onnxruntime.ai), whose build for browsers runs here,
under the MIT licence; the [API reference](api.md); the [papers](references.md); the
[words](glossary.md).
"""
