"""Answers: what a model says of all pictures in a folder, in one file.

Threads read pictures while the model computes. Several processes share the
work, and whatever ends them, the same call goes on where they were.
"""

import contextlib
import functools
import math
import os
import random
import time
from hashlib import sha256
from itertools import islice

import keras
import numpy as np
from keras import ops

from gcvit import (
    answer_files,
    answer_pictures,
    answer_rows,
    arguments,
    checkpoints,
    pictures,
    processes,
)

# === The model ===


def model_of(model):
    """Load a model, if it is a path, and check that it can see pictures."""
    if isinstance(model, (str, os.PathLike)):
        with arguments.seeds_kept():
            random.seed(0)  # JAX wants the same first weights of all processes
            model = checkpoints.load_model(model, keras.Model)
    needed = ("image_shape", "num_classes", "head_activation", "class_names")
    if not all(hasattr(model, name) for name in needed):
        raise ValueError(  # noqa: TRY004 -- a file may hold it
            f"model is a {type(model).__name__}; a GCViT, or the path of a "
            ".keras file of one, would work."
        )
    if not model.weights:
        raise ValueError(
            "the model has no weights, since it is not built: load some, or "
            "call model.build((None, height, width, 3))."
        )
    if model.image_shape[-1] != 3:
        raise ValueError(
            f"the model takes images of {model.image_shape[-1]} channels; "
            "pictures have 3, red, green and blue."
        )
    return model


def mark_of(model, columns):
    """Give a text that models share only if they answer alike."""
    seen = (model.image_shape, model.value_range, model.class_names)
    text = f"{seen} {model.compute_dtype} {columns}"
    mark = sha256(text.encode())
    for weight in model.weights:
        mark.update(ops.convert_to_numpy(weight).tobytes())
    return f"{model.count_params():,} parameters, {mark.hexdigest()[:16]}"


def predictor(model, batch_size):
    """Give the function that answers a batch of this process.

    It goes through all of JAX's devices, if the model is distributed.

    Raises:
        ValueError: if the devices cannot share the batch.
    """
    distribution = keras.distribution.distribution()
    if keras.backend.backend() != "jax" or distribution is None:
        return model.predict_on_batch
    import jax
    from jax.experimental import multihost_utils

    shapes = (batch_size, *model.image_shape), (batch_size, model.num_classes)
    given, taken = (
        distribution.get_data_layout(x).backend_layout for x in shapes
    )
    devices = given.mesh.shape[given.spec[0]]
    own = devices // math.gcd(devices, processes.count())
    if batch_size % own:
        raise ValueError(
            f"batch_size={batch_size} does not divide among the {own} devices "
            f"of each process; {math.ceil(batch_size / own) * own} would work."
        )
    state = [
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    ]

    @functools.partial(jax.jit, out_shardings=taken)
    def compute(state, images):
        outputs, _ = model.stateless_call(*state, images, training=False)
        return outputs

    def predict(images):
        images = jax.make_array_from_process_local_data(given, images)
        outputs = compute(state, images)
        return np.asarray(
            multihost_utils.global_array_to_host_local_array(
                outputs, taken.mesh, taken.spec
            )
        )

    return predict


# === All of it ===


def by_the_first(work):
    """Let the first process do something; if it fails, all of them do."""
    result = None
    with processes.together():
        if processes.rank() == 0:
            result = work()
    return result


def check_paths(folder, file):
    """Check the paths that `predict_folder` was called with; give both."""
    folder = arguments.file_path("folder", folder)
    file = arguments.file_path("file", file)
    if not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is not a folder.")
    if file.suffix.lower() not in answer_files.SUFFIXES:
        raise ValueError(
            f"file={str(file)!r} ends in neither .csv nor .parquet; one of "
            "them would work."
        )
    if not file.parent.is_dir():
        raise ValueError(
            f"file={str(file)!r} is to be in a folder that does not exist. "
            "Make it first."
        )
    if file.suffix.lower() == ".parquet":
        answer_files.pyarrow()
    pictures.pillow()
    return folder, file


def begin(model, folder, file, columns):
    """List what is to be answered, and write the list beside the answers."""
    if file.exists():
        raise ValueError(
            f"{file} exists. Delete it, or name another file; answers are not "
            "written over others."
        )
    found = answer_pictures.files_of(folder, file)
    if not found:
        raise ValueError(f"{folder} has no file in it, so no picture.")
    settings = {"folder": str(folder.resolve())}
    settings["model"] = mark_of(model, columns)
    answered = answer_files.open_folder(file, settings)
    remaining = [name for name in found if name not in answered]
    answer_files.write_remaining(remaining, file)
    if answered:
        print(f"{len(answered):,} answered before, {len(remaining):,} left.")


def answer(model, predict, columns, folder, remaining, batch_size, part):
    """Answer this process's share of the pictures.

    Returns:
        The seconds in which the model computed.
    """
    count, rank = processes.count(), processes.rank()
    share = remaining[rank::count]
    steps = math.ceil(math.ceil(len(remaining) / count) / batch_size)
    read = functools.partial(
        answer_pictures.read, folder, model.image_shape[:2], model.value_range
    )
    bar = keras.utils.Progbar(
        len(remaining), verbose=int(rank == 0), interval=1, unit_name="picture"
    )
    seconds = 0
    found = answer_pictures.ahead(read, share, 3 * batch_size)
    with contextlib.closing(found):
        for step in range(steps):  # as many in each: they compute together
            batch = list(islice(found, batch_size))
            images = np.zeros((batch_size, *model.image_shape), "float32")
            for image, (_, result) in zip(images, batch):
                if not isinstance(result, str):
                    image[:] = result
            start = time.perf_counter()
            outputs = predict(images)
            seconds += time.perf_counter() - start
            part.write(columns.rows(batch, outputs))
            bar.update(min((step + 1) * batch_size * count, len(remaining)))
    return seconds


def report(file, rows, failed, rate, share):
    """Say what came of it, and how fast."""
    text = f"{file}: {rows:,} pictures"
    if failed:
        text += f", {failed:,} without an answer: the column error says why"
    if rate:
        text += f"; {rate:,.0f} a second, and the model computed {share:.0%} "
        text += "of the time"
    return f"{text}."


def predict_folder(model, folder, file, batch_size=32):
    """Write what a model answers for all pictures in a folder to one file.

    Each file below the folder gets a row, in the order of the paths;
    sub-folders may be classes or anything else. Pictures are seen as
    `classify` sees them; probabilities are the same to 1e-5. What cannot be
    read has a row, too, which says why. Hidden files, and those of the system,
    are passed over; a linked folder is followed once.

    The columns are

    - `file`, the path from the folder on;
    - `class` and `probability`, the most probable class;
    - one for each class, such as `probability_cat`; for more than 100 classes
      instead `class_2`, `probability_2` and so on to the fifth;
    - `error`, the reason where there is no answer.

    A sigmoid head gives a probability for each label, and no `class`. A head
    without an activation gives numbers, such as `output_0`, if it has a single
    output, or the model no `class_names`; otherwise it gives logits, and their
    softmax is taken. Classes without names have numbers, from 0.

    Whatever ends the call, the same call goes on from there, with any number
    of processes; what was answered a few seconds before is on the disk. Until
    all is done, the answers are in a folder beside the file, whose name ends
    in `.unfinished`. Pictures that are new by then are answered, too; what is
    answered stays, even if the picture is gone.

    Several processes, as `keras.distribution.initialize` joins them on JAX,
    share the work if all of them make this call, on a drive that all of them
    see. A model that was made in a `DataParallel` distribution goes through
    all devices.

    Args:
        model: a `GCViT`, or the path of a `.keras` file of one, as for
            `classify`.
        folder: of the pictures.
        file: to write, a path that ends in `.csv`, or in `.parquet` if pyarrow
            is installed. It appears when it is whole.
        batch_size: how many pictures each process computes together, an int.

    Returns:
        The path of the file. The first process prints it with the speed, and
        with the share of the time in which the model computed.

    Raises:
        ValueError: if the file exists, or answers of another model are in the
            way; for a folder without files, and for what cannot be.
        OSError: if a drive cannot be read, or not be written to.
        ImportError: if Pillow is not installed, or, for Parquet, pyarrow.
    """
    model = model_of(model)
    folder, file = check_paths(folder, file)
    batch_size = arguments.whole_number("batch_size", batch_size)
    columns = answer_rows.columns_of(model)
    predict = predictor(model, batch_size)
    by_the_first(lambda: begin(model, folder, file, columns))
    remaining = answer_files.read_remaining(file)
    start = time.perf_counter()
    with answer_files.Part(file, processes.rank()) as part:
        seconds = answer(
            model, predict, columns, folder, remaining, batch_size, part
        )
    share = seconds / (time.perf_counter() - start)
    rate = len(remaining) / (time.perf_counter() - start)
    processes.wait("gcvit.answers")
    counts = by_the_first(lambda: answer_files.write(file, columns.types()))
    if counts:
        print(report(file, *counts, rate, share))
    return file
