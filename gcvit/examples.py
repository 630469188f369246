"""Examples: the pictures of a data set, read once, and some put aside.

What is not a picture is left out and counted, with the reason, and with what would
help.
"""

import errno
import json
import os
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from hashlib import file_digest, sha256
from operator import and_
from typing import Any, NamedTuple

import keras

from gcvit import pictures, processes

CACHE_BYTES = 2 * 2**30  # of decoded pictures
PATIENCE = 10  # seconds of reading without a progress bar
NAMES_SHOWN = 5  # of what was left out
DARK = 32  # of 255; a picture without a brighter value is nearly black


class Example(NamedTuple):
    """A picture of a data set.

    `picture` is a path or the bytes of a file, `label` the number of its
    class, `group` a text that its siblings share, or `None`; `content` depends
    on what is in the file, `values` and `extremes` are as from
    `pictures.read`.
    """

    picture: Any
    label: int
    group: str | None = None
    content: str = ""
    values: Any = None
    extremes: Any = None


# === Reading all ===


def check_found(examples, names):
    """Check that all processes have found the same pictures.

    Args:
        examples: `Example` tuples that are not read.
        names: of the classes.

    Raises:
        ValueError: on every process, if not; it says who has found what.
    """
    found = [
        f"{names[x.label]}/{x.picture.name}"
        if isinstance(x.picture, os.PathLike)
        else names[x.label]
        for x in examples
    ]
    digest = sha256(json.dumps([found, names]).encode()).hexdigest()
    if len(set(processes.gather(digest))) == 1:
        return
    everyone = [
        Counter(json.loads(text))
        for text in processes.gather(json.dumps(found))
    ]
    common = reduce(and_, everyone)
    parts = []
    for i, seen in enumerate(everyone):
        only = sorted((seen - common).elements())
        more = ", …" if len(only) > NAMES_SHOWN else ""
        alone = f" ({', '.join(only[:NAMES_SHOWN])}{more})" if only else ""
        parts.append(
            f"process {i} {seen.total()} pictures, {len(only)} of which not "
            f"all have{alone}"
        )
    raise ValueError(
        f"the processes have found different pictures: {'; '.join(parts)}. "
        "The same folder, with the same files in it, would work."
    )


def why_not(picture, error):
    """Say in a few words why a picture cannot be read, and what would help."""
    kind = type(error).__name__
    is_path = isinstance(picture, os.PathLike)
    suffix = (picture.suffix.lower() if is_path else "") or "nameless"
    if type(error.__cause__).__name__ == "DecompressionBombError":
        limit = 2 * pictures.pillow().MAX_IMAGE_PIXELS / 1e6
        return (
            f"of more than {limit:.0f} million pixels: shrink them, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS"
        )
    if kind == "UnidentifiedImageError":
        if suffix in pictures.HEIC:
            return f"{suffix}: pip install pillow-heif"
        return f"{suffix} without a picture that Pillow knows"
    if isinstance(error, ValueError) and "NaN" in str(error):
        return f"damaged: {error}"
    return "damaged or cut off"


def digest(picture):
    """Give a text that depends on what is in a file, or on its bytes.

    A film among the pictures would not fit into the memory.
    """
    if isinstance(picture, bytes):
        return sha256(picture).hexdigest()
    with picture.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read_example(example, shorter_side):
    """Read one picture.

    Returns:
        The example with all its parts, or the reason why it has none, a text.

    Raises:
        OSError: if the system cannot read the file: a drive that fails, say.
    """
    picture = example.picture
    try:
        values, extremes = pictures.read(picture, shorter_side)
        content = digest(picture)
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # each of Pillow's formats has its own
        number = getattr(error, "errno", None)
        if number and number != errno.EINVAL:  # a damaged TIFF seeks wildly
            raise OSError(
                number, f"{error.strerror}; nothing was loaded", picture
            ) from error
        return why_not(picture, error)
    return example._replace(content=content, values=values, extremes=extremes)


def read_share(examples, shorter_side):
    """Read pictures in parallel; see `read_all`.

    Returns:
        A list of `Example` tuples that are read, and of reasons, texts, in the
        place of those that cannot be.
    """
    results, size = [], 0
    start, bar = time.monotonic(), None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(lambda x: read_example(x, shorter_side), examples)
        for i, result in enumerate(read):
            if not isinstance(result, str):
                size += result.values.nbytes
                if size > CACHE_BYTES:
                    result = result._replace(values=None)
            results.append(result)
            is_late = time.monotonic() - start > PATIENCE
            if bar is None and is_late and processes.rank() == 0:
                left = len(examples) - i
                bar = keras.utils.Progbar(left, interval=1)
            if bar is not None:
                bar.add(1)
    return results


def exchange(results, examples):
    """Give each process what all of them have read, but for the values.

    Args:
        results: of this process's share, as from `read_share`.
        examples: those of all processes, not read.

    Returns:
        The results for all examples.
    """
    rank, count = processes.rank(), processes.count()
    facts = [
        x if isinstance(x, str) else (x.content, x.extremes) for x in results
    ]
    everyone = [None] * len(examples)
    for other, text in enumerate(processes.gather(json.dumps(facts))):
        everyone[other::count] = json.loads(text)
    both = [
        x
        if isinstance(x, str)
        else example._replace(content=x[0], extremes=x[1])
        for x, example in zip(everyone, examples)
    ]
    both[rank::count] = results
    return both


def read_all(examples, shorter_side):
    """Read pictures in parallel, and leave out those that are none.

    What takes longer than `PATIENCE` shows a progress bar of what is left. Of
    several processes each reads a part, and all get the same, but for the
    values: those of other parts are `None`.

    Args:
        examples: `Example` tuples that are not read.
        shorter_side: pixels to shrink the shorter side to, an int.

    Returns:
        `Example` tuples that are read, and pairs (path or number, reason) of
        what is left out. Once the values fill `CACHE_BYTES`, `None` takes their
        place.
    """
    with processes.together():
        own = examples[processes.rank() :: processes.count()]
        results = read_share(own, shorter_side)
    if processes.count() > 1:
        results = exchange(results, examples)
    kept = [x for x in results if not isinstance(x, str)]
    left_out = []
    for i, (example, reason) in enumerate(zip(examples, results)):
        if isinstance(reason, str):
            is_path = isinstance(example.picture, os.PathLike)
            left_out.append((example.picture if is_path else i, reason))
    return kept, left_out


def same_scale(examples):
    """Bring pictures with more than 8 bits to one scale, from 0 to 255.

    Args:
        examples: `Example` tuples that are read.

    Returns:
        Such examples, their values uint8 arrays `(H, W, 3)`, and what black
        and white are in the deep ones, a pair; `None` if there are none.
    """
    deep = [x.extremes for x in examples if x.extremes is not None]
    if not deep:
        return examples, None
    lows, highs = zip(*deep)
    value_range = pictures.value_range_of(min(lows), max(highs))
    return [
        x
        if x.extremes is None or x.values is None
        else x._replace(values=pictures.in_colour(x.values, value_range))
        for x in examples
    ], value_range


# === What the reader of a folder is told ===


def counts(examples, names):
    """Say how many pictures each class has."""
    found = Counter(example.label for example in examples)
    return ", ".join(f"{found[i]} {name}" for i, name in enumerate(names))


def report(left_out):
    """Say what was left out, for which reasons, and how much of it."""
    reasons = Counter(reason for _, reason in left_out)
    shown = max(NAMES_SHOWN // max(len(reasons), 1), 1)
    parts = []
    for reason, count in reasons.most_common():
        names = [
            x.name if isinstance(x, os.PathLike) else f"number {x}"
            for x, why in left_out
            if why == reason
        ]
        more = ", …" if count > shown else ""
        parts.append(f"{count} × {reason} ({', '.join(names[:shown])}{more})")
    return f"left out {len(left_out)}: {'; '.join(parts)}."


def summary(train, validation, names, value_range):
    """Say what was found; `value_range` as from `same_scale`."""
    text = f"{len(train):,} pictures to train: {counts(train, names)}.\n"
    text += f"{len(validation):,} to validate: {counts(validation, names)}."
    if value_range:
        low, high = value_range
        text += f"\nIn those with more than 8 bits, {low:g} is black and "
        text += f"{high:g} white."
    count = contradictions([*train, *validation])
    return text + f"\n{count} have copies in another class." * bool(count)


def is_dark(example):
    return example.values is not None and example.values.max() < DARK


def contradictions(examples):
    """Count the pictures that have another class than a copy of them."""
    labels = {}
    for example in examples:
        labels.setdefault(example.content, set()).add(example.label)
    return sum(len(labels[example.content]) > 1 for example in examples)


def shared(train, validation):
    """Count the pictures to validate with that have siblings to train on."""
    ranks = siblings([*train, *validation])
    known = set(ranks[: len(train)])
    return sum(rank in known for rank in ranks[len(train) :])


def check(train, validation, names, left_out):
    """Check that what was found can be learned from, and say what is odd.

    Raises:
        ValueError: for a class without a picture to learn from.
    """

    def warn(text):  # as from whoever called `load_pictures`
        if processes.rank() == 0:
            warnings.warn(text, stacklevel=5)

    if left_out:
        warn(report(left_out) + " train.left_out lists all.")
    empty = set(range(len(names))) - {example.label for example in train}
    if empty:
        classes = ", ".join(names[label] for label in sorted(empty))
        raise ValueError(f"no picture to learn from in: {classes}.")
    both = [*train, *validation]
    if shared(train, validation):
        warn(
            f"{shared(train, validation)} of {len(validation)} pictures to "
            "validate with have a copy, or one of their group, to train on: "
            "the accuracy will look too good."
        )
    # Each process has the values of some.
    dark = sum(map(int, processes.gather(str(sum(map(is_dark, both))))))
    if dark > len(both) / 2:
        warn(
            f"{dark} of {len(both)} pictures are nearly black: no value is "
            f"above {DARK} of 255. Perhaps their files leave bits unused."
        )


# === Putting some aside ===


def content_of(examples, seed):
    """Give a text that depends on a seed, and on all pictures and labels."""
    files = [f"{example.content} {example.label}" for example in examples]
    return sha256(f"{seed} {files}".encode()).hexdigest()


def siblings(examples):
    """Give each example the rank of those that must stay on its side.

    Copies of a file stay together, and so do members of a group.

    Args:
        examples: `Example` tuples that are read.

    Returns:
        A list of texts, one for each example.
    """
    parents = {}

    def root(key):
        while parents.setdefault(key, key) != key:
            key = parents[key]
        return key

    contents = [("content", example.content) for example in examples]
    for content, example in zip(contents, examples):
        if example.group is not None:
            one, other = root(content), root(("group", example.group))
            parents[max(one, other)] = min(one, other)
    return [root(content)[1] for content in contents]


def split_off(examples, seed):
    """Put a tenth of each class aside for validation, siblings together.

    Args:
        examples: `Example` tuples that are read.
        seed: decides which tenth, an int.

    Returns:
        Two lists of such examples, to train on and to validate with.
    """
    ranks = [
        sha256(f"{seed} {rank}".encode()).digest()
        for rank in siblings(examples)
    ]
    aside = set()
    for label in {example.label for example in examples}:
        own = {
            rank
            for rank, example in zip(ranks, examples)
            if example.label == label
        }
        count = max(round(len(own) / 10), 1) if len(own) > 1 else 0
        aside |= set(sorted(own)[:count])
    train, validation = [], []
    for rank, example in zip(ranks, examples):
        (validation if rank in aside else train).append(example)
    return train, validation
