# Generated from book/scale.ipynb, digest 3d639835. To carry an edit back:
# .venv/bin/python tools/chapters.py --from-module scale
# %% [markdown]
r"""
# Scale

You have eight GPUs, or eight machines. The recipe for your own pictures gets three
more lines, and all of them work on one model, with the losses that one device would
give. Then you cut a model into parts that no single device has to hold.

About 25 minutes. Medium: you should know [Flowers](flowers.ipynb).
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

This is the [recipe](flowers.ipynb) for a folder of your own pictures, and its first
three lines are new. They stand before the pictures are read and the model is built. The
second one joins several
processes, as on eight machines; leave it out where one process has all the devices.

```python
import keras

keras.distribution.initialize()
keras.distribution.set_distribution(keras.distribution.DataParallel())

import gcvit

train, validation, names = gcvit.load_pictures("my pictures", image_size=64)
model = gcvit.from_pretrained("nano", num_classes=len(names))
gcvit.fine_tune(model, train, validation, "my run")
```

`keras.distribution` needs JAX: `KERAS_BACKEND=jax python train.py`. The other backends
have means of their own, below. On eight machines, start the same program on
each. Four variables say who is who; this is the first machine of the eight:

```shell
export KERAS_BACKEND=jax
export KERAS_DISTRIBUTION_JOB_ADDRESSES=10.0.0.1:1234  # the first machine's
export KERAS_DISTRIBUTION_NUM_PROCESSES=8
export KERAS_DISTRIBUTION_PROCESS_ID=0  # 1 on the second machine, and so on
python train.py
```

You need no eight devices to see it work. JAX can take one CPU for several devices:
they are slower than one, but what they compute is what eight GPUs would compute. Each
program below runs in processes of its own, since a process has one backend and one
number of devices. These two functions start it, and wait for it.
"""

# %% mystnb={"code_prompt_hide": "Hide what programs need", "code_prompt_show": "Show what programs need"} tags=["active-ipynb", "hide-input"]
r"""
import os
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

# To compile it quickly, and once.
QUICK = "--xla_backend_optimization_level=0 "
QUICK += "--xla_llvm_disable_expensive_passes=true "
if version("jax").startswith("0.10."):  # later ones do not know this flag
    QUICK += "--xla_cpu_use_fusion_emitters=false "
COMPILED = {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
COMPILED["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
"""

# %% mystnb={"code_prompt_hide": "Hide how programs are started", "code_prompt_show": "Show how programs are started"} tags=["active-ipynb", "hide-input"]
r"""
def start(program, processes=1, devices=1, backend="jax"):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    count = f"--xla_force_host_platform_device_count={devices}"
    variables = COMPILED | os.environ
    variables |= {
        "KERAS_BACKEND": backend,
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(processes),
        "XLA_FLAGS": QUICK + count,
        "PYTHON_COLORS": "0",  # errors are read below
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=variables | {"KERAS_DISTRIBUTION_PROCESS_ID": str(number)},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]


def finish(started):
    for process in started:
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-1000:]
    return printed
"""

# %% [markdown]
r"""
The model has two levels, so that it compiles in seconds. Its first weights go into a file,
since each backend would draw others.
"""

# %% tags=["active-ipynb"]
r"""
import gcvit
import keras

building = '''
model = gcvit.GCViT((4, 4), 16, (2, 2), (1, 2), path_drop=0)
model.build((None, 32, 32, 3))
'''
keras.utils.set_random_seed(0)
exec(building)
model.save_weights(folder / "first.weights.h5")
"""

# %% [markdown]
r"""
The program makes two steps of training on 32 random images, and prints the losses. Each
process takes its part of the images: of two processes, the first takes 0, 2, 4, ….
"""

# %% tags=["active-ipynb"]
r"""
batch = '''
import numpy as np

random = np.random.default_rng(0)
images = random.normal(size=(32, 32, 32, 3)).astype("float32")
labels = random.integers(0, 10, 32)
'''
compiling = '''
loss = "sparse_categorical_crossentropy"
model.compile("sgd", loss, jit_compile=keras.backend.backend() == "jax")
'''
training = f'''
{building}
model.load_weights("first.weights.h5")
{compiling}
'''
many_devices = f'''
import keras

keras.utils.set_random_seed(0)
keras.distribution.initialize()
keras.distribution.set_distribution(keras.distribution.DataParallel())

import jax

import gcvit
{batch}
{training}
own = slice(jax.process_index(), None, jax.process_count())
for step in range(2):
    print(float(model.train_on_batch(images[own], labels[own])))
'''
started = start(many_devices, processes=2, devices=2)
"""

# %% [markdown]
r"""
While they compute, this notebook makes the same two steps, on one device and with
another backend, TensorFlow.
"""

# %% tags=["active-ipynb"]
r"""
import numpy as np

exec(batch + compiling)  # defines images and labels
losses = [float(model.train_on_batch(images, labels)) for step in range(2)]
print(f"{'1 device, TensorFlow':32}{losses[0]:.4f} {losses[1]:.4f}")


def compare(name, printed):
    found = [float(text) for text in printed.split()[-2:]]
    difference = max(abs(np.divide(found, losses) - 1))
    print(f"{name:32}{found[0]:.4f} {found[1]:.4f}   ", end="")
    print(f"relative difference {difference:.1e}")
    return difference


printed = finish(started)
assert compare("4 devices in 2 processes, JAX", printed) < 1e-5
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Where this chapter's part sits: around training; nothing in the model changes.", "name": "figure-scale-map"}, "image": {"alt": "Map of GCViT in four rows; the box many devices in the first row is highlighted."}} tags=["active-ipynb", "hide-input"]
r"""
plots.model_map("scale")
"""

# %% [markdown]
r"""
## The idea: cut the batch

Every device holds the whole model. It gets a part of each batch, and computes the
gradients of its part. Then all devices take the mean of all gradients, which is called
**all-reduce**. With the same gradients they make the same step, and so their weights stay
the same. This is **data parallel** training.
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "One step on four devices. The batch is cut, the model is copied, and the gradients are averaged.", "name": "figure-scale-step"}, "image": {"alt": "A batch of eight images is cut into four parts of two. Each part goes into a copy of the model, on a device of its own. Each copy gives gradients; they meet in a box, the mean of all, which goes back to every device."}} tags=["active-ipynb", "hide-input"]
r"""
axes = plots.canvas(14, 6.2)
plots.tensor(axes, 0, 0.6, 1.0, 5, cells=(8, 1))
axes.text(0.5, 5.8, "batch", ha="center")
plots.box(axes, 10.6, 0.6, 1.5, 5, "mean of\nthe four", plots.HERE)
for device in range(4):
    y = 4.5 - 1.3 * device
    plots.tensor(axes, 2.3, y, 1.0, 1.1, cells=(2, 1))
    plots.box(axes, 4.6, y, 2.3, 1.1, f"model on\ndevice {device}")
    plots.tensor(axes, 8.0, y + 0.2, 1.5, 0.7, "gradients")
    middle = y + 0.55
    plots.arrow(axes, (1.0, 0.6 + 1.25 * (3.5 - device)), (2.3, middle))
    plots.arrow(axes, (3.3, middle), (4.6, middle))
    plots.arrow(axes, (6.9, middle), (8.0, middle))
    plots.arrow(axes, (9.5, middle), (10.6, middle))
axes.text(13, 3.1, "the same step\non each\ndevice", ha="center", va="center")
plots.arrow(axes, (12.1, 3.1), (12.1 + 0.05, 3.1))
plots.plt.show()
"""

# %% [markdown]
r"""
Why are the losses the same? By hand: four images have the gradients 1, 3, 5 and 7. Their
mean is 4. Two devices take two images each, and get the means 2 and 6. The mean of these
is 4 again.

With $B$ images, $n$ devices and the gradient $g_i$ of image $i$, each device $d$ has
$B/n$ of them:

$$\frac{1}{n} \sum_d \frac{1}{B/n} \sum_{i \in d} g_i = \frac{1}{B} \sum_i g_i$$

So the mean of means is the mean, if all parts have the same size. And each $g_i$ must
depend on its own image only. It does: GCViT has no batch normalisation, which
would look at the neighbours in the part.

**The batch size is that of all devices together.** The steps stay the same, so does
the learning rate. If you use eight devices to train on batches eight times as large,
it is another training: with eight times the learning rate, and a slow start,
[Goyal and others](https://arxiv.org/abs/1706.02677) kept the accuracy of a ResNet. That
is a rule of thumb.

## The proof

Take the model and the 32 images, and compute the gradients of all that is trained: once for
the whole batch, once as the mean of four parts.
"""

# %% tags=["active-ipynb"]
r"""
import tensorflow as tf

loss_of = keras.losses.SparseCategoricalCrossentropy()


def gradients(part):
    with tf.GradientTape() as tape:
        loss = loss_of(labels[part], model(images[part]))
    weights = [weight.value for weight in model.trainable_weights]
    found = map(tf.convert_to_tensor, tape.gradient(loss, weights))
    return np.concatenate([np.ravel(x) for x in found])


def mean_of(*parts):
    return np.mean([gradients(part) for part in parts], axis=0)


def difference_of(*parts):
    return abs(mean_of(*parts) - whole).max() / abs(whole).max()


whole = gradients(slice(None))
equal = [slice(first, None, 4) for first in range(4)]
difference = difference_of(*equal)
print(f"{len(whole):,} gradients, max |Δ| / max = {difference:.1e}")
assert difference < check.TOLERANCE
"""

# %% [markdown]
r"""
## What can go wrong

**Unequal parts.** A folder of 1,000 pictures makes 31 batches of 32, and 8 are left
over. Or a batch of 32 is shared by three devices.

**Predict, then see.** Gradients 1, 3 and 5 are on one device, 7 is on the other. What is
the mean of means? And what becomes of the model's gradients if four devices get 11, 11, 8 and
2 images?
"""

# %% tags=["active-ipynb"]
r"""
print(np.mean([np.mean([1, 3, 5]), np.mean([7])]), "instead of 4")
unequal = [slice(0, 11), slice(11, 22), slice(22, 30), slice(30, 32)]
difference = difference_of(*unequal)
print(f"max |Δ| / max = {difference:.2f}")
assert difference > check.TOLERANCE
"""

# %% [markdown]
r"""
The two images on the last device count 5.5 times as much as those on the first. No error
says so, since gradients of some kind come out. The recipe does not let it come to that. A
batch size that the devices cannot share is an error. The last batch is filled up with
pictures that weigh nothing, and the others weigh so much more that the mean is theirs.

**A distribution that comes too late.** Weights are put on the devices when the model
is built. So `set_distribution` stands above it.
"""

# %% [markdown]
r"""
## A run that is cut

Eight machines break eight times as often as one. `fine_tune` writes a state after each
epoch, and the same program goes on from there, as it does on one device. Which pictures
come next, and what dropout drops, follows from the seed and the epoch, not from the
devices. So a run that has lost some of them goes on with the others.

The program below trains a small model for three epochs, on 40 drawn flowers. Of two
processes the second one kills itself when the third epoch begins, as a machine does that
loses its power.
"""

# %% tags=["active-ipynb"]
r"""
from gcvit import drawn_flowers

drawings, _, names = drawn_flowers.draw_flowers(0, 40, 0)
for number, (content, label) in enumerate(drawings):
    path = folder / "flowers" / names[label] / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
program = '''
import os, signal
import keras

keras.utils.set_random_seed(0)
keras.distribution.initialize()
keras.distribution.set_distribution(keras.distribution.DataParallel())

import gcvit

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2 and gcvit.processes.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)

train, validation, names = gcvit.load_pictures("flowers", 32, batch_size=40)
model = gcvit.GCViT((4,), 4, (1,), (1,), num_classes=len(names))
model.build((None, 32, 32, 3))
history = gcvit.fine_tune(model, train, validation, run, head_epochs=0,
    epochs=3, callbacks=[Kill()], verbose=2)
print("losses", *history["loss"])
'''


def start_run(run, processes=1):
    return start(f"run = {run!r}" + program, processes)


uncut, in_two = start_run("uncut"), start_run("cut", processes=2)
"""

# %% [markdown]
r"""
**Predict, then see.** What does the first process say, which was not killed? And with which
epoch does the run go on, in one process?
"""

# %% tags=["active-ipynb"]
r"""
errors = [process.communicate(timeout=300)[1] for process in in_two]
(said,) = [x for x in errors[0].splitlines() if x.startswith("RuntimeError")]
print(said)
in_one = finish(start_run("cut"))
print(*[line for line in in_one.splitlines() if "Epoch" in line])
printed = in_one, finish(uncut)
losses_of = [text.split("losses ")[1].split() for text in printed]
for name, numbers in zip(("cut", "never cut"), losses_of):
    print(f"{name:10}", *[f"{float(number):.4f}" for number in numbers])
relative = np.divide(*np.array(losses_of, "float64")) - 1
assert abs(relative).max() < 1e-4
"""

# %% [markdown]
r"""
The losses are those of a run on one device that nobody cut. What is lost is the epoch that
was not finished, and nothing is half-written: a file gets its name when it is whole.

## What breaks, and what then

When something goes wrong in one process, all of them end, each with a sentence that says
what it was. To wait for ever would be worse. What the others see, and how soon, stands in
the module that watches them:
"""

# %% tags=["active-ipynb"]
r"""
from gcvit import processes

print(processes.__doc__.partition("from the last whole epoch:")[2])
print(f"FAREWELL is {processes.FAREWELL} s, PATIENCE {processes.PATIENCE} s.")
"""

# %% [markdown]
r"""
Then start the same program again, on what is left.

Three things are up to you:

- **One folder.** All processes need the run's folder on a drive that each of them sees. `fine_tune` looks, and refuses another.
- **Callbacks of your own** run in every process. One that writes a file asks `gcvit.processes.rank() == 0` before.
- **Saving.** `model.save` in one process alone waits for the others. `best.keras` in the run's folder is there without it.

A cluster asks a program to end with the signal SIGTERM, and kills it some seconds later.
JAX takes that signal for itself, so a process goes on until it is killed. It loses the
epoch that it was in.

## Answers for a folder

A trained model answers for a folder of any size. Each process reads its share, and one
file comes out, with a row for each picture. What cannot be read has a row, too, which says
why. A call that was cut goes on: no row twice, none missing.
"""

# %% tags=["active-ipynb", "nbval-ignore-output"]
r"""
import contextlib

(folder / "flowers" / "roses" / "broken.png").write_bytes(b"no picture")
with contextlib.chdir(folder):
    gcvit.predict_folder("cut/best.keras", "flowers", "answers.csv")
rows = (folder / "answers.csv").read_text().splitlines()
assert len(rows) == 1 + 41
for row in [*rows[:3], *[row for row in rows if "broken" in row]]:
    print(row[:75])
"""

# %% [markdown]
r"""
With the three lines before it, the same call shares the folder among processes.
[`benchmarks/answers.py`](https://github.com/gcvit-book/gcvit-book/blob/main/benchmarks/answers.py)
measures what reading costs beside the model
([the table](https://github.com/gcvit-book/gcvit-book/blob/main/benchmarks/answers.md)).

## A model that one device cannot hold

Data parallel training copies the model to each device. With its gradients and the two
averages of AdamW, a parameter takes 16 bytes there. `large`, with 202 million parameters,
takes 3.2 GB before the first map is stored. That fits on a GPU. A model that does not
is cut itself.

A dense layer multiplies by a matrix. Four devices can each hold a quarter of its columns,
and compute a quarter of its outputs:

$$x \begin{pmatrix} W_0 & W_1 & W_2 & W_3 \end{pmatrix} =
\begin{pmatrix} x W_0 & x W_1 & x W_2 & x W_3 \end{pmatrix}$$

You say only how the weights are laid out. The compiler finds out who needs what, and
puts in what has to be sent
([GSPMD](https://arxiv.org/abs/2105.04663)). To say it, you need the weights' names:
"""

# %% tags=["active-ipynb"]
r"""
nano = gcvit.from_pretrained("nano")
kernels = [w for w in nano.weights if w.path.endswith("kernel")]
last = [w for w in kernels if "level_3/block_" in w.path][-4:]
for weight in [*kernels[:1], *last, kernels[-1]]:
    print(f"{weight.path:64}{tuple(weight.shape)}")
"""

# %% [markdown]
r"""
The numbers differ from model to model, so the names are patterns. The map below cuts three
kinds of weights along the axis "model" of the devices.

- The dense layers of attention and of the MLPs, by their outputs. They are most of the model.
- The convolutions, by their output channels. The one that doubles the channels after the third level is the largest weight of all.
- The head, by its inputs. Any number of classes will do, but it need not be divisible.

All else stays whole on each device: norms, biases, bias tables, depthwise
convolutions, squeeze and excitation. They are small.

## The code
"""

# %%
import keras


# %%
def layout_map(device_mesh):
    """Say how the weights of a `GCViT` are cut, so that devices share them.

    It is for `keras.distribution.ModelParallel`, set before the model is
    built. Averages of an optimizer are cut like their weights.

    Args:
        device_mesh: the devices, a `keras.distribution.DeviceMesh` with an
            axis "model". Along it their number must divide `embed_dim`, or
            building the model is an error of JAX.

    Returns:
        A `keras.distribution.LayoutMap`. What it does not name, less than a
        fiftieth of a large model, is whole on each device.

    Raises:
        ValueError: if the devices have no axis "model".

    Source: Megatron-LM, arXiv 1909.08053, for the idea; what has to be sent
    is found by the compiler, arXiv 2105.04663.
    """
    layouts = keras.distribution.LayoutMap(device_mesh)
    number = r"(_\d+)?"
    in_blocks = rf"(window_attention|mlp){number}/dense{number}"
    layouts[f".*/{in_blocks}/kernel"] = (None, "model")
    convolution = rf"(halving_)?conv2d{number}"
    layouts[f".*/{convolution}/kernel"] = (None, None, None, "model")
    layouts[".*/head/kernel"] = ("model", None)
    return layouts


# %% [markdown]
r"""
A mesh gives the devices two axes: along "batch" the images are cut, along "model" the
weights. `(1, 4)` cuts the weights only; with eight devices, `(2, 4)` would do both.
The program lets `nano` answer eight images, whole and cut, and counts what lies where.
"""

# %% tags=["active-ipynb"]
r"""
cut = '''
import collections
import json

import keras
import numpy as np
from keras import distribution

import gcvit
from gcvit.scale import layout_map


def count(variables):
    sizes = collections.Counter()
    for variable in variables:
        for shard in variable.value.addressable_shards:
            sizes[str(shard.device)] += shard.data.nbytes
    return dict(sizes)


random = np.random.default_rng(0)
images = random.normal(size=(8, 64, 64, 3)).astype("float32")


def answers():
    model = gcvit.from_pretrained("nano")
    return model, model.predict(images, verbose=0)


_, expected = answers()
mesh = distribution.DeviceMesh((1, 4), ("batch", "model"))
parallel = distribution.ModelParallel(layout_map=layout_map(mesh))
distribution.set_distribution(parallel)
model, found = answers()
optimizer = keras.optimizers.AdamW()
optimizer.build(model.trainable_variables)
held = count(model.weights), count(optimizer.variables)
print(json.dumps([*held, expected.tolist(), found.tolist()]))
'''
started = start(cut, devices=4)
"""

# %% [markdown]
r"""
**Predict, then see.** `nano` has 2.24 million parameters, of 4 bytes. How many bytes does
each of the four devices hold, and why not a quarter?
"""

# %% tags=["active-ipynb"]
r"""
import json

held, averages, *both = json.loads(finish(started))
expected, found = map(np.array, both)
whole = sum(weight.nbytes for weight in nano.get_weights())
print(f"one device holds {whole:,} bytes of weights; with four,")
for device, size in held.items():
    print(f"{device} holds {size:,}, {size / whole:.1%}, ", end="")
    print(f"and {averages[device]:,} of AdamW's averages")
difference = check.difference(found, expected)
print(f"max |Δ| / std = {difference:.1e}, the cut model and the whole one")
assert difference < check.TOLERANCE
assert max(held.values()) < 0.3 * whole
"""

# %% [markdown]
r"""
What is whole on each device makes the difference, and counts less in a larger model. For
`large`, [`benchmarks/sharding.py`](https://github.com/gcvit-book/gcvit-book/blob/main/benchmarks/sharding.py)
does the same on four virtual devices, outside this page, since it takes minutes:
it leaves 210,573,832 of 808,302,280 bytes of weights on each, 26.1 %, and as much of AdamW's
averages ([the table](https://github.com/gcvit-book/gcvit-book/blob/main/benchmarks/sharding.md)).

Cutting the weights costs more messages than cutting the batch: every cut layer sends maps,
in each pass. So cut the batch as long as the model fits, and the weights only within a
machine, where links are fast. `fine_tune` was tried with `DataParallel`; with
`ModelParallel` it was not.

## Other backends

`keras.distribution` works on JAX alone. TensorFlow and PyTorch bring means of their own.

**TensorFlow: `MirroredStrategy`.** One process, all of its devices. The model is made and
compiled within the strategy's scope, and `fit` does the rest. Here a CPU is two logical
devices. Give it batches that all devices can share, with `drop_remainder=True`: three rows
for two devices ended in an error about shapes (TensorFlow 2.21, Keras 3.15).
"""

# %% tags=["active-ipynb"]
r"""
mirrored = f'''
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras

import gcvit
{batch}
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    {training.strip().replace(chr(10), chr(10) + "    ")}
data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)
history = model.fit(data, epochs=2, shuffle=False, verbose=0)
print(*history.history["loss"])
'''
printed = finish(start(mirrored, backend="tensorflow"))
assert compare("TensorFlow, 2 devices", printed) < 1e-5
"""

# %% [markdown]
r"""
**PyTorch: `DistributedDataParallel`.** One process for each device. A Keras model is a
module of PyTorch, so PyTorch's wrapper takes it, and the loop is
your own, as Keras's [guide](https://keras.io/guides/distributed_training_with_torch/)
shows it. This book's notebooks run on TensorFlow, so the program is not run here. A
test takes it from this page, runs it in two processes, and compares it with one.

```python
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from torch import distributed

import gcvit

distributed.init_process_group("gloo")  # "nccl" for GPUs
rank, count = distributed.get_rank(), distributed.get_world_size()
random = np.random.default_rng(0)
images = random.normal(size=(32, 64, 64, 3)).astype("float32")
labels = random.integers(0, 10, 32)
part = slice(rank, None, count)
model = gcvit.from_pretrained("nano")
parallel = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
loss_of = keras.losses.SparseCategoricalCrossentropy()
for step in range(2):
    optimizer.zero_grad()
    loss = loss_of(labels[part], parallel(images[part]))
    loss.backward()  # the gradients are averaged meanwhile
    optimizer.step()
    mean = loss.detach() / count
    distributed.all_reduce(mean)
    if rank == 0:
        print(float(mean))
distributed.destroy_process_group()
```

```shell
torchrun --nproc-per-node 8 train.py
```

On a GPU, each process takes its own, before Keras is imported. This line was not run, for
want of GPUs:

```python
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
```

## How cost grows

Nothing here says how fast eight GPUs are: nobody measured it. But what a step costs can
be counted, and put together to a **prediction**.

*What a device computes.* Papers count multiplications with their additions, GMACs. Each is
two operations. Backward costs about twice as much as forward, so training takes three
times as much as an answer.

*What a device sends.* Gradients of 4 bytes for each parameter. In a ring of $n$ devices, each
adds what comes from its left neighbour to its own, and passes it on to the right: a
piece of an $n$-th at a time, so that all send at once. After $n - 1$ turns each piece is
summed up somewhere, and after $n - 1$ more it is everywhere. So a device
sends $2 \frac{n-1}{n}$ times the gradients, less than twice, however many devices there
are ([Sergeev and Del Balso](https://arxiv.org/abs/1802.05799)).

*How fast.* The inputs below are what NVIDIA publishes: for an
[H100](https://www.nvidia.com/en-us/data-center/h100/) 1,979 TFLOPS in bfloat16 with sparsity,
which is half without, and 900 GB/s of NVLink for both directions together; for a
[ConnectX-7](https://www.nvidia.com/en-us/networking/infiniband-adapters/) 400 Gb/s of
InfiniBand or Ethernet, one for each GPU. Change them to what you have.

**Predict, then see.** `large` has 17 times as many parameters to send as XXTiny. Does it
scale worse?
"""

# %% tags=["active-ipynb"]
r"""
from gcvit import variants

peak = 1979e12 / 2  # operations per second, bfloat16
utilisation = 0.3  # the share of the peak that is reached: assumed
within = 900e9 / 2  # bytes per second in one direction, in a machine
between = 400e9 / 8  # the same, between machines
in_machine = 8  # devices
images_each = 128  # for each device and step


def cost(name, devices):
    row = variants.ROWS[name]
    operations = 3 * 2 * row.gmacs * 1e9 * images_each
    sent = 2 * (devices - 1) / devices * 4 * row.parameters
    link = within if devices <= in_machine else between
    seconds = operations / (peak * utilisation), sent / link
    return operations, sent, seconds[0] / sum(seconds)


print(f"{'':8}{'devices':>8}{'TFLOP':>8}{'MB sent':>9}{'efficiency':>12}")
for name in ("xxtiny", "large"):
    for devices in (8, 64):
        operations, sent, efficiency = cost(name, devices)
        print(f"{name:8}{devices:8}{operations / 1e12:8.1f}", end="")
        print(f"{sent / 1e6:9.0f}{efficiency:12.0%}")
"""

# %% mystnb={"code_prompt_hide": "Hide the drawing's code", "code_prompt_show": "Show the drawing's code", "figure": {"caption": "Predicted, not measured: the share of the time in which devices compute, for the inputs above. It falls where the ring leaves the machine.", "name": "figure-scale-efficiency"}, "image": {"alt": "Two curves that almost lie on each other over 1 to 256 devices, one for XXTiny, one for large: near 97 percent up to 8 devices, then a step down to about three quarters, and flat from there."}} tags=["active-ipynb", "hide-input"]
r"""
_, axes = plots.plt.subplots(figsize=(6, 2.8), layout="constrained")
counts = 2 ** np.arange(9)
for name, style in (("xxtiny", "o-"), ("large", "s--")):
    shares = [100 * cost(name, devices)[-1] for devices in counts]
    axes.plot(counts, shares, style, label=name)
axes.set_xscale("log", base=2)
axes.set_xticks(counts, counts)
axes.set(ylim=(0, 103), xlabel="devices", ylabel="efficiency, %")
axes.legend(loc="lower left")
plots.plt.show()
"""

# %% [markdown]
r"""
It does not: `large` sends 17 times as much, and computes 16 times as much. What counts is
the ratio of the two, and that is up to you: twice the images on each device, and the
same gradients are sent half as often.

What the prediction leaves out:

- **Overlap.** The last layers' gradients are sent while the first ones' are computed. It hides a part of what is counted here.
- **Reading pictures.** Eight GPUs want eight times as many pictures each second. On many machines this is what runs out first: measure it alone, before you buy.
- **Stragglers.** All wait for the slowest device in each step.
- **Latency and traffic.** Many small messages cost more than their bytes, and links are shared.
- **The utilisation**, which is a guess. Small models reach less.

## Summary

- `DataParallel` cuts the batch; the mean of the devices' gradients is the batch's gradient, if the parts are equal.
- `ModelParallel` with `layout_map` cuts the weights; the answers stay the same, and each device holds about a quarter with four.
- A device sends less than twice its gradients, however many devices there are; how much it computes meanwhile is up to the batch.

## Exercises

1. (3 minutes, easy) 1,003 pictures are shared by eight devices, in batches of 32. How many rows does each device get in the last batch, and how many of all rows weigh nothing?
2. (5 minutes, medium) In "How cost grows", each device gets 128 images, however many there are. Now 1,024 images are shared by all. What is the efficiency of 64 devices, for XXTiny?
3. (10 minutes, medium) An experiment. Does `layout_map` cut a model whose devices are three? And does it with eight, in a mesh of `(2, 4)`? Predict, then ask the map.

<details><summary>Answer to 1</summary>

The last batch has 1,003 - 31 · 32 = 11 pictures. It is filled up to 16, a multiple of eight: two rows for each device. Five of them weigh nothing.

</details>

<details><summary>Answer to 2</summary>

Each device has 16 images, an eighth, so it computes an eighth of the time, and sends as much as before: set `images_each = 16`. Of eight parts of time that it computed, one is left. With the inputs above it is 26 % instead of 74 %. To train the same batches on more devices pays off only so far.

</details>

The solution to 3 is folded below.
"""

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Show the solution"} tags=["active-ipynb", "hide-cell"]
r"""
names = [f"gpu:{number}" for number in range(8)]  # none is asked
for shape in ((1, 3), (2, 4)):
    devices = names[: shape[0] * shape[1]]
    mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
    layouts = layout_map(mesh)
    uneven = []
    for weight in nano.weights:
        layout = layouts[weight.path]
        axes = layout.axes if layout else ()
        cut_sizes = [n for n, axis in zip(weight.shape, axes) if axis]
        uneven += [n for n in cut_sizes if n % shape[1]]
    print(shape, len(uneven), "sizes cannot be divided, as", uneven[:3])
"""

# %% [markdown]
r"""
You built the model, loaded pretrained weights, taught it something new, and sent it
out, to one device or to many. The [architecture page](architecture.md) is there when you
want to look something up.

To look up: [`layout_map`](api.md#gcvit.scale.layout_map) and
[`fine_tune`](api.md#gcvit.flowers.fine_tune) in the API reference; the
[papers](references.md); the [words](glossary.md).
"""
