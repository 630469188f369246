# Generated from book/flowers.ipynb, digest 9cd41bbf. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module flowers
# %% [markdown]
r"""
# Flowers

At the end of this chapter your model tells five kinds of flowers apart, on
photographs that it never saw. You can do the same with a folder of your own
pictures.
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

# %% mystnb={"figure": {"caption": "You are here: fine-tuning, which changes the whole model a little.", "name": "figure-flowers-map"}, "image": {"alt": "Map of GCViT in four rows; the box fine-tune in the first row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("flowers")
"""

# %% [markdown]
r"""
## The idea

A pretrained model has learned to see before it gets its first flower: edges,
textures, shapes. What it does not know is your classes. So you keep its weights,
give it a new head, and train it a little more: you
[fine-tune](glossary.md#term-fine-tuning) it.

Fine-tuning is training with two precautions. The new head is random, and so are
the first gradients that it sends back. Therefore you train the head alone at
first. And the learning rate rises slowly, so that the first steps change little.
"""

# %% mystnb={"figure": {"caption": "What happens to a picture. All is kept from the pretrained model but its head, which is new.", "name": "figure-flowers-steps"}, "image": {"alt": "From left to right: a picture; a part of it, mirrored or not; 64 by 64 pixels, normalised; the pretrained GCViT; a new head, highlighted; five classes."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(24, 4, figure_width=9)
steps = ["picture", "a part,\nmirrored\nor not", "64×64,\nnormalised"]
steps += ["GCViT,\npretrained", "new head", "5 classes"]
for i, step in enumerate(steps):
    color = plots.HERE if step == "new head" else plots.PAPER
    draw = plots.tensor if step in ("picture", "5 classes") else plots.box
    draw(axes, 4 * i + 0.2, 1, 3, 2, step, color)
    if i:
        plots.arrow(axes, (4 * i - 0.8, 2), (4 * i + 0.2, 2))
plots.plt.show()
"""

# %% [markdown]
r"""
## The code
"""

# %%
import contextlib
import os
import urllib.request

import keras
import numpy as np

from gcvit import arguments, drawn_flowers, pipelines, runs, tasks
from gcvit.examples import Example
from gcvit.pictures import decode  # public here, too


# %% [markdown]
r"""
### Pictures of every kind

Folders hold more than clean photographs: pictures in grey, in CMYK, with
transparency, with 16 bits, or turned by the camera.
[`decode`](api.md#gcvit.pictures.decode) makes red, green and blue of all of
them, from 0 to 255. Of an animation you take the first frame. Where a picture
has more than 8 bits, the highest value in your data says what is white: 4095,
say, for 12 bits that were stored in 16.
"""


# %% tags=["active-ipynb"]
r"""
import io

from PIL import Image


def file_of(mode, format):
    file = io.BytesIO()
    Image.new(mode, (30, 20)).save(file, format)
    return file.getvalue()


for mode, format in [
    ("CMYK", "jpeg"),
    ("I;16", "png"),
    ("RGBA", "png"),
    ("P", "gif"),
    ("L", "webp"),
]:
    image = decode(file_of(mode, format))
    print(f"{mode:4} {format:4} {image.shape} {image.dtype}")
"""

# %% [markdown]
r"""
### Where the pictures come from

There are three sources. Each gives two lists, one to train on and one to
validate with: pairs of a picture and the number of its class. And the names of
the classes, which are never written down here: they come with the data.

The first is `tf_flowers`, 3,670 photographs, from TensorFlow Datasets. The
usual split gives its last tenth to validation.
"""


# %%
TF_FLOWERS = "http://download.tensorflow.org/example_images/flower_photos.tgz"


def read_tf_flowers():
    """Read `tf_flowers`, downloading 218 MiB where it is not prepared.

    Returns:
        Pairs (bytes, class number) of `train[:90%]` and of `train[90%:]`, and
        the class names.

    Raises:
        ImportError: if TensorFlow Datasets is not installed.
        OSError: if it is not prepared and cannot be downloaded.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "tf_flowers takes a package: pip install tensorflow-datasets "
            "importlib-resources."
        ) from error
    builder = tfds.builder(
        "tf_flowers", data_dir=os.environ.get("TFDS_DATA_DIR")
    )
    if not builder.is_prepared():
        try:
            # Without a network TensorFlow Datasets keeps trying, for minutes.
            request = urllib.request.Request(TF_FLOWERS, method="HEAD")
            urllib.request.urlopen(request, timeout=10).close()
            builder.download_and_prepare()
        except Exception as error:  # a download has many ways to fail
            raise OSError(
                "tf_flowers is not prepared here, and could not be had from "
                f"{TF_FLOWERS}: {error}. Set TFDS_DATA_DIR to a folder where "
                "it is prepared, or give a folder of pictures or 'drawn' as "
                "source."
            ) from error
    splits = builder.as_dataset(
        split=["train[:90%]", "train[90%:]"],
        decoders={"image": tfds.decode.SkipDecoding()},
        as_supervised=True,
    )
    train, validation = (
        [(picture, int(label)) for picture, label in split.as_numpy_iterator()]
        for split in splits
    )
    return train, validation, builder.info.features["label"].names


# %% [markdown]
r"""
The second source is a folder of your own, one sub-folder for each class. A
tenth of each class is for validation. Which pictures that are depends on what
is in them, not on their names. So the copy of a file never lands on the other
side. The end of this chapter has more on your own pictures.

The third source needs neither network nor camera: flowers drawn by code. They
are a stand-in, and say so. Their species have petals of different number and
shape, and different centres. Colours alone are not enough to tell them apart,
and a test makes sure of that. Place, pose, size, light and background are random.
"""

# %% mystnb={"figure": {"caption": "Flowers drawn by code, six of each kind. Shape tells them apart; colour alone does not.", "name": "figure-flowers-drawn"}, "image": {"alt": "Five rows of six drawn flowers. Dandelions have many fine petals in a spiral, daisies long narrow petals around a golden centre, tulips six pointed petals, sunflowers a large brown centre, roses few petals that wind around. Colours, sizes and backgrounds vary within each row."}} tags=["active-ipynb"]
r"""
random = np.random.default_rng(0)
_, rows = plots.plt.subplots(5, 1, figsize=(6, 5.4), layout="constrained")
for axes, species in zip(rows, drawn_flowers.SPECIES):
    drawings = [
        drawn_flowers.draw_flower(species, random) for _ in range(6)
    ]
    axes.imshow(np.concatenate(drawings, axis=1))
    axes.set_title(species, loc="left")
    axes.axis("off")
plots.show_photos()
"""

# %% [markdown]
r"""
### From pictures to batches

In each pass a picture is seen differently. A part of it is cut out, a good
third of its area (0.35) at least. That part is resized, and mirrored in half of
the cases. For validation it is the middle, as in
[`preprocess`](pretrained.ipynb).

Decoding a photograph again in each pass would be a waste. So each picture is
decoded once, shrunk as far as the smallest part allows, and kept, until all of
them fill 2 GiB. From there on the others are decoded when it is their turn.
[`gcvit.pipelines`](api.md#pictures) does all this, for the three sources here
and, as [`load_pictures`](api.md#gcvit.pipelines.load_pictures), for any folder.
"""


# %%
def read(source, seed):
    """Read `tf_flowers` or the drawn ones; see `load_flowers`."""
    if source == "tf_flowers":
        return read_tf_flowers()
    if source == "drawn":
        print("These flowers are drawn by code: a stand-in for photographs.")
        return drawn_flowers.draw_flowers(seed)
    try:
        return read_tf_flowers()
    except (ImportError, OSError) as error:
        print(error)
        return read("drawn", seed)


# %%
def load_flowers(source=None, image_size=64, batch_size=32, seed=0):
    """Make the pipelines to train and to validate with.

    Args:
        source: `"tf_flowers"`; a folder as for `load_pictures`; or `"drawn"`.
            `None` takes what the environment variable GCVIT_FLOWERS says, or
            else `tf_flowers`, or else, where that is out of reach, the drawn
            ones.
        image_size: height and width in pixels, an int or a pair.
        batch_size: how many images are in each batch, an int.
        seed: an int.

    Returns:
        As `load_pictures`: `train` and `validation`, two `tf.data.Dataset`,
        and the class names.

    Raises:
        ImportError: if `tf_flowers` is asked for without its package.
        OSError: if `tf_flowers` is asked for, and out of reach.
        ValueError: as `load_pictures`.
    """
    pipelines.check_sizes(image_size, batch_size)
    if source is None:
        source = os.environ.get("GCVIT_FLOWERS") or None
    options = image_size, batch_size, seed
    if source not in (None, "tf_flowers", "drawn"):
        return pipelines.load_pictures(source, *options)
    train, validation, names = read(source, seed)
    train, validation = (
        [Example(*pair) for pair in pairs] for pairs in (train, validation)
    )
    return pipelines.make_pipelines(train, validation, names, options)


# %% [markdown]
r"""
One picture, as it is seen in six passes:
"""

# %% mystnb={"figure": {"caption": "One picture in six passes over the data: never quite the same.", "name": "figure-flowers-passes"}, "image": {"alt": "The same drawn daisy six times: each time another part of the picture, larger or smaller, some of them mirrored."}} tags=["active-ipynb"]
r"""
from gcvit.pipelines import BLACK, WHITE, cut_and_mirror, resize


def show(image, title, axes):
    image = (np.asarray(image) - BLACK) / (WHITE - BLACK)
    axes.imshow(np.clip(image, 0, 1))
    axes.set_title(title, fontsize=8)
    axes.axis("off")


picture = drawn_flowers.draw_flower("daisy", np.random.default_rng(4))
_, row = plots.plt.subplots(1, 6, figsize=(8, 1.6), layout="constrained")
for epoch, axes in enumerate(row):
    part = cut_and_mirror(picture, (0, epoch))
    show(resize(part, (64, 64)), f"pass {epoch}", axes)
plots.show_photos()
"""

# %% [markdown]
r"""
### The device at hand

Which way of computing is fast depends on the device and on Keras's backend.
"""


# %%
def has_gpu():
    """Tell whether Keras's backend has a GPU."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    devices = keras.distribution.list_devices()
    return any(device.startswith(("gpu", "cuda")) for device in devices)


def fast_dtype_policy():
    """Name the dtype policy that is fast on the device at hand.

    Returns:
        `"mixed_float16"` on a GPU, otherwise `"float32"`.
    """
    return "mixed_float16" if has_gpu() else "float32"


def fast_jit_compile():
    """Tell whether to compile on the device at hand.

    Returns:
        A bool: for TensorFlow `True` on a GPU, since on a CPU XLA makes this
        model slower; for JAX `True`; for PyTorch `False`, whose compiler does
        not finish with this model.
    """
    if keras.backend.backend() == "tensorflow":
        return has_gpu()
    return keras.backend.backend() == "jax"


# %% [markdown]
r"""
### Look at the data

How large should your images be? On a GPU you take 224 pixels, and XXTiny. On a
CPU you take 64 pixels, and `nano`, which a laptop trains in minutes.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
variant, image_size = ("xxtiny", 224) if has_gpu() else ("nano", 64)
train, validation, names = load_flowers(image_size=image_size)
images, labels = map(np.concatenate, zip(*validation))
largest = labels.sum(axis=0).max() / len(labels)
print(f"Always naming the largest class is right in {largest:.0%} of these.")
assert labels.sum(axis=0).min() >= 10 and largest < 0.3
"""

# %% [markdown]
r"""
The classes are of similar size, so accuracy is a fair measure. In
`tf_flowers` one photograph is there under two names: whoever sorts thousands
makes mistakes. These are
pictures for validation, as the model gets them. The photographs of `tf_flowers`
are by users of Flickr, under
[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/); a list of the authors
comes with the
[original archive](http://download.tensorflow.org/example_images/flower_photos.tgz).
"""

# %% mystnb={"figure": {"caption": "Pictures for validation, as the model gets them, with their classes.", "name": "figure-flowers-validation"}, "image": {"alt": "A grid of sixteen pictures of flowers, with the name of the class above each."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
_, grid = plots.plt.subplots(2, 8, figsize=(8, 2.5), layout="constrained")
for image, label, axes in zip(images, labels, grid.flat):
    show(image, names[label.argmax()], axes)
plots.show_photos()
"""

# %% [markdown]
r"""
### Fine-tuning

You train in two phases: first the head, then everything.
Over the $T$ steps of a phase, the learning rate rises for a tenth of them, $w$,
to its highest value $\eta$. Then it falls along half a cosine
([arXiv 1608.03983](https://arxiv.org/abs/1608.03983)) to zero. At step $t$ it is

$$
\eta \, \tfrac{t}{w} \;\text{ up to } w, \qquad
\tfrac{\eta}{2} \left(1 + \cos \pi \tfrac{t - w}{T - w}\right)
\;\text{ after that.}
$$

In fewer than ten steps there is no rise. AdamW
([arXiv 1711.05101](https://arxiv.org/abs/1711.05101)) pulls the weights
towards zero, but not biases and norms. Label smoothing
([arXiv 1512.00567](https://arxiv.org/abs/1512.00567)) asks for a little less
than certainty.

The loss follows from the model's head and your labels, and so does what the
best epoch is: [`gcvit.tasks`](api.md#tasks) chooses both, or says before the
first step what would go together. Here it is the cross-entropy of one class of
several, and the balanced accuracy, the mean over the classes of how many of
their pictures are right. If 31 of 32 pictures are of one class, a model that
always names it has an accuracy of 0.97, and a balanced accuracy of 0.5.
"""


# %%
def compile_model(
    model, task, steps, learning_rate, metrics=(), jit_compile=None
):
    """Compile a model for `steps` steps of fine-tuning; see `fine_tune`."""
    warmup = steps // 10  # in fewer than ten steps there is none
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else learning_rate,
            decay_steps=steps - warmup,
            warmup_target=learning_rate if warmup else None,
            warmup_steps=warmup,
        ),
        weight_decay=0.05,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer,
        task.loss,
        metrics=[*task.metrics, *metrics],
        jit_compile=fast_jit_compile() if jit_compile is None else jit_compile,
    )
    # All variables now: a state is loaded into them, and a step that makes
    # some is traced twice by TensorFlow.
    model.optimizer.build(model.trainable_variables)
    labels = np.eye(model.num_classes, dtype="float32")
    model.compute_metrics(None, labels, labels)
    model.reset_metrics()


# %% [markdown]
r"""
### Two phases

Training takes time, and machines stop. After each epoch the weights, the
optimizer's state and the dropouts' seeds go into a file, whole or not at all:
[`gcvit.runs`](api.md#runs) does that, and goes on where a run was cut. A loss
that is no number stops the run before anything of it is saved.
"""


# %%
@contextlib.contextmanager
def only_the_head(model):
    """Freeze all of a model but its head, for as long as the context lasts."""
    before = [weight.trainable for weight in model.weights]
    own = {id(weight) for weight in model.head.weights}
    try:
        for weight in model.weights:
            weight.trainable = id(weight) in own
        yield
    finally:
        for weight, trainable in zip(model.weights, before):
            weight.trainable = trainable


# %%
def fine_tune(
    model,
    train,
    validation,
    folder=None,
    *,
    head_epochs=1,
    epochs=10,
    learning_rate=1e-3,
    label_smoothing=0.1,
    class_weight=None,
    metrics=(),
    callbacks=(),
    jit_compile=None,
    verbose="auto",
):
    """Train a model on, and leave it with its best weights.

    First the head alone, so that random weights do not spoil pretrained ones;
    then everything. AdamW; in each of the two the learning rate rises for a
    tenth of the steps, and falls along a cosine to zero. The model trains in
    its own dtype policy; `fast_dtype_policy` names a fast one.

    The loss follows from head and labels. Softmax or logits and one-hot
    labels: cross-entropy. A sigmoid and labels in [0, 1], for several labels
    for each picture, or with one output for yes or no: cross-entropy of each.
    Logits and other numbers: the squared error. Of the second phase, the
    weights of the best epoch are kept: by the balanced accuracy in validation,
    the mean of the recalls of all classes; with several labels or numbers, by
    the loss.

    Args:
        model: a `GCViT`; it is compiled anew, and gets the `class_names` and
            the `value_range` of `train`, if it has them.
        train: a `tf.data.Dataset` of images `(B, height, width, 3)` and labels
            `(B, outputs)`; weights of the pictures, `(B,)`, may be its third
            part. After a cut, one from `load_pictures` repeats its order too.
        validation: another one.
        folder: where to keep the run: its settings, `history.json`, the best
            model, `best.keras`, in `states` that after the last epoch, and in
            `left_out.json` which files were no pictures. The same call goes on
            where it was cut, or at once returns what a finished run did.
            `None` keeps nothing.
        head_epochs: how many epochs for the head alone, an int; 0 trains
            everything at once.
        epochs: how many epochs for everything, an int.
        learning_rate: the highest one, a float; the head alone gets ten times
            as much.
        label_smoothing: the share of each label that is spread over all
            classes, in [0, 1).
        class_weight: a dict from class numbers to factors of the loss, for one
            class of several; `None` for none.
        metrics: more of them, as for `keras.Model.compile`.
        callbacks: more of them, as for `keras.Model.fit`, while everything is
            trained. One that stops the training ends the run. After a cut they
            begin anew.
        jit_compile: as for `keras.Model.compile`; `None` takes what is fast on
            the device at hand.
        verbose: as for `keras.Model.fit`.

    Returns:
        A dict of lists, one entry for each epoch: `"loss"`, `"accuracy"`,
        `"balanced_accuracy"` and what else was measured, in validation under
        `"val_loss"` and so on. `"val_recalls"` has a list of one number for
        each class, `None` for one without pictures.

    Raises:
        FloatingPointError: if a loss or a weight is no finite number. The
            model is as before that epoch, and so is the run.
        OSError: if the folder cannot be written to; the state after the epoch
            before is still there.
        ValueError: if the model does not go with the data, for numbers and
            rates that cannot work, or if the folder holds a run with other
            settings or other pictures.
    """
    head_epochs = arguments.whole_number("head_epochs", head_epochs, least=0)
    epochs = arguments.whole_number("epochs", epochs)
    rate = arguments.number("learning_rate", learning_rate, least=0)
    label_smoothing = arguments.rate("label_smoothing", label_smoothing)
    task = tasks.check_data(
        model, train, validation, label_smoothing, class_weight
    )
    tasks.tell(model, train)
    batches = int(train.cardinality())
    settings = {
        "head_epochs": head_epochs,
        "epochs": epochs,
        "learning_rate": rate,
        "label_smoothing": label_smoothing,
        "class_weight": str(class_weight),
        "batches": batches,
        "pictures": getattr(train, "contents", None),
        "class_names": model.class_names,
        "parameters": model.count_params(),
        "trainable_weights": len(model.trainable_weights),
        "dtype_policy": model.dtype_policy.name,
    }
    total, data = head_epochs + epochs, (train, validation)
    compiled = metrics, jit_compile
    options = {
        "best": (task.best, task.sign),
        "measures": task.measures(),
        "class_weight": class_weight,
        "verbose": verbose,
    }
    with runs.opened(folder, settings) as run:
        runs.write_left_out(getattr(train, "left_out", ()), run)
        if head_epochs and not runs.states_of(run, "all"):
            with only_the_head(model):
                # A higher rate: the head's weights are few, and all random.
                compile_model(
                    model, task, head_epochs * batches, 10 * rate, *compiled
                )
                runs.fit(model, data, run, "head", (0, head_epochs), **options)
        compile_model(model, task, epochs * batches, rate, *compiled)
        options["callbacks"] = callbacks
        runs.fit(model, data, run, "all", (head_epochs, total), **options)
        model.load_weights(run / "best.keras")
        return runs.read_history(run, total)


# %% [markdown]
r"""
## The proof

The model gets a head for as many classes as the data has.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
from gcvit import from_pretrained

keras.utils.set_random_seed(0)
keras.config.set_dtype_policy(fast_dtype_policy())
try:
    model = from_pretrained(variant, num_classes=len(names))
except (OSError, ValueError):  # no network, or one that answers for it
    variant = "nano"
    model = from_pretrained(
        variant, num_classes=len(names), image_size=image_size
    )
print(f"{variant}: {model.count_params():,} parameters")
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
history = fine_tune(model, train, validation, epochs=8, verbose=2)
"""

# %% [markdown]
r"""
What was the pretraining worth? You train the same model from random weights,
for as many epochs. There is nothing to protect, so all of it is trained at once.
"""

# %% mystnb={"figure": {"caption": "Accuracy after each epoch: for training where the legend says so, otherwise for validation. The first trains only the new head of the pretrained model; from the second on that model is above the one from scratch.", "name": "figure-flowers-accuracy"}, "image": {"alt": "Three curves of accuracy over nine epochs: the pretrained model in training and in validation, and the one from scratch. They begin at the same height; the pretrained model's end near 0.87 in training and 0.82 in validation, the other near 0.7."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
scratch = type(model).from_config(model.get_config())
scratch_history = fine_tune(
    scratch, train, validation, head_epochs=0, epochs=9, verbose=0
)
_, axes = plots.plt.subplots(figsize=(6, 3), layout="constrained")
for title, style, color, values in [
    ("pretrained, training", ":", plots.BLUE, history["accuracy"]),
    ("pretrained", "-", plots.BLUE, history["val_accuracy"]),
    ("from scratch", "-", plots.RED, scratch_history["val_accuracy"]),
]:
    epochs = range(1, len(values) + 1)
    axes.plot(epochs, values, style, color=color, label=title)
axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
axes.legend()
plots.plt.show()
best = max(history["val_accuracy"])
scratch_best = max(scratch_history["val_accuracy"])
print(f"validation accuracy: {best:.3f}, from scratch {scratch_best:.3f}")
assert best > 0.7 and best > scratch_best + 0.05
"""

# %% [markdown]
r"""
The training accuracy is that of parts and mirror images, which are harder, and
of weights that still changed. So it can be below the validation accuracy.

One run is one run. Over three seeds `nano`, with images of 64 pixels from
`tf_flowers`, has 0.825 ± 0.003 with pretraining, and 0.702 ± 0.010 without it,
in under two minutes each on two cores. The run above started from scratch with
other random numbers, and came out lower:
[`benchmarks/flowers.md`](https://github.com/gcvit-book/gcvit-book/blob/main/benchmarks/flowers.md).
The best epoch was chosen on the same pictures, so these numbers flatter a
little. For a fair one, keep pictures that played no part.

On the page of the
[published example](https://keras.io/examples/vision/image_classification_using_global_context_vision_transformer/),
XXTiny reaches 0.9210 on the same split, at 224 pixels, after 5 epochs. That
number is theirs, of a model with [two mistakes](pretrained.ipynb) in it.

Which flowers does the model mistake for which?
"""

# %% mystnb={"figure": {"caption": "How often each kind was taken for which. The diagonal has the right answers.", "name": "figure-flowers-confusion"}, "image": {"alt": "A confusion matrix of five classes, the true ones down, the answers across. Most pictures are on the diagonal."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
answers = model.predict(images, verbose=0)
truth, guesses = labels.argmax(axis=1), answers.argmax(axis=1)
matrix = np.zeros((len(names), len(names)), int)
np.add.at(matrix, (truth, guesses), 1)
_, axes = plots.plt.subplots(figsize=(5, 4.2), layout="constrained")
axes.imshow(matrix, vmax=2.5 * matrix.max())  # pale enough for the numbers
for (i, j), count in np.ndenumerate(matrix):
    axes.text(j, i, count, ha="center", va="center")
ticks = range(len(names))
axes.set_xticks(ticks, names, rotation=30)
axes.set_yticks(ticks, names)
axes.set(xlabel="answer", ylabel="truth")
plots.plt.show()
assert matrix.trace() / matrix.sum() > 0.7
"""

# %% [markdown]
r"""
And where was it most wrong? Above each picture stands the truth, then the
answer with its probability.
"""

# %% mystnb={"figure": {"caption": "The six pictures for which the model gave the truth the least probability.", "name": "figure-flowers-worst"}, "image": {"alt": "Six flowers; above each its class, and the class that the model took it for, with the probability."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
worst = np.argsort(answers[np.arange(len(truth)), truth])[:6]
_, row = plots.plt.subplots(1, 6, figsize=(8, 2), layout="constrained")
for i, axes in zip(worst, row):
    guess = f"{names[guesses[i]]} {answers[i].max():.2f}"
    show(images[i], f"{names[truth[i]]}\nnot {guess}", axes)
plots.show_photos()
"""

# %% [markdown]
r"""
Where does the model look? Grad-CAM
([arXiv 1610.02391](https://arxiv.org/abs/1610.02391)) asks of a map in the
middle of the model: which channels would raise the answer's probability? It
adds the map's channels up, weighed by that. What is orange speaks for the
answer. The gradients are TensorFlow's: Keras has no function for them that works
on every backend. So this cell needs TensorFlow as Keras's backend.

At 64 pixels that map has 8×8 tokens, so the answer is coarse. It is not always
the blossom that is orange: backgrounds speak, too.
"""

# %% mystnb={"figure": {"caption": "Where Grad-CAM says that the model looks: orange speaks for the answer. The map has 8\u00d78 tokens, so it is coarse.", "name": "figure-flowers-grad-cam"}, "image": {"alt": "Two rows of eight pictures: flowers, and below each the same picture in grey, with orange where the model looks."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
import tensorflow as tf


def grad_cam(model, images):
    x = model.feature_maps(images)["level_1"]
    with tf.GradientTape() as tape:
        tape.watch(x)
        rest = model.levels[1].down(x)
        for level in model.levels[2:]:
            rest = level(rest)
        answers = model.head(model.pool(model.norm(rest)))
        score = tf.math.log(tf.reduce_max(answers, axis=-1))
    weights = tf.reduce_mean(tape.gradient(score, x), (1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(x * weights, -1, keepdims=True))
    heat /= tf.reduce_max(heat, (1, 2, 3), keepdims=True)
    return tf.image.resize(heat, images.shape[1:3], "bicubic")


right = np.flatnonzero(truth == guesses)[:8]
heat = grad_cam(model, images[right])
_, grid = plots.plt.subplots(2, 8, figsize=(8, 2.3), layout="constrained")
for i, warmth, (above, below) in zip(right, heat, grid.T):
    show(images[i], names[truth[i]], above)
    below.imshow(images[i].mean(axis=-1), cmap="gray")
    plots.highlight(below, 0.7 * warmth[..., 0])
    below.axis("off")
plots.show_photos()
"""

# %% [markdown]
r"""
Now a picture of your own. [`classify`](api.md#gcvit.classify) reads it as above,
and prepares it as for any of the pretrained models. `fine_tune` gave the model
the names of the classes. This one is a drawing, so do not expect too much of a
model that knows photographs.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
from pathlib import Path
from tempfile import mkdtemp

from gcvit import classify

folder = Path(mkdtemp())
path = folder / "my flower.png"
Image.fromarray(picture).save(path)
(best_three,) = classify(model, path, top=3)
for name, probability in best_three:
    print(f"{name:12} {probability:.2f}")
"""

# %% [markdown]
r"""
Save the model, and load it again. On a CPU the answers are the same to the bit.
The names travel with the file: whoever has it needs `import gcvit`, and
`gcvit.classify("flowers.keras", "photo.jpg")`.
"""

# %% tags=["active-ipynb"]
r"""
model.save(folder / "flowers.keras")
again = keras.saving.load_model(folder / "flowers.keras")
same = again.predict(images, verbose=0)
difference = check.difference(same, answers)
print(f"max |Δ| / std = {difference}")
assert difference < check.TOLERANCE
assert has_gpu() or np.array_equal(same, answers)
"""

# %% [markdown]
r"""
## What can go wrong

Pictures can be prepared in another way than in training, and there is no error.
Here they go from 0 to 1, and are not normalised.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
unnormalised = (images - BLACK) / (WHITE - BLACK)
wrong = model.predict(unnormalised, verbose=0)
accuracy = (wrong.argmax(axis=1) == truth).mean()
difference = check.difference(wrong, answers)
print(f"accuracy {accuracy:.3f}, max |Δ| / std = {difference:.1f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
These mistakes are found before the first step:
"""

# %% tags=["active-ipynb"]
r"""
def is_refused(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except ValueError as error:
        print(str(error).replace(str(folder), "…"))


thousand = from_pretrained("nano", num_classes=1000, image_size=image_size)
is_refused(fine_tune, thousand, train, validation)
is_refused(load_flowers, folder)
"""

# %% [markdown]
r"""
Machines stop, too. Give `fine_tune` a folder, and it keeps its state there.
Interrupt it, call it again, and it goes on after the last finished epoch, with
the same learning rates and the same order of pictures.

## Your own pictures

Put them into a folder, one sub-folder for each class, which gives the class its
name. `gcvit.load_pictures` makes the pipelines, and says what it found. What is
no picture is left out, with the reason, and with what would help.
"""

# %% tags=["active-ipynb"]
r"""
import warnings

from gcvit import load_pictures

mine = folder / "my flowers"
random = np.random.default_rng(1)
for species in ("daisy", "roses"):
    (mine / species).mkdir(parents=True)
    for number in range(20):
        drawing = Image.fromarray(drawn_flowers.draw_flower(species, random))
        drawing.save(mine / species / f"{number}.jpg")
(mine / "roses" / "notes.txt").write_text("red, from the garden")

with warnings.catch_warnings(record=True) as caught:
    own_train, own_validation, own_names = load_pictures(mine)
print(str(caught[0].message).replace(str(mine), "…"))
print(own_names, own_train.element_spec[1].shape)
assert sum(len(labels) for _, labels in own_validation) == 4
"""

# %% [markdown]
r"""
The rest of this chapter then applies as it stands: a model with
`num_classes=len(names)`, and `fine_tune`. What you may want to change:

- **A split of your own**: `load_pictures("train", validation="val")`.
- **Pictures that belong together**, of one patient, or of one burst of shots: a random split would put some on each side, and the accuracy would look too good. `group_by="folder"` keeps each sub-folder of a class together, and `group_by="^patient[0-9]+"` the files whose names agree in that.
- **Classes of very different size**: `class_weight={0: 1.0, 1: 25.0}` counts a mistake in the second more. `history["val_recalls"]` has how many of each class are right.
- **Few pictures**: an epoch has few steps then, so take more epochs.
- **A GPU**: take XXTiny, and 224 pixels or more. If memory runs out, take a smaller `batch_size`.

## Summary

- Fine-tuning keeps pretrained weights, replaces the head, and trains gently: the head first, warm-up, then a cosine.
- The pipeline decodes once and cuts out anew in each pass; validation sees the middle, prepared as for any pretrained model.
- A run that keeps a folder can be interrupted at any time; the saved model knows the names of its classes.

## Exercises

1. Half of your files are also in the folder under another name. What would a random split do to the validation accuracy, and what does this one do?
2. Why is a picture shrunk to more than 64 pixels before it is kept?
3. Why does the first phase train the head alone? Which gradients would spoil the rest?
4. Your folder has twelve sub-folders. Which shapes do the kernel and the bias of `nano`'s new head have?
5. Accuracy counts all pictures alike. Compute the accuracy within each class.

<details><summary>Answers to 1, 2, 3 and 4</summary>

1. With a random split, copies of training pictures are in the validation split, and the model has seen them: the accuracy is too high. Here the split depends on the content, so that all copies are on one side.
2. A part of a good third of the area, cut out of 64 pixels, would have to be enlarged. The kept picture is so large that its smallest part still has 64 pixels.
3. The head is random, so what it sends back through the model is a random mixture of its weights. At a full learning rate, that would change all the pretrained weights at random.
4. (256, 12) and (12,). `nano` starts with 32 channels, see its settings in [Model](model.ipynb), and each of the three levels after the first doubles them.

</details>

The solution to 5 is folded below.
"""

# %% tags=["active-ipynb", "hide-cell", "nbval-ignore-output"]
r"""
for name, row, right in zip(names, matrix, matrix.diagonal()):
    print(f"{name:12} {right / row.sum():.2f} of {row.sum()}")
assert (matrix.diagonal() / matrix.sum(axis=1)).min() > 0.4
"""

# %% [markdown]
r"""
You built the model, loaded pretrained weights, and taught it something new.
The [architecture page](architecture.md) is there when you want to look
something up.

To look up: [`load_flowers`](api.md#gcvit.flowers.load_flowers),
[`fine_tune`](api.md#gcvit.flowers.fine_tune),
[`load_pictures`](api.md#gcvit.pipelines.load_pictures),
[`classify`](api.md#gcvit.classify),
[`decode`](api.md#gcvit.pictures.decode),
[`fast_dtype_policy`](api.md#gcvit.flowers.fast_dtype_policy),
[`fast_jit_compile`](api.md#gcvit.flowers.fast_jit_compile) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
