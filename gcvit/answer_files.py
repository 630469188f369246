"""Answer files: what `gcvit.predict_folder` writes while it runs, and at last.

While it runs there is a folder beside the file, `answers.csv.unfinished`:

    settings.json    of the model and the pictures; other ones do not go on
    remaining.json   the pictures that the last call began with
    part-0.jsonl     the rows of the first process, as they come; and so on

A row is a list of JSON, on a line of its own. A line that a killed process did
not finish is cut off; that picture is answered again. At last the first
process brings the rows into the order of their paths.
"""

import contextlib
import csv
import itertools
import json
import os
import time

from gcvit import runs

SECONDS = 5  # until what was written must be on the disk
ROWS = 10_000  # written to a Parquet file together
SUFFIXES = (".csv", ".parquet")


def pyarrow():
    """Import pyarrow, which writes Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Writing Parquet takes a package: pip install pyarrow. A file "
            "that ends in .csv needs none."
        ) from error
    return pyarrow


def readable(path):
    """Give a path as UTF-8; bytes that are not become backslashes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# === While it runs ===


def folder_of(file):
    """Say where the parts of an answer file are."""
    return file.with_name(f"{file.name}.unfinished")


def parts_in(folder):
    """List the parts that processes have written."""
    return sorted(folder.glob("part-*.jsonl"))


def cut_off_damage(part):
    """Cut a part off behind its last whole row."""
    whole = 0
    with part.open("rb+") as file:
        for line in file:
            try:
                json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
        file.truncate(whole)


def find_rows(folder):
    """Say where the row of each picture is.

    Returns:
        A dict from paths to pairs: the number of the part, and how many bytes
        of it come before the row.
    """
    places = {}
    for number, part in enumerate(parts_in(folder)):
        start = 0
        with part.open("rb") as file:
            for line in file:
                places[json.loads(line)[0]] = number, start
                start += len(line)
    return places


def check_settings(settings, folder):
    """Keep the settings, and refuse to go on with other ones.

    Settings of a call that answered nothing are replaced.

    Raises:
        ValueError: if the answers that are there were given by another model,
            or are of other pictures.
    """
    path = folder / "settings.json"
    is_begun = any(part.stat().st_size for part in parts_in(folder))
    if not path.exists() or not is_begun:
        return runs.write_json(settings, path)
    before = json.loads(path.read_text("utf-8"))
    settings = json.loads(json.dumps(settings))  # as they would be read
    changed = [
        f"{name} was {before.get(name)}, now {value}"
        for name, value in settings.items()
        if before.get(name) != value
    ]
    if changed:
        raise ValueError(
            f"{folder} holds answers that go with something else: "
            f"{'; '.join(changed)}. Name another file, or delete that folder "
            "to begin again."
        )


def open_folder(file, settings):
    """Open the folder of the parts, and say what is there.

    Args:
        file: the file of the answers, a path.
        settings: what answers must agree in, a dict.

    Returns:
        The paths of the pictures that are answered.

    Raises:
        ValueError: if the answers there go with other settings.
        OSError: if the folder cannot be made or read.
    """
    folder = folder_of(file)
    folder.mkdir(exist_ok=True)
    for part in parts_in(folder):
        cut_off_damage(part)
    check_settings(settings, folder)
    return find_rows(folder).keys()


def write_remaining(paths, file):
    """Write which pictures are to be answered, for all processes."""
    runs.write_json(paths, folder_of(file) / "remaining.json")


def read_remaining(file):
    """Read which pictures are to be answered, a list of paths."""
    return json.loads((folder_of(file) / "remaining.json").read_text())


class Part:
    """The rows of one process; they are on the disk after some seconds.

    Args:
        file: the file of the answers, a path.
        rank: the process's number.
    """

    def __init__(self, file, rank):
        self.file = (folder_of(file) / f"part-{rank}.jsonl").open("ab")
        self.saved = time.monotonic()

    def write(self, rows):
        lines = [json.dumps(row) + "\n" for row in rows]
        self.file.write("".join(lines).encode())
        self.file.flush()
        if time.monotonic() - self.saved > SECONDS:
            self.save()

    def save(self):
        os.fsync(self.file.fileno())
        self.saved = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self.file:
            self.save()


# === At last ===


def rows_in(folder):
    """Read all rows, in the order of their paths, each of them once."""
    places = find_rows(folder)
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(part.open("rb")) for part in parts_in(folder)
        ]
        for path in sorted(places):
            number, start = places[path]
            files[number].seek(start)
            # A reason may have a part of the name in it.
            yield [
                readable(value) if isinstance(value, str) else value
                for value in json.loads(files[number].readline())
            ]


def write_csv(columns, rows, path):
    """Write a CSV file; see `write`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        plain = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in itertools.chain([columns], rows):
            # Python 3.11 does not quote what readers take for a line's end.
            breaks = any(isinstance(x, str) and "\r" in x for x in row)
            (quoted if breaks else plain).writerow(row)


def write_parquet(columns, rows, path):
    """Write a Parquet file; see `write`."""
    arrow = pyarrow()
    kinds = {str: arrow.string(), float: arrow.float32()}
    schema = arrow.schema([(name, kinds[x]) for name, x in columns.items()])
    with arrow.parquet.ParquetWriter(path, schema) as writer:

        def write_rows(some):
            both = zip(zip(*some), schema)
            arrays = [arrow.array(x, kind.type) for x, kind in both]
            writer.write_table(arrow.table(arrays, schema=schema))

        some = []
        for row in rows:
            some.append(row)
            if len(some) == ROWS:
                write_rows(some)
                some = []
        if some:
            write_rows(some)


def write(file, columns):
    """Write the file of all answers, and remove its parts.

    Args:
        file: its path; the suffix says the format.
        columns: a dict from the names of the columns to `str` or `float`.

    Returns:
        How many rows there are, and how many without an answer.

    Raises:
        OSError: if it cannot be written; the parts are still there.
    """
    folder, counts = folder_of(file), [0, 0]

    def counted():
        for row in rows_in(folder):
            counts[0] += 1
            counts[1] += row[-1] is not None
            yield row

    save = {".csv": write_csv, ".parquet": write_parquet}[file.suffix.lower()]
    runs.save_whole(lambda path: save(columns, counted(), path), file)
    remove_parts(folder)
    return counts


def remove_parts(folder):
    """Remove the folder of the parts, unless something else is in it."""
    names = ("settings.json", "remaining.json")
    for path in [*parts_in(folder), *(folder / name for name in names)]:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
