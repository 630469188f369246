"""Mend, for every reader, what the theme and the writers' tables leave out.

Pictures get their size, so that the text does not jump when they arrive. Those
of figures become links to themselves: where a page is too narrow for their
letters they scroll, and a tap opens them. So they can be reached with the
keyboard. So can wide formulas; wide code and tables already can, by the theme's
script. Whatever is on a page is in a landmark.
"""

import re
from pathlib import Path

import imagesize

# A figure that is wider than this is cut off on a phone, by what `book.css` says.
WIDE = 450

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


def linked_figures(html):
    """Make the picture of each figure a link to itself.

    The link is the box that a wide picture scrolls in; `book.css` says from
    which width on, by the picture's own one.
    """

    def linked(found):
        figure, tag = found.groups()
        source = re.search(r'src="([^"]*)"', tag)[1]
        width = int(re.search(r'\bwidth="(\d+)"', tag)[1])
        kind = "picture wide" if width > WIDE else "picture"
        style = f"--own-width: {width}px"
        link = f'<a class="{kind}" href="{source}" style="{style}">'
        return f"{figure}{link}{tag}</a>"

    return re.sub(r"(<figure [^>]+>\s*)(<img [^>]+>)", linked, html)


def mend_pages(app, error):
    if error:
        return
    for page in Path(app.outdir).rglob("*.html"):
        html = page.read_text("utf-8")
        for written, meant in MARKUP:
            html = html.replace(written, meant)
        html = linked_figures(sized_pictures(html, page.parent))
        page.write_text(html, "utf-8")


def follow_the_screen(app, config):
    """Start in the theme, light or dark, that the reader's screen asks for."""
    config.html_context.setdefault("default_mode", "auto")


def setup(app):
    app.connect("config-inited", follow_the_screen)
    app.connect("build-finished", mend_pages)
    return {"parallel_read_safe": True}
