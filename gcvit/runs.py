"""Runs: what a training keeps in its folder, so that a cut one goes on.

    settings.json          what the run was called with; others do not go on
    history.json           for each measurement, one number for each epoch
    best.keras             the model after its best epoch
    states/000003-all.npz  the variables after the last epoch, here the third

A state holds the weights, the optimizer's variables and the dropouts' seeds.
It is saved after the other files: what an epoch left behind without a state is
done again. A file that is cut off while it is written would be worse than no
file, so it gets its name only when it is whole.
"""

import contextlib
import json
import os
import tempfile

import keras
import numpy as np

from gcvit.arguments import file_path

# === Files saved whole ===


def save_whole(save, path):
    """Save a file, all of it or nothing.

    Args:
        save: a function that writes to the path that it is given.
        path: what is there is replaced.

    Raises:
        OSError: if the disk is full, or the folder not to be written to; what
            was there is still there.
    """
    part = path.with_name(f"unfinished-{path.name}")
    try:
        save(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # on the disk, before it has its name
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def save_state(model, path):
    """Save all variables of a model and its optimizer; see `save_whole`.

    Not as Keras's HDF5 file: on a full disk, HDF5 can crash the process.
    """
    variables = [*model.variables, *model.optimizer.variables]
    arrays = map(keras.ops.convert_to_numpy, variables)
    save_whole(lambda part: np.savez(part, *arrays), path)


def load_state(model, path):
    """Load what `save_state` saved, into a model that is compiled alike."""
    variables = [*model.variables, *model.optimizer.variables]
    with np.load(path) as arrays:
        for variable, array in zip(variables, arrays.values(), strict=True):
            if array.dtype.kind == "V":  # NumPy has no bfloat16 of its own
                array = array.view("bfloat16")
            variable.assign(array)


def write_json(content, path):
    """Write a JSON file, all of it or nothing."""
    text = json.dumps(content, indent=1)
    save_whole(lambda part: part.write_text(text), path)


def check_settings(settings, folder):
    """Keep the settings with a run, and refuse to go on with other ones.

    Args:
        settings: what `fine_tune` was called with, a dict.
        folder: of the run.

    Raises:
        ValueError: if the run began with other settings.
    """
    path = folder / "settings.json"
    if not path.exists():
        return write_json(settings, path)
    before = json.loads(path.read_text())
    changed = [
        f"{name} was {before.get(name)}, now {value}"
        for name, value in settings.items()
        if before.get(name) != value
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a run with other settings: {'; '.join(changed)}. "
            "Use another folder, or delete this one."
        )


def read_history(folder, epochs):
    """Read what a run has measured in its first epochs.

    Args:
        folder: of the run.
        epochs: how many, an int.

    Returns:
        A dict of lists, one number for each epoch.
    """
    path = folder / "history.json"
    history = json.loads(path.read_text()) if path.exists() else {}
    return {name: values[:epochs] for name, values in history.items()}


# === A run ===


@contextlib.contextmanager
def opened(folder, settings):
    """Open the folder of a run, or one for as long as the context lasts.

    Args:
        folder: a path, which is made if needed; `None` keeps nothing.
        settings: as for `check_settings`.

    Yields:
        The folder, a path.

    Raises:
        ValueError: if the folder holds a run with other settings.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        folder = file_path("folder", folder)
        (folder / "states").mkdir(parents=True, exist_ok=True)
        check_settings(settings, folder)
        yield folder


def states_of(folder, phase):
    """List the states of a phase, the newest last."""
    return sorted((folder / "states").glob(f"[0-9]*-{phase}.npz"))


def fit(model, data, folder, phase, epochs, verbose):
    """Train for some epochs, going on where an earlier run was cut.

    Args:
        model: a compiled model.
        data: what to train on and what to validate with, as for `fine_tune`.
        folder: of the run.
        phase: `"head"` or `"all"`, part of the names of the states.
        epochs: the first epoch, and the one after the last, two ints.
        verbose: as for `fine_tune`.
    """
    train, validation = data
    start, stop = epochs
    states = states_of(folder, phase)
    if states:
        load_state(model, states[-1])
        start = int(states[-1].name.split("-")[0])
    history = read_history(folder, start)

    def begin(epoch, _):
        if hasattr(train, "epoch"):
            train.epoch.assign(epoch)

    def end(epoch, results):
        for name, value in results.items():
            history.setdefault(name, []).append(float(value))
        *before, accuracy = history["val_accuracy"][epochs[0] :]
        # Last comes the state: what a cut leaves without one is done again.
        if phase == "all" and accuracy > max(before, default=-1):
            save_whole(model.save, folder / "best.keras")
        write_json(history, folder / "history.json")
        state = folder / "states" / f"{epoch + 1:06}-{phase}.npz"
        save_state(model, state)
        for older in set(state.parent.glob("[0-9]*.npz")) - {state}:
            older.unlink()

    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=begin, on_epoch_end=end
    )
    model.fit(
        train,
        validation_data=validation,
        initial_epoch=start,
        epochs=stop,
        callbacks=[callback],
        shuffle=False,  # the pipeline does
        verbose=verbose,
    )
