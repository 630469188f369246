"""Let each page load and run what it carries, and nothing else.

A content security policy names it: files of this site, and the scripts and
styles that are in the page, by their hashes. Whatever is put into a page later
does not run. A file that is opened without a server keeps the same rules.
"""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

# KaTeX and the tables place their parts by attributes; photographs in figures
# to touch, and the signs of the theme's controls, are addresses with their data.
POLICY = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "style-src-attr": ["'unsafe-inline'"],
    "img-src": ["'self'", "data:"],
    "font-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "worker-src": ["'none'"],
}
# What single pages need instead. The search shows what is around a word. In
# `live` a worker runs a model on the reader's own pictures; a page's policy does
# not hold in its worker, so WebAssembly needs no word here.
INSTEAD = {
    "search": {"connect-src": ["'self'"]},
    "book/live": {
        "connect-src": ["'self'"],
        "img-src": ["'self'", "data:", "blob:"],
        "worker-src": ["'self'"],
    },
}
# What a tag says, and what is between it and its end.
SCRIPTS = r"<script(?![^>]*\bsrc=)([^>]*)>(.*?)</script>"
STYLES = r"<style([^>]*)>(.*?)</style>"
# The theme writes what its buttons do into attributes, which would not run;
# `book.js` does it.
ATTRIBUTES = r'\s+onclick="(toggleFullScreen|window\.print)\(\)"'


def hashes(html, form):
    """The hashes of a page's own scripts or styles; data does not run."""
    texts = {
        text
        for tag, text in re.findall(form, html, re.DOTALL)
        if "application/json" not in tag
    }
    digests = [sha256(text.encode()).digest() for text in sorted(texts)]
    return [f"'sha256-{b64encode(digest).decode()}'" for digest in digests]


def policy(html, name, styles):
    """The policy of a page.

    Args:
        html: the page.
        name: which one, such as "book/level".
        styles: the text with its styles: the page, or all that it reads.

    Returns:
        What its meta element says.
    """
    own = {
        "script-src": hashes(html, SCRIPTS),
        "style-src": hashes(styles, STYLES),
    }
    rules = {**POLICY, **INSTEAD.get(name, {})}
    return "; ".join(
        " ".join([kind, *allowed, *own.get(kind, [])])
        for kind, allowed in rules.items()
    )


def styles_first(html):
    """Move the styles of figures into the head.

    What was searched for is highlighted wherever it stands, in a style of the
    text, too: then its hash is another, and the figure would lose its style.
    """
    head, end, body = html.partition("</head>")
    form = r"<style[^>]*>.*?</style>\n?"
    styles = dict.fromkeys(re.findall(form, body, re.DOTALL))
    body = re.sub(form, "", body, flags=re.DOTALL)
    return head + "".join(styles) + end + body


def guarded(html, policy):
    """Put its policy into a page, before anything that it holds for."""
    html = styles_first(re.sub(ATTRIBUTES, "", html))
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    # The page that leads to the first one has no head.
    beginning = re.search(r'<meta charset="[^"]*" ?/?>', html)
    place = beginning.end() if beginning else 0
    return html[:place] + meta + html[place:]


def guard_pages(app, error):
    if error:
        return
    folder = Path(app.outdir)
    pages = {
        page.relative_to(folder).with_suffix("").as_posix(): page
        for page in folder.rglob("*.html")
        if "_static" not in page.parts  # the theme's own sources
    }
    texts = {name: page.read_text("utf-8") for name, page in pages.items()}
    for name, html in texts.items():
        # The search reads the pages that it found.
        styles = "".join(texts.values()) if name == "search" else html
        text = guarded(html, policy(html, name, styles))
        pages[name].write_text(text, "utf-8")


def setup(app):
    # After all that changes pages.
    app.connect("build-finished", guard_pages, priority=900)
    return {"parallel_read_safe": True}
