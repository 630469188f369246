"""Mend, for every reader, what the theme and the writers' tables leave out.

Pictures get their size, so that the text does not jump when they arrive. Wide
formulas, which scroll, can be reached with the keyboard; wide code and tables
already can, by the theme's script. Whatever is on a page is in a landmark.
"""

import re
from pathlib import Path

import imagesize

# What the theme or docutils writes, and what it should have written.
MARKUP = [
    (
        'id="pst-primary-sidebar"',
        'role="complementary" aria-label="Sidebar" id="pst-primary-sidebar"',
    ),
    # The corner of a table that names nothing is no header.
    ('<th class="head"><p></p></th>', "<td></td>"),
    (
        '<div class="math',
        '<div tabindex="0" role="group" aria-label="Formula" class="math',
    ),
]


def picture_size(path):
    """Give a picture's width and height in pixels."""
    width, height = imagesize.get(path)
    if width < 0 and path.suffix == ".svg":
        box = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', path.read_text())
        width, height = map(float, box.groups())
    return round(width), round(height)


def sized_pictures(html, folder):
    """Write its size into the tag of each picture that is a file."""

    def sized(tag):
        path = folder / re.search(r'src="([^"]*)"', tag[0])[1]
        if re.search(r'\b(width|height)="', tag[0]) or not path.is_file():
            return tag[0]
        width, height = picture_size(path)
        return f'<img width="{width}" height="{height}"{tag[0][4:]}'

    return re.sub(r"<img [^>]+>", sized, html)


def mend_pages(app, error):
    if error:
        return
    for page in Path(app.outdir).rglob("*.html"):
        html = page.read_text("utf-8")
        for written, meant in MARKUP:
            html = html.replace(written, meant)
        page.write_text(sized_pictures(html, page.parent), "utf-8")


def follow_the_screen(app, config):
    """Start in the theme, light or dark, that the reader's screen asks for."""
    config.html_context.setdefault("default_mode", "auto")


def setup(app):
    app.connect("config-inited", follow_the_screen)
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True}
