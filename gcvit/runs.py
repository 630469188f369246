"""Runs: what a training keeps in its folder, so that a cut one goes on.

    settings.json          what the run was called with; others do not go on
    history.json           for each measurement, one number for each epoch
    best.keras             the model after its best epoch
    left_out.json          files that are not pictures, and why
    stopped.json           the epoch at which a callback ended the training
    states/000003-all.npz  the variables after the last epoch, here the third

A state holds the weights, the optimizer's variables and the dropouts' seeds.
It is saved after the other files: what an epoch left behind without a state is
done again. A file that is cut off while it is written would be worse than no
file, so it gets its name only when it is whole.

Of several processes the first one writes all of it, and the others read it.
Nothing in it depends on how many there are, nor on their devices.
"""

import contextlib
import json
import os
import tempfile
import uuid

import keras
import numpy as np

from gcvit import processes, shares
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

    Settings of a call that did not finish an epoch are replaced: nothing was
    done with them.

    Args:
        settings: what `fine_tune` was called with, a dict.
        folder: of the run.

    Raises:
        ValueError: if the run began with other settings.
    """
    path = folder / "settings.json"
    if not path.exists() or not any(folder.rglob("*.npz")):  # of a state
        if processes.rank() == 0:
            write_json(settings, path)
        return
    before = json.loads(path.read_text())
    settings = json.loads(json.dumps(settings))  # as they would be read
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


def check_is_shared(folder):
    """Check that every process sees the same folder.

    Raises:
        ValueError: on every process, if one does not.
    """
    if processes.count() == 1:
        return
    name = processes.gather(f"unfinished-{uuid.uuid4()}")[0]
    with processes.together():
        if processes.rank() == 0:
            (folder / name).touch()
    seen = processes.gather(str((folder / name).exists()))
    if processes.rank() == 0:
        (folder / name).unlink()
    if "False" in seen:
        raise ValueError(
            f"folder={str(folder)!r} of process {seen.index('False')} is not "
            "that of process 0. One on a drive that all see would work."
        )


def write_left_out(left_out, folder):
    """Keep the list of files that are not pictures, if there are any."""
    rows = [{"file": str(x), "reason": reason} for x, reason in left_out]
    with processes.together():
        if rows and processes.rank() == 0:
            write_json(rows, folder / "left_out.json")


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
        folder: a path, which is made if needed; `None` keeps nothing. Of
            several processes all must see it.
        settings: as for `check_settings`.

    Yields:
        The folder, a path.

    Raises:
        ValueError: if the folder holds a run with other settings, or if the
            processes do not agree in the folder or in the settings.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(processes.watched())
        with processes.together():
            if folder is None and processes.count() > 1:
                raise ValueError(
                    "folder is None; several processes need one for their "
                    "run, on a drive that all of them see."
                )
            if folder is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
            folder = file_path("folder", folder)
            (folder / "states").mkdir(parents=True, exist_ok=True)
        check_is_shared(folder)
        states = sorted(path.name for path in folder.rglob("*.npz"))
        shares.check_alike(settings | {"states": states})
        with processes.together():
            check_settings(settings, folder)
        yield folder


def states_of(folder, phase):
    """List the states of a phase, the newest last."""
    return sorted((folder / "states").glob(f"[0-9]*-{phase}.npz"))


def values_of(model):
    """Copy the values of all variables of a model and its optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(x)) for x in variables]


def is_finite(variable):
    return np.isfinite(keras.ops.convert_to_numpy(variable)).all()


class Keeper(keras.callbacks.Callback):
    """Keeps a run after each epoch, and stops it where a number is none.

    Args:
        train: what is trained on; its `epoch`, if it has one, is set.
        folder: of the run.
        phase: `"head"` or `"all"`.
        epochs: the phase's first epoch, and the one to start with.
        best: see `fit`.
        measures: see `fit`.
    """

    def __init__(self, train, folder, phase, epochs, best, measures):
        super().__init__()
        self.train, self.folder, self.phase = train, folder, phase
        self.first, start = epochs
        self.best, self.sign = best
        self.measures = measures
        self.epoch, self.history = start, read_history(folder, start)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if hasattr(self.train, "epoch"):
            self.train.epoch.assign(epoch)

    def check(self, name, value, when):
        if not np.isfinite(float(value)):
            raise FloatingPointError(f"{name} is {value:g} {when}")

    def on_train_batch_end(self, batch, logs=None):
        processes.alive()
        when = f"in epoch {self.epoch + 1}, step {batch + 1}"
        self.check("the loss", logs["loss"], when)

    def on_test_batch_end(self, batch, logs=None):
        processes.alive()

    def on_epoch_end(self, epoch, logs=None):
        when = f"after epoch {epoch + 1}"
        # The last step's loss was from before that step.
        if not all(map(is_finite, self.model.trainable_variables)):
            raise FloatingPointError(f"a weight is not a finite number {when}")
        for name in ("val_loss", self.best):
            self.check(name, logs[name], when)
        results = {name: float(value) for name, value in logs.items()}
        results |= {name: get() for name, get in self.measures.items()}
        for name, value in results.items():
            self.history.setdefault(name, []).append(value)
        with processes.together():
            if processes.rank() == 0:
                with shares.on_its_own():
                    self.save(epoch)

    def save(self, epoch):
        """Save all files; last the state: what has none is done again."""
        *before, value = self.history[self.best][self.first :]
        before = [self.sign * other for other in before]
        if self.phase == "all" and self.sign * value > max(
            before, default=-np.inf
        ):
            save_whole(self.model.save, self.folder / "best.keras")
        write_json(self.history, self.folder / "history.json")
        state = self.folder / "states" / f"{epoch + 1:06}-{self.phase}.npz"
        save_state(self.model, state)
        for older in set(state.parent.glob("[0-9]*.npz")) - {state}:
            older.unlink()


def fit(
    model, data, folder, phase, epochs, best, measures, callbacks=(), **options
):
    """Train for some epochs, going on where an earlier run was cut.

    Args:
        model: a compiled model.
        data: what to train on and what to validate with, as for `fine_tune`.
        folder: of the run.
        phase: `"head"` or `"all"`, part of the names of the states.
        epochs: the first epoch, and the one after the last, two ints.
        best: what is measured for the best epoch, and 1 if more of it is
            better, -1 if less is.
        measures: a dict from names to functions, called after each epoch; what
            they return goes into the history.
        callbacks: as for `keras.Model.fit`.
        options: others of `keras.Model.fit`.

    Raises:
        FloatingPointError: if a loss or a weight is not a finite number. Nothing
            of that epoch is saved, and the model has the weights from before
            it.
        OSError: if a file cannot be written.
    """
    if (folder / "stopped.json").exists():
        return
    train, validation = data
    start, stop = epochs
    if processes.rank() > 0:
        options["verbose"] = 0  # one process shows the progress of all
    states = states_of(folder, phase)
    if states:
        load_state(model, states[-1])
        start = int(states[-1].name.split("-")[0])
    first = values_of(model)
    keeper = Keeper(train, folder, phase, (epochs[0], start), best, measures)
    try:
        model.fit(
            train,
            validation_data=validation,
            initial_epoch=start,
            epochs=stop,
            callbacks=[keeper, *callbacks],
            shuffle=False,  # the pipeline does
            **options,
        )
    except FloatingPointError as error:
        states = states_of(folder, phase)
        if states:
            load_state(model, states[-1])
        else:
            variables = [*model.variables, *model.optimizer.variables]
            for variable, value in zip(variables, first, strict=True):
                variable.assign(value)
        raise FloatingPointError(
            f"{error}. The model is as it was before that epoch, and so is "
            "the run: the same call goes on from there. A lower learning_rate "
            "may work, in another folder; or look for NaN in the data."
        ) from error
    with processes.together():
        if model.stop_training and processes.rank() == 0:  # by a callback
            write_json({"epoch": keeper.epoch + 1}, folder / "stopped.json")
