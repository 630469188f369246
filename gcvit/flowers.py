# Generated from book/flowers.ipynb, digest 87590fcf. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module flowers
# %% [markdown]
r"""
# Flowers

In a few minutes on a laptop, `nano` learns to tell five kinds of flowers apart,
on photographs that it never saw. You can do the same with a folder of your own
pictures: the recipe, near the end, has ten lines.

About 25 minutes. Medium: you should have trained a network before.
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

# %% [markdown]
r"""
## The result

These are photographs of [`tf_flowers`](https://www.tensorflow.org/datasets/catalog/tf_flowers), as the model
gets them, with the names of their classes. They are kept for validation.
"""

# %% mystnb={"figure": {"caption": "Pictures for validation, as the model gets them, with their classes.", "name": "figure-flowers-validation"}, "image": {"alt": "A grid of sixteen pictures of flowers, with the name of the class above each."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
import keras
import numpy as np

from gcvit import fine_tune, from_pretrained, load_flowers
from gcvit.pipelines import BLACK, WHITE


def show(image, title, axes):
    image = (np.asarray(image) - BLACK) / (WHITE - BLACK)
    axes.imshow(np.clip(image, 0, 1))
    axes.set_title(title, fontsize=8)
    axes.axis("off")


train, validation, names = load_flowers(image_size=64)
images, labels = map(np.concatenate, zip(*validation))
_, grid = plots.plt.subplots(2, 8, figsize=(8, 2.5), layout="constrained")
for image, label, axes in zip(images, labels, grid.flat):
    show(image, names[label.argmax()], axes)
plots.show_photos()
"""

# %% [markdown]
r"""
You take [`nano`](pretrained.ipynb), which knows ten other classes, give it a
new head, and train it a little more.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
keras.utils.set_random_seed(0)
model = from_pretrained("nano", num_classes=len(names))
history = fine_tune(model, train, validation, epochs=8, verbose=2)
answers = model.predict(images, verbose=0)
truth, guesses = labels.argmax(axis=1), answers.argmax(axis=1)
print(f"{(truth == guesses).mean():.1%} of {len(truth)} pictures are right.")
largest = np.bincount(truth).max() / len(truth)
print(f"Always naming the largest class would be right in {largest:.1%}.")
assert (truth == guesses).mean() > 0.7 and largest < 0.3
"""

# %% [markdown]
r"""
That is the whole of it. The classes are of similar size, so accuracy is a fair
measure. On a GPU, take `from_pretrained("xxtiny", num_classes=5)` and
`image_size=224` instead; no other line changes.

The photographs are by users of Flickr, under
[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/); a list of the authors
comes with the
[original archive](http://download.tensorflow.org/example_images/flower_photos.tgz).

### What was the pretraining worth?

Train the same model from random weights, for as many epochs. There is nothing
to protect, so all of it is trained at once. How far do you expect it to get?
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
The training accuracy is measured on cut-out parts and mirror images, which are
harder, and while the weights were still changing.
So it can be below the validation accuracy.

One run is one run. Over three seeds the accuracies were between 0.823 and 0.828
with pretraining, and between 0.692 and 0.711 without it:
[`benchmarks/flowers.md`](https://github.com/gcvit-book/gcvit-book/blob/main/benchmarks/flowers.md).
The best epoch was chosen on the same pictures, so these numbers flatter a
little. For a fair one, keep pictures that played no part. In `tf_flowers` one
photograph is there under two names: whoever sorts thousands makes mistakes.

On the page of the
[published example](https://keras.io/examples/vision/image_classification_using_global_context_vision_transformer/),
XXTiny reaches 0.9210 on the same split, at 224 pixels, after 5 epochs. That
number is theirs, of a larger model at another size, with
[two mistakes](pretrained.ipynb) in it: the two numbers do not compare.

### Where it is wrong

Which flowers does the model take for which?
"""

# %% mystnb={"figure": {"caption": "How often each kind was taken for which. The diagonal has the right answers.", "name": "figure-flowers-confusion"}, "image": {"alt": "A confusion matrix of five classes, the true ones down, the answers across. Most pictures are on the diagonal."}} tags=["active-ipynb", "nbval-ignore-output"]
r"""
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
And which were its worst answers? Above each picture stands the truth, then
the answer with its probability.
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
adds up the map's channels, weighted by the result. Orange areas speak for the
answer.
The gradients are TensorFlow's: Keras has no function for them that works
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
## How it is done

A pretrained model has learned to see before it gets its first flower: edges,
textures, shapes. What it does not know is your classes. So you keep its weights,
give it a new head, and train it a little more: you
[fine-tune](glossary.md#term-fine-tuning) it.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's part sits: fine-tuning, which changes the whole model a little.", "name": "figure-flowers-map"}, "image": {"alt": "Map of GCViT in four rows; the box fine-tune in the first row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("flowers")
"""

# %% [markdown]
r"""
Fine-tuning is training with two precautions. The new head is random, and so are
the first gradients that it sends back. Therefore you train the head alone at
first. And the learning rate rises slowly, so that the first steps change little.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "What happens to a picture. The head is new; everything else is kept from the pretrained model.", "name": "figure-flowers-steps"}, "image": {"alt": "In two rows: a picture; a part of it, mirrored or not; 64 by 64 pixels, normalised; then the pretrained GCViT; a new head, highlighted; five classes."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(12, 6.4, figure_width=6)
steps = ["picture", "a part,\nmirrored\nor not", "64×64,\nnormalised"]
steps += ["GCViT,\npretrained", "new head", "5 classes"]
for i, step in enumerate(steps):
    color = plots.HERE if step == "new head" else plots.PAPER
    draw = plots.tensor if step in ("picture", "5 classes") else plots.box
    x, y = 4 * (i % 3) + 0.2, 3.8 - 3.2 * (i // 3)
    draw(axes, x, y, 3, 2, step, color)
    if i % 3:
        plots.arrow(axes, (x - 1, y + 1), (x, y + 1))
plots.arrow(axes, (9.7, 3.8), (1.7, 2.6))
plots.plt.show()
"""

# %%
import contextlib
import os

import keras
import numpy as np

from gcvit import arguments, flower_sources, pipelines, runs, shares, tasks
from gcvit.devices import fast_dtype_policy, fast_jit_compile  # public here
from gcvit.examples import Example
from gcvit.pictures import decode  # public here, too


# %% [markdown]
r"""
### The pictures

There are three sources. `tf_flowers` has 3,670 photographs, and comes from
TensorFlow Datasets; its last tenth is for validation. A folder of your own has
one sub-folder for each class, and a tenth of each class is for validation.
A picture's content, not its name, decides which side it goes to, so copies of a
picture always stay on the same side.

The third source needs neither network nor camera: flowers drawn by code. They
are a stand-in, and say so. Their species have petals of different number and
shape; colours alone do not tell them apart, and a test makes sure of that.
"""

# %% mystnb={"figure": {"caption": "Flowers drawn by code, six of each kind. Shape tells them apart; colour alone does not.", "name": "figure-flowers-drawn"}, "image": {"alt": "Five rows of six drawn flowers. Dandelions have many fine petals in a spiral, daisies long narrow petals around a golden centre, tulips six pointed petals, sunflowers a large brown centre, roses few petals that wind around. Colours, sizes and backgrounds vary within each row."}} tags=["active-ipynb"]
r"""
from gcvit import drawn_flowers

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
Pictures come in every kind: in grey, in CMYK, with transparency, with 16 bits,
or turned by the camera. [`gcvit.pictures`](api.md#pictures) makes red, green and
blue of all of them. In each pass over the data a picture is then seen
differently. A part of it is cut out, at least 0.35 of its area.
That part is resized, and mirrored in half of the cases.
"""

# %% mystnb={"figure": {"caption": "One picture in six passes over the data: never quite the same.", "name": "figure-flowers-passes"}, "image": {"alt": "The same drawn daisy six times: each time another part of the picture, larger or smaller, some of them mirrored."}} tags=["active-ipynb"]
r"""
from gcvit.pipelines import cut_and_mirror, resize

picture = drawn_flowers.draw_flower("daisy", np.random.default_rng(4))
_, row = plots.plt.subplots(1, 6, figsize=(8, 1.6), layout="constrained")
for epoch, axes in enumerate(row):
    part = cut_and_mirror(picture, (0, epoch))
    show(resize(part, (64, 64)), f"pass {epoch}", axes)
plots.show_photos()
"""

# %% [markdown]
r"""
For validation it is always the middle, as in [`preprocess`](pretrained.ipynb).

Decoding a photograph again in each pass would be a waste. So each picture is
decoded once, shrunk as far as the smallest part allows, and kept, until all of
them fill 2 GiB. From there on the others are decoded when it is their turn.
[`gcvit.pipelines`](api.md#pictures) does all this, for the three sources here
and, as [`load_pictures`](api.md#gcvit.pipelines.load_pictures), for any folder.
"""


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
    train, validation, names = flower_sources.read(source, seed)
    train, validation = (
        [Example(*pair) for pair in pairs] for pairs in (train, validation)
    )
    return pipelines.make_pipelines(train, validation, names, options)


# %% [markdown]
r"""
### The learning rate and the loss

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

The model's head and your labels determine the loss, and also the measure by
which the best epoch is chosen. [`gcvit.tasks`](api.md#tasks) chooses both, or
tells you before the first step which combinations would work. Here they are the
cross-entropy for one class among several, and the balanced accuracy: the share
of right answers within each class, averaged over the classes.
If 31 of 32 pictures are of one class, a model that
always names it has an accuracy of 0.97, and a balanced accuracy of 0.5.

Whether the backend compiles the model depends on the device at hand;
[`gcvit.devices`](api.md#devices) knows what is fast.
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
        jit_compile=fast_jit_compile() if jit_compile is None else jit_compile,
        **{task.argument: [*task.metrics, *metrics]},
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
that is not a number stops the run before anything of it is saved.
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


# %% [markdown]
r"""
`fine_tune` checks the data, then trains the head, then everything. In the end the
model has the weights of its best epoch.
"""


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

    With JAX, many devices train the model that one would. Before anything
    else, several processes call `keras.distribution.initialize()`, and set a
    `keras.distribution.DataParallel()` with `set_distribution`. The same call
    then trains, and goes on where it was cut, also with fewer devices. Each
    of them must get as many pictures of each batch: `load_pictures` sees to
    it. Your own `metrics` must heed `sample_weight`.

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
            `None` keeps nothing. Several processes need one on a drive that
            all see; the first process writes.
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
        FloatingPointError: if a loss or a weight is not a finite number. The
            model is as before that epoch, and so is the run.
        OSError: if the folder cannot be written to; the state after the epoch
            before is still there.
        ValueError: if the model does not go with the data, for numbers and
            rates that cannot work, if the folder holds a run with other
            settings or other pictures, or if processes do not agree.
    """
    head_epochs = arguments.whole_number("head_epochs", head_epochs, least=0)
    epochs = arguments.whole_number("epochs", epochs)
    rate = arguments.number("learning_rate", learning_rate, least=0)
    label_smoothing = arguments.rate("label_smoothing", label_smoothing)
    task = tasks.check_data(
        model, train, validation, label_smoothing, class_weight
    )
    shares.check_model(model)
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
    data, class_weight = shares.weigh_classes(data, class_weight)
    compiled = metrics, jit_compile
    options = {
        "best": (task.best, task.sign),
        "measures": task.measures(),
        "class_weight": class_weight,
        "verbose": verbose,
    }
    with (
        runs.opened(folder, settings) as run,
        shares.filler_uncounted(model, data),
    ):
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

Save the model, and load it again. On a CPU the answers are the same to the bit.
The names of the classes are in the file, too.
"""

# %% tags=["active-ipynb"]
r"""
from pathlib import Path
from tempfile import mkdtemp

from gcvit.devices import has_gpu

folder = Path(mkdtemp())
model.save(folder / "flowers.keras")
again = keras.saving.load_model(folder / "flowers.keras")
same = again.predict(images, verbose=0)
difference = check.difference(same, answers)
print(f"max |Δ| / std = {difference:.1e}")
assert difference < check.TOLERANCE
assert has_gpu() or np.array_equal(same, answers)
"""

# %% [markdown]
r"""
Whoever has the file can ask it about a picture. This one is a drawing, so do not
expect too much of a model that knows photographs.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
from PIL import Image

import gcvit

Image.fromarray(picture).save(folder / "my flower.png")
path = folder / "flowers.keras"
(best_three,) = gcvit.classify(path, folder / "my flower.png", top=3)
for name, probability in best_three:
    print(f"{name:12} {probability:.2f}")
"""

# %% [markdown]
r"""
## What can go wrong

If pictures are prepared differently from those in training, there is no error.
Here their values run from 0 to 1, and are not normalised.
What is left of the accuracy?
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


thousand = from_pretrained("nano", num_classes=1000)
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
name. Train, and save:

```python
import gcvit

train, validation, names = gcvit.load_pictures("my pictures", image_size=64)
model = gcvit.from_pretrained("nano", num_classes=len(names))
history = gcvit.fine_tune(model, train, validation, "my run")
print(max(history["val_balanced_accuracy"]))
model.save("mine.keras")
```

Anyone who has the file can then ask the model, in a separate process:

```python
import gcvit

print(gcvit.classify("mine.keras", "my photo.jpg"))
```

`load_pictures` reports what it found. It leaves out files that are not
pictures, and says why and what would help.
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
What you may want to change:

- **A split of your own**: `load_pictures("train", validation="val")`.
- **Pictures that belong together**, of one patient, or of one burst of shots: a random split would put some on each side, and the accuracy would look too good. `group_by="folder"` keeps each sub-folder of a class together, and `group_by="^patient[0-9]+"` keeps together the files whose names agree in that part.
- **Classes of very different size**: `class_weight={0: 1.0, 1: 25.0}` counts a mistake in the second more. `history["val_recalls"]` holds the share of each class that is right.
- **Few pictures**: an epoch has few steps then, so take more epochs.
- **A GPU**: take XXTiny, and 224 pixels or more. If memory runs out, take a smaller `batch_size`.

## Summary

- Fine-tuning keeps pretrained weights, replaces the head, and trains gently: the head first, warm-up, then a cosine.
- The pipeline decodes once and cuts out anew in each pass; validation sees the middle, prepared as for any pretrained model.
- A run that keeps a folder can be interrupted at any time; the saved model knows the names of its classes.

## Exercises

1. (3 minutes, easy) Half of your files are also in the folder under another name. What would a random split do to the validation accuracy, and what does this one do?
2. (3 minutes, easy) Why is a picture shrunk to more than 64 pixels before it is kept?
3. (5 minutes, medium) Why does the first phase train the head alone? Which gradients would spoil the rest?
4. (5 minutes, medium) Your folder has twelve sub-folders. Which shapes do the kernel and the bias of `nano`'s new head have?
5. (15 minutes, medium) An experiment: fine-tune again with `head_epochs=0` and `epochs=9`. Does leaving out the first phase cost accuracy here?
6. (10 minutes, easy) Accuracy counts all pictures alike. Compute the accuracy within each class.

<details><summary>Answer to 1</summary>

With a random split, copies of training pictures are in the validation split, and the model has seen them: the accuracy is too high. Here the split depends on the content, so that all copies are on one side.

</details>

<details><summary>Answer to 2</summary>

A part cut out of 64 pixels, about a third of the area, would need enlarging. The kept picture is so large that its smallest part still has 64 pixels.

</details>

<details><summary>Answer to 3</summary>

The head is random, so what it sends back through the model is a random mixture of its weights. At a full learning rate, that would change all the pretrained weights at random.

</details>

<details><summary>Answer to 4</summary>

(256, 12) and (12,). `nano` starts with 32 channels, see its settings in [Model](model.ipynb), and each of the three levels after the first doubles them.

</details>

For 5, change one line of the cell near the top. The solution to 6 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell", "nbval-ignore-output"]
r"""
for name, row, right in zip(names, matrix, matrix.diagonal()):
    print(f"{name:12} {right / row.sum():.2f} of {row.sum()}")
assert (matrix.diagonal() / matrix.sum(axis=1)).min() > 0.4
"""

# %% [markdown]
r"""
Next: [A class for each pixel](dense.ipynb) says where in a picture the flower is,
and finds similar pictures without training.

To look up: [`load_flowers`](api.md#gcvit.flowers.load_flowers),
[`fine_tune`](api.md#gcvit.flowers.fine_tune),
[`load_pictures`](api.md#gcvit.pipelines.load_pictures),
[`classify`](api.md#gcvit.classify),
[`decode`](api.md#gcvit.pictures.decode),
[`fast_dtype_policy`](api.md#gcvit.devices.fast_dtype_policy),
[`fast_jit_compile`](api.md#gcvit.devices.fast_jit_compile) in the API
reference; the [papers](references.md); the [words](glossary.md).
"""
