"""Leave out of the style sheets the rules for what is on no page.

The theme carries the whole of Bootstrap, of which the book uses a part.
"""

import re
from itertools import pairwise
from pathlib import Path

import tinycss2

# Bootstrap's script composes names of classes with this beginning.
COMPOSED = "bs-"


def selectors(prelude):
    """Split "a.b, c" into its selectors, each a list of tokens."""
    parts = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def may_match(selector, words):
    """Whether all classes that a selector asks for are among the words."""
    return all(
        token.value in words or token.value.startswith(COMPOSED)
        for dot, token in pairwise(selector)
        if dot == "." and token.type == "ident"
    )


def used_rules(rules, words):
    """Write a style sheet without the rules that cannot match."""
    text = ""
    for rule in rules:
        if rule.type == "qualified-rule":
            kept = [x for x in selectors(rule.prelude) if may_match(x, words)]
            if kept:
                before = ",".join(tinycss2.serialize(x).strip() for x in kept)
                text += f"{before}{{{tinycss2.serialize(rule.content)}}}\n"
        elif rule.type == "at-rule" and rule.lower_at_keyword == "media":
            inner = tinycss2.parse_rule_list(rule.content)
            before = f"@media{tinycss2.serialize(rule.prelude)}"
            text += f"{before}{{{used_rules(inner, words)}}}\n"
        elif rule.type != "comment" or rule.value.startswith("!"):
            text += rule.serialize()  # a licence's comment starts with !
    return text


def lighten_styles(app, error):
    """Write each style sheet again, without the rules that cannot match."""
    if error:
        return
    folder = Path(app.outdir)
    # Any word of a page or a script may be the name of a class.
    texts = [*folder.rglob("*.html"), *folder.rglob("*.js")]
    words = {
        word
        for path in texts
        for word in re.findall(r"[\w-]+", path.read_text("utf-8"))
    }
    for path in folder.rglob("*.css"):
        rules = tinycss2.parse_stylesheet(path.read_text("utf-8"))
        path.write_text(used_rules(rules, words), "utf-8")


def setup(app):
    app.connect("build-finished", lighten_styles)
    return {"parallel_read_safe": True}
