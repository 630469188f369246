"""Each page loads and runs what it carries, and nothing that is put into it.

That no page breaks its own policy, `test_pages.py` and `test_touch.py` see: the
browser writes what it refuses on the console.
"""

import re

import pytest

from tools.build_book import SITE

PAGES = sorted(
    path.relative_to(SITE).with_suffix("").as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts
)
POLICY = r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">'
# May stand before the policy: it loads nothing, and runs nothing.
HEAD = r'(<!DOCTYPE html>|<html [^>]*>|<head>|<meta charset="[^"]*" ?/>|\s)*'

# What a stranger might put into a page, and the directive that refuses it.
INJECTED = {
    "a script": (
        "script-src-elem",
        """document.body.append(Object.assign(
            document.createElement("script"), { text: "ran = true" }))""",
    ),
    "a button's act": (
        "script-src-attr",
        """document.body.insertAdjacentHTML("beforeend",
            "<button id=injected onclick='ran = true'>")
        document.getElementById("injected").click()""",
    ),
    "an address": ("script-src-elem", "location = 'javascript:ran = true'"),
    "a text": ("script-src", "setTimeout('ran = true')"),
    "another host's script": (
        "script-src-elem",
        """document.body.append(Object.assign(
            document.createElement("script"), { src: ELSEWHERE }))""",
    ),
    "another host's picture": ("img-src", "new Image().src = ELSEWHERE"),
    "a message to another host": (
        "connect-src",
        "fetch(ELSEWHERE).catch(() => {})",
    ),
    "another host's page": (
        "frame-src",
        """document.body.append(Object.assign(
            document.createElement("iframe"), { src: ELSEWHERE }))""",
    ),
    "a style": (
        "style-src-elem",
        """document.head.append(Object.assign(
            document.createElement("style"), { textContent: "p { top: 0 }" }))""",
    ),
    "a worker": ("worker-src", "new Worker('../_static/book.js')"),
    "another base": (
        "base-uri",
        """document.head.append(Object.assign(
            document.createElement("base"), { href: ELSEWHERE }))""",
    ),
}
# Do it, and say which directive refused it.
TRY = """() => new Promise((resolve) => {
    const ELSEWHERE = "https://elsewhere.example/";
    document.addEventListener("securitypolicyviolation", (violation) =>
        resolve(violation.effectiveDirective));
    setTimeout(() => resolve("nothing"), 2000);
    %s;
})"""


def rules(name):
    """The directives of a page and what each allows."""
    html = (SITE / f"{name}.html").read_text("utf-8")
    policy = re.match(HEAD + POLICY, html)
    assert policy, "no policy at the page's beginning"
    parts = [rule.split() for rule in policy[policy.lastindex].split("; ")]
    return {kind: set(allowed) for kind, *allowed in parts}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_allows_what_it_needs(name):
    found = rules(name)
    assert found["default-src"] == {"'none'"}
    # Attributes place the parts of formulas; they load nothing from elsewhere.
    assert found.pop("style-src-attr") == {"'unsafe-inline'"}
    named = {"'self'", "'none'", "data:"}
    if name == "book/live":
        named |= {"blob:"}  # the reader's own pictures
        assert found["worker-src"] == {"'self'"}
    else:
        assert found["worker-src"] == {"'none'"}
    assert ("connect-src" in found) == (name in ("search", "book/live"))
    for allowed in found.values():
        for source in allowed - named:
            assert re.fullmatch(r"'sha256-[\w+/]{43}='", source)


@pytest.mark.parametrize("what", INJECTED)
def test_what_is_put_into_a_page_is_refused(open_page, what):
    directive, act = INJECTED[what]
    page = open_page("book/level")
    assert not page.errors
    assert page.evaluate(TRY % act) == directive
    assert page.evaluate("typeof ran") == "undefined"


def test_the_buttons_without_attributes_work(open_page):
    page = open_page("book/level")
    page.evaluate("print = () => { printed = true; }")
    page.get_by_role("button", name="Download this page").click()
    page.locator(".btn-download-pdf-button").click()
    assert page.evaluate("printed")
    page.locator(".btn-fullscreen-button").click()
    page.locator(":fullscreen").wait_for()
    assert not page.errors


def test_a_word_that_was_found_breaks_no_style(open_page):
    page = open_page("search")
    page.goto(f"{page.url}?q=relative+position")
    results = page.locator("#search-results")
    results.get_by_role("link", name="Window attention").first.click()
    page.locator("article .highlighted").first.wait_for()
    page.locator("figure.relative_position_index.ready").wait_for()
    assert not page.errors
