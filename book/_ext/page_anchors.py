"""Let `[text](page.md#id)` lead to every id of a page.

MyST finds the ids of headings only; a chapter also links to entries of the
API reference and to words of the glossary. An id that no page has stays an
error.
"""

from docutils import nodes


def note_ids(app, doctree):
    """Tell MyST the ids of the page that was just read."""
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for node in doctree.findall(nodes.Element):
        for identifier in node.get("ids", []):
            slugs.setdefault(identifier, (node.line, identifier, identifier))


def setup(app):
    app.connect("doctree-read", note_ids)
    return {"parallel_read_safe": True}
