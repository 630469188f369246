"""Folders: which pictures are in them, of which class, and of which group.

People's folders hold more than pictures: notes, links, and what the system
keeps there. What is left out or passed over is listed, so that it can be said.
"""

import os
import re
from pathlib import Path

from gcvit import pictures
from gcvit.arguments import file_path
from gcvit.examples import NAMES_SHOWN, Example

# What systems leave in folders; what starts with a dot is passed over, too.
SYSTEM = {"__macosx", "$recycle.bin", "system volume information", "@eadir"}
SYSTEM |= {"lost+found", "thumbs.db", "desktop.ini"}
SPLITS = {"train": ["train", "training"]}
SPLITS |= {"validation": ["validation", "valid", "val", "test", "testing"]}


# === What is there ===


def is_passed_over(name):
    return name.startswith(".") or name.lower() in SYSTEM


def files_below(folder, passed_over):
    """List the files in a folder, in order; each linked folder once.

    Args:
        folder: a path.
        passed_over: a list, to which hidden and system files are added.
    """

    def stop(error):  # otherwise os.walk would pass it over
        raise error

    files, seen = [], set()
    for place, folders, names in os.walk(
        folder, followlinks=True, onerror=stop
    ):
        own = os.path.realpath(place)
        if own in seen:
            folders.clear()
            continue
        seen.add(own)
        for name in [*folders, *names]:
            if is_passed_over(name):
                passed_over.append(Path(place, name))
        folders[:] = sorted(x for x in folders if not is_passed_over(x))
        files += [
            Path(place, x) for x in sorted(names) if not is_passed_over(x)
        ]
    return files


def folders_in(folder):
    """List the folders in a folder that are not passed over."""
    inside = sorted(folder.iterdir())
    return [x for x in inside if x.is_dir() and not is_passed_over(x.name)]


def files_in(folder):
    """List the files in a folder that are not passed over."""
    inside = sorted(folder.iterdir())
    return [x for x in inside if not (x.is_dir() or is_passed_over(x.name))]


def pictures_in(folder):
    """List the files in a folder that are pictures by their names."""
    known = {*pictures.pillow().registered_extensions(), *pictures.HEIC}
    return [x for x in files_in(folder) if x.suffix.lower() in known]


def in_words(paths):
    """Name the first of some paths."""
    names = [path.name for path in paths]
    rest = len(names) - NAMES_SHOWN
    more = [f"{rest} more"] if rest > 0 else []
    return ", ".join([*names[:NAMES_SHOWN], *more])


# === Classes ===


def is_of_folders(folder):
    """Tell a folder that has folders in it, and no pictures beside them."""
    return bool(folders_in(folder)) and not pictures_in(folder)


def call_that_works(folder):
    """Say how to call `load_pictures` for the classes below a folder."""
    inside = folders_in(folder)
    while len(inside) == 1 and is_of_folders(inside[0]):
        folder, inside = inside[0], folders_in(inside[0])
    by_name = {path.name.lower(): path for path in inside}
    train, validation = (
        next((by_name[name] for name in names if name in by_name), None)
        for names in SPLITS.values()
    )
    if train and validation:
        return f"load_pictures({str(train)!r}, validation={str(validation)!r})"
    if not all(map(is_of_folders, inside)):
        return f"load_pictures({str(folder)!r})"
    return f"load_pictures({str(train or inside[0])!r})"


def class_folders(folder, group_by=None, name="folder"):
    """List the folders of the classes.

    Args:
        folder: the folder that holds them.
        group_by: as for `load_pictures`.
        name: the argument's name, for the error.

    Raises:
        ValueError: if there is no such folder, none in it, or if one has
            folders only.
    """
    folder = file_path(name, folder)
    if not folder.is_dir():
        raise ValueError(
            f"{name}={str(folder)!r} is not a folder. A folder with one "
            "sub-folder of pictures for each class would work."
        )
    classes = folders_in(folder)
    if not classes:
        raise ValueError(
            f"{folder} has no sub-folder; each class needs one, named after "
            "it, with its pictures."
        )
    for path in classes:
        if group_by is None and is_of_folders(path):
            raise ValueError(
                f"{path}, which would be a class, holds no picture but "
                f"folders: {in_words(folders_in(path))}. If these are the "
                f"classes, {call_that_works(folder)} works; if these are "
                "parts of one class, group_by='folder'."
            )
    return classes


def check_group(group_by):
    """Raise `ValueError` for what is not a regular expression."""
    try:
        re.compile(group_by)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"group_by={group_by!r} is not a regular expression: {error}. "
            "'folder' would work for a sub-folder for each group."
        ) from error


def group_of(path, folder, group_by):
    """Say which group a picture belongs to; see `load_pictures`."""
    if group_by is None:
        return None
    if group_by == "folder":
        inside = path.relative_to(folder).parts
        return inside[0] if len(inside) > 1 else None
    found = re.search(group_by, path.name)
    if not found:
        raise ValueError(
            f"group_by={group_by!r} is not in the name of {path}. A regular "
            "expression that is in each name would work, or 'folder'."
        )
    return found[found.lastindex or 0]


def read_folder(folder, group_by=None, name="folder"):
    """List the pictures in a folder, one sub-folder for each class.

    Args:
        folder: the folder.
        group_by: as for `load_pictures`.
        name: the argument's name, for the error.

    Returns:
        A list of `Example` tuples that are not read yet; the class names,
        sorted; pairs (path, reason) of what is left out; and the paths that are
        passed over.

    Raises:
        ValueError: if there is no such folder, if its classes cannot be told,
            or for a name without a group.
        OSError: if a folder cannot be listed.
    """
    if group_by is not None:
        check_group(group_by)
    classes = class_folders(folder, group_by, name)
    folder = classes[0].parent
    passed_over = [x for x in folder.iterdir() if is_passed_over(x.name)]
    left_out = [
        (file, "beside the folders of the classes: move them into one")
        for file in files_in(folder)
    ]
    examples = []
    for label, path in enumerate(classes):
        for file in files_below(path, passed_over):
            if not file.exists():
                left_out.append((file, "links to nothing"))
                continue
            group = group_of(file, path, group_by)
            examples.append(Example(file, label, group))
    return examples, [path.name for path in classes], left_out, passed_over


def with_classes_of(examples, own_names, names, folder, validation):
    """Number the classes of one folder as those of another are.

    Args:
        examples: `Example` tuples of the folder `validation`.
        own_names: of its classes.
        names: of the classes of `folder`.
        folder: for the error.
        validation: for the error.

    Raises:
        ValueError: for a class that is not in both.
    """
    unknown = [name for name in own_names if name not in names]
    if unknown:
        raise ValueError(
            f"validation={str(validation)!r} has classes that are not in "
            f"{str(folder)!r}: {', '.join(unknown)}. Known are: "
            f"{', '.join(names)}."
        )
    numbers = [names.index(name) for name in own_names]
    return [x._replace(label=numbers[x.label]) for x in examples]


def read_folders(folder, validation, group_by):
    """List the pictures to train and to validate with.

    Args:
        folder: as for `load_pictures`.
        validation: as for `load_pictures`.
        group_by: as for `load_pictures`.

    Returns:
        `Example` tuples of both, and the rest as from `read_folder`.

    Raises:
        ValueError: as `read_folder`; for one class only, and for a class that
            is not in both folders.
        OSError: if a folder cannot be listed.
    """
    found, names, left_out, passed_over = read_folder(folder, group_by)
    if len(names) == 1:
        raise ValueError(
            f"{folder} has one class only, {names[0]}. There is nothing to "
            "tell apart; two sub-folders at least would work."
        )
    own = []
    if validation is not None:
        own, theirs, more, hidden = read_folder(
            validation, group_by, "validation"
        )
        own = with_classes_of(own, theirs, names, folder, validation)
        left_out, passed_over = left_out + more, passed_over + hidden
    return found, own, names, left_out, passed_over
