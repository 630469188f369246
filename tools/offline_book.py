"""Pack the built book into one archive that opens without a server.

    python tools/offline_book.py

The same book gives the same archive, to the byte.
"""

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
ARCHIVE = ROOT / "_build" / "gcvit-book.zip"
FOLDER = ARCHIVE.stem
# What pages fetch, which a browser lets no file do.
FETCHED = ("_static/live/",)
# The search fetches the pages that it found, to show what is around a word.
OPTIONS = "_static/documentation_options.js"
SUMMARIES = "SHOW_SEARCH_SUMMARY: true"


def content(name):
    """What a file of the site is in the archive, in bytes."""
    data = (SITE / name).read_bytes()
    if name == OPTIONS:
        text = data.decode()
        if SUMMARIES not in text:
            raise ValueError(f"{OPTIONS} lacks {SUMMARIES!r}.")
        data = text.replace(SUMMARIES, SUMMARIES.replace("true", "false"))
        data = data.encode()
    return data


def pack(path):
    """Pack the site into an archive."""
    files = sorted(file for file in SITE.rglob("*") if file.is_file())
    names = [file.relative_to(SITE).as_posix() for file in files]
    with ZipFile(path, "w") as archive:
        for name in names:
            if not name.startswith(FETCHED):
                # Each entry has the same time: ZipInfo's first one.
                entry = ZipInfo(f"{FOLDER}/{name}")
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content(name), ZIP_DEFLATED)


def main():
    pack(ARCHIVE)
    print(f"The archive is at {ARCHIVE.as_uri()}")
    print(f"Unpack it, and open {FOLDER}/index.html")


if __name__ == "__main__":
    main()
