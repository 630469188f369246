# Generated from book/deploy.ipynb, digest 55ef41ab. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module deploy
# %% [markdown]
r"""
# Deploy

A model that was fine-tuned on flowers leaves Keras: it becomes one file, and a program
of twelve lines, which has never heard of Keras, asks it about a picture. You see that
both give the same answers, and which ways out are right.

About 10 minutes. Easy: you should know [Flowers](flowers.ipynb).
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

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's part sits: `export` takes the whole model, and leaves a file.", "name": "figure-deploy-map"}, "image": {"alt": "Map of GCViT in four rows; the box export in the first row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("deploy")
"""

# %% [markdown]
r"""
An ONNX file takes three packages: `tf2onnx` and `onnx` write it, `onnxruntime` runs
it. With Keras on PyTorch, `tf2onnx` is not needed.
"""

# %% mystnb={"code_prompt_hide": "Hide the installation", "code_prompt_show": "Show the installation"} tags=["active-ipynb", "hide-input"]
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

The model is `nano`, fine-tuned as in [Flowers](flowers.ipynb), but for a few epochs
and in its head alone, which is quick. The flowers are drawn by code, a stand-in for
photographs: with `load_flowers("tf_flowers")`, or a folder of your own, nothing else
changes.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
import subprocess
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
from PIL import Image

from gcvit import classify, drawn_flowers, fine_tune, from_pretrained
from gcvit import load_flowers, preprocess

temporary = TemporaryDirectory()
folder = Path(temporary.name)
train, validation, names = load_flowers("drawn", image_size=64)
model = from_pretrained("nano", num_classes=len(names))
for part in (model.patch_embed, *model.levels):
    part.trainable = False
history = fine_tune(
    model,
    train,
    validation,
    head_epochs=0,
    epochs=4,
    learning_rate=1e-2,
    verbose=0,
)
accuracy = max(history["val_accuracy"])
print(f"accuracy in validation: {accuracy:.2f}, ", end="")
print(f"by chance {1 / len(names):.2f}")
assert accuracy > 1.5 / len(names)
random = np.random.default_rng(0)
flower = drawn_flowers.draw_flower("sunflowers", random)
Image.fromarray(flower).save(folder / "flower.png")
"""

# %% [markdown]
r"""
One line exports it. `include_preprocessing=True` puts the normalisation into the file, so
that the file takes pixels as they are, bytes from 0 to 255, and gives probabilities.
A model as it was pretrained, or that you loaded from a `.keras` file, is exported by
the same line.
"""

# %% tags=["active-ipynb"]
r"""
path = folder / "flowers.onnx"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what TensorFlow and tf2onnx say
    model.export(
        path, format="onnx", include_preprocessing=True, verbose=False
    )
print(f"{path.name}, {path.stat().st_size / 1e6:.0f} MB")
"""

# %% [markdown]
r"""
And this is the other end: ONNX Runtime, NumPy and Pillow. It resizes, since pictures
have all sizes, and `ImageOps.fit` cuts out the middle as `preprocess` does. The names
of the classes are in the file.
"""

# %% tags=["active-ipynb"]
r"""
consumer = '''import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
images = session.get_inputs()[0]
size = images.shape[2], images.shape[1]
picture = ImageOps.fit(Image.open(sys.argv[2]).convert("RGB"), size)
(answer,) = session.run(None, {images.name: np.asarray(picture)[None]})[0]
print(names[answer.argmax()], f"{answer.max():.2f}")
'''
_ = (folder / "consumer.py").write_text(consumer, "utf-8")
"""

# %% [markdown]
r"""
A process of its own runs it. In that process an import of Keras, of a backend or of
`gcvit` is an error.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
without = '''import runpy, sys
for name in ("gcvit", "keras", "tensorflow", "jax", "torch"):
    sys.modules[name] = None  # importing it is an ImportError
runpy.run_path(sys.argv.pop(1), run_name="__main__")
'''
command = [sys.executable, "-c", without]
command += [folder / "consumer.py", path, folder / "flower.png"]
answer = subprocess.run(command, capture_output=True, text=True, check=True)
there = answer.stdout.split()
((name, probability), *_) = classify(model, folder / "flower.png")[0]
print("ONNX Runtime:", *there)
print("Keras:       ", name, f"{probability:.2f}")
assert there[0] == name
assert abs(float(there[1]) - probability) < 0.03
"""

# %% [markdown]
r"""
Where the two differ, it is in the resizing: Pillow rounds the resized pixels to bytes,
and `preprocess` does not.

## The proof

On the same pixels, they must not differ. Seven images, of bytes; the model gets them
through `preprocess`.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
session = onnxruntime.InferenceSession(path)
(given,) = session.get_inputs()
print(given.type, given.shape[1:])


def ask(images):
    return session.run(None, {given.name: images})[0]


random = np.random.default_rng(0)
images = random.integers(0, 256, (7, 64, 64, 3), "uint8")
expected = keras.ops.convert_to_numpy(model(preprocess(images, 64)))
difference = check.difference(ask(images), expected)
print(f"max |Δ| / std = {difference:.1e}, for seven images")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
You need not do this yourself: [`export`](api.md#gcvit.exporting.export) does. It
writes the file beside its place, runs it where the runtime is installed, compares it
with the model, and only then moves it to its place.

## Which ways are right

A format is written by Keras, by the backend and by a converter, and a converter can
be wrong without a word. With TensorFlow, plain Keras left an ONNX file of this model
that ONNX Runtime could not open, and an OpenVINO file whose answers were wrong. So
a test tries each pair of format and backend with one, two and seven images, which are
not square, and a model with a layer scale. These pairs are right. Every other one is
refused, and the error names one that is right.
"""

# %% tags=["active-ipynb"]
r"""
from gcvit import exporting

backends = ["tensorflow", "jax", "torch"]
print(f"{'':16}", *(f"{backend:12}" for backend in backends))
for format in exporting.ENDINGS:
    found = [(format, backend) in exporting.ROUTES for backend in backends]
    cells = (f"{['refused', 'right'][is_right]:12}" for is_right in found)
    print(f"{format:16}", *cells)
"""

# %% [markdown]
r"""
With JAX, save the model, and load it with `KERAS_BACKEND=tensorflow`: a `.keras` file
belongs to no backend. What JAX 0.10.2 writes, neither TensorFlow 2.21 nor OpenVINO can
read; the way over the package jax2onnx was not tried.

What had to change in the layers? Two things, and both are about what a graph knows.

- **A number that is known must be a number.** Every image has its global query repeated for each of its windows. How many those are was a quotient of two sizes that only a call knows, and OpenVINO's converter got it wrong. The block knows its map, so now it tells its attention the number. That mends most of OpenVINO's files, but not all: at some sizes its runtime stumbles over what TensorFlow's converter wrote, so that pair is refused.
- **An operator must exist at the other end.** TensorFlow's GELU has one, `Erfc`, that ONNX has not. While `export` works, GELU is written through `erf`, and the layer norms as sums; PyTorch's own is one that its exporter cannot write for any batch.

## What can go wrong

**Predict, then see.** The constants of the normalisation are in the file. What does
a program get that scales its pixels to [0, 1] first, out of habit?
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
scaled = (images / 255).astype("uint8")
difference = check.difference(ask(scaled), expected)
print(f"max |Δ| / std = {difference:.1f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
An answer, and a wrong one: no error tells. Bytes are harder to get wrong than floats,
since as bytes these pixels are all black.

What `export` can see, it says before it works.
"""

# %% tags=["active-ipynb"]
r"""
for wrong in (
    {"filepath": folder / "flowers.onnx", "format": "caffe"},
    {"filepath": folder / "flowers.onnx", "format": "litert"},
    {"filepath": folder / "nowhere" / "flowers.onnx", "format": "onnx"},
):
    try:
        model.export(**wrong)
    except (ValueError, OSError) as error:
        print(str(error).replace(str(folder), "…"))
"""

# %% [markdown]
r"""
## Summary

- `model.export("mine.onnx", format="onnx", include_preprocessing=True)` leaves a file that takes bytes, gives probabilities, and knows its classes.
- A file that does not answer as the model does is not kept; a way that cannot be right is refused.
- The other end resizes, and needs no constants.

## Exercises

1. (3 minutes, easy) Why does the file not resize?
2. (3 minutes, medium) A model that was fine-tuned on 12-bit pictures has a `value_range` of (0, 4095). Why does its file with preprocessing not take bytes?
3. (5 minutes, easy) An experiment. Turn the sunflower by 90, 180 and 270 degrees, and ask the file about all four pictures in one call. Is it still the same flower? Predict before you run it.

<details><summary>Answer to 1</summary>

Photos come in all sizes, and a batch has one. Every language has a library that decodes and resizes photos, and few of them agree to the last digit with Keras; the file's own answers are exact because it begins after that.

</details>

<details><summary>Answer to 2</summary>

A byte ends at 255. The file takes floats from 0 to 4095.

</details>

The solution to 3 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell", "nbval-ignore-output"]
r"""
from gcvit import decode_predictions

small = np.asarray(Image.fromarray(flower).resize((64, 64)))
turned = np.stack([np.rot90(small, count) for count in range(4)])
answers = decode_predictions(ask(turned), model.class_names, top=1)
for degrees, ((name, probability),) in zip(range(0, 360, 90), answers):
    print(f"{degrees:3} degrees: {name} {probability:.2f}")
temporary.cleanup()
"""

# %% [markdown]
r"""
Next: [Live](live.ipynb) runs a model in this book's own page, and shows what it does.

To look up: [`export`](api.md#gcvit.exporting.export) in the API reference; the
[papers](references.md); the [words](glossary.md).
"""
