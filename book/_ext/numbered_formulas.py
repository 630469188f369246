"""Number every displayed formula.

Sphinx's own `math_number_all` sees formulas of a directive only, and those of
a notebook stand between two dollars, which Colab and GitHub understand.
"""

from docutils import nodes
from sphinx.transforms import SphinxTransform


class NumberFormulas(SphinxTransform):
    default_priority = 400

    def apply(self):
        domain = self.env.get_domain("math")
        page = self.env.docname
        blocks = self.document.findall(nodes.math_block)
        for count, block in enumerate(blocks, start=1):
            label = f"{page}:{count}"
            domain.note_equation(page, label, location=block)
            block["number"] = domain.get_equation_number_for(label)
            block["label"], block["docname"] = label, page
            block["ids"].append(nodes.make_id(f"equation-{label}"))


def setup(app):
    app.add_transform(NumberFormulas)
    return {"parallel_read_safe": True}
