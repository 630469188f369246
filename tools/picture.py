"""Photograph the built book for the README, with a Chromium that is installed.

    python tools/picture.py

The front page in the light theme, and beside it a chapter in the dark one.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tools import presence

SITE = ROOT / "_build" / "html" / "book"
PICTURE = ROOT / "book" / "_static" / "figures" / "book.png"
# Page, and Chromium's number of the colour scheme that the reader prefers.
PAGES = {"intro": 1, "window_attention": 0}


def photograph(page, scheme, folder):
    """Photograph the top of a page, 1280 by 800 pixels."""
    address = (SITE / page).with_suffix(".html")
    if not address.exists():
        sys.exit(f"{address} is not there; run: python tools/build_book.py")
    if not presence.is_there("chromium"):
        sys.exit(presence.remedy("chromium"))
    file = Path(folder) / f"{page}.png"
    options = ["--headless", "--no-sandbox", "--hide-scrollbars"]
    options += ["--window-size=1280,800", f"--user-data-dir={folder}"]
    options += [f"--blink-settings=preferredColorScheme={scheme}"]
    command = [
        presence.find_chromium(),
        *options,
        f"--screenshot={file}",
        address.as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return Image.open(file).convert("RGB")


def main():
    with tempfile.TemporaryDirectory() as folder:
        pages = [photograph(*page, folder) for page in PAGES.items()]
    both = Image.new("RGB", (2 * 1280, 800))
    for number, page in enumerate(pages):
        both.paste(page, (1280 * number, 0))
    both = both.resize((1600, 500)).quantize(dither=Image.Dither.NONE)
    both.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
