"""Print the built book as one PDF, with a Chromium that is installed.

    python tools/print_book.py

The pages become one, `_build/print/book.html`: links lead from place to place,
folded answers stand at the end, and of a figure to touch the still before it
is left. It is printed twice: which page a place is on is known only then.
"""

import html
import json
import posixpath
import re
import sys
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tools import presence, stamp
from tools.build_book import SITE, pages

PAPER = ROOT / "_build" / "print" / "book.html"
PDF = ROOT / "_build" / "gcvit-book.pdf"
STYLE = ROOT / "tools" / "print_book.css"
# What answers to a pointer, runs, or is folded since nobody has to read it.
SCREEN_ONLY = (
    ".headerlink, script, noscript, figure.touch, .katex-mathml, "
    ".tag_hide-input details.hide"
)
# What looks like the text around it. In the PDF, which screen readers can read,
# each would be a part of its own: with them it is a third larger.
PLAIN = ".highlight :is(.n, .nn, .p, .w), span.pre"
ANSWERS = ".tag_hide-cell details.hide, details:not(.hide)"


def parsed(text):
    return BeautifulSoup(text, "html.parser")


def place(page, identifier=""):
    """The name of a page's place in the one page."""
    name = Path(page).name
    return f"{name}--{identifier}" if identifier else name


def number(target):
    """A link that shows which page a place is on, once that is known."""
    return f'<a class="number" href="#{target}">0</a>'


def moved_link(page, link):
    """Where a link of a page leads from the one page, or None."""
    target = urlsplit(link)
    if target.scheme:
        return link
    path = posixpath.join(posixpath.dirname(page), unquote(target.path))
    name, kind = posixpath.splitext(posixpath.normpath(path))
    if not target.path:
        name, kind = page, ".html"
    if kind != ".html":  # a file to download is in the repository
        file = posixpath.basename(name)
        return f"{stamp.address()}/blob/main/book/_static/{file}{kind}"
    if name not in pages():
        return None
    return f"#{place(name, unquote(target.fragment))}"


def move(page, article):
    """Let a page's links, places and pictures be those of the one page."""
    for tag in article.find_all(id=True):
        tag["id"] = place(page, tag["id"])
    for picture_link in article.select("a.picture"):
        picture_link.unwrap()
    for link in article.find_all("a", href=True):
        link["href"] = moved_link(page, link["href"])
        if link["href"] is None:
            link.unwrap()
    for image in article.find_all("img"):
        path = posixpath.join(posixpath.dirname(page), image["src"])
        image["src"] = f"../html/{posixpath.normpath(path)}"


def take_answers(page, article):
    """Take the folded answers out of a page, and leave links to them.

    Returns:
        The answers, as HTML.
    """
    taken = ""
    for count, fold in enumerate(article.select(ANSWERS), start=1):
        summary = fold.summary.extract()
        title = (summary.p or summary).get_text(strip=True)
        title = title.removeprefix("Show the ").capitalize()
        question, answer = (
            place(page, f"{kind}-{count}") for kind in ("question", "answer")
        )
        taken += (
            f'<div class="answer cell" id="{answer}"><p class="title">{title}, '
            f'<a href="#{question}">asked</a> on page {number(question)}</p>'
            f"{fold.decode_contents()}</div>\n"
        )
        left = (
            f'<p class="fold" id="{question}"><a href="#{answer}">{title}</a>: '
            f"page {number(answer)}</p>"
        )
        fold.replace_with(parsed(left))
    return taken


def one_page_of(page):
    """A page of the book, for paper.

    Args:
        page: which one, such as "book/level".

    Returns:
        Its title, its text and its answers; the last two are HTML.
    """
    soup = parsed((SITE / f"{page}.html").read_text("utf-8"))
    article = soup.select_one("article")
    for tag in article.select(SCREEN_ONLY):
        tag.decompose()
    for tag in article.select(PLAIN):
        tag.unwrap()
    move(page, article)
    answers = take_answers(page, article)
    return article.h1.get_text(), article.decode_contents(), answers


def contents(titles):
    """The table of contents.

    Args:
        titles: the pages' names and titles, in order.

    Returns:
        HTML, with the captions of the book's parts.
    """
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    captions = {
        place(part["chapters"][0]["file"]): part["caption"]
        for part in toc["parts"]
    }
    lines = ""
    for name, title in titles.items():
        if name in captions:
            lines += f'<p class="caption">{captions[name]}</p>\n'
        link = f'<a href="#{name}">{html.escape(title)}</a>'
        lines += f'<p class="line">{link} {number(name)}</p>\n'
    return f"<h1>Contents</h1>\n{lines}"


def cover():
    """The first page of the PDF, as HTML."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.M)[1]
    address = stamp.address()
    return f"""\
<img src="../../{config["logo"]}" alt="">
<p class="title">{config["title"]}</p>
<p>{config["author"]}</p>
<p>Version {version}</p>
<p><a href="{address}">{address}</a></p>
<p>The text and the figures are under CC BY 4.0, the code is under Apache-2.0.</p>
"""


def assembled():
    """The whole book as one page: contents, pages, answers."""
    texts, titles, answers = {}, {}, ""
    for page in pages():
        name = place(page)
        titles[name], texts[name], taken = one_page_of(page)
        if taken:
            answers += f"<h2>{html.escape(titles[name])}</h2>\n{taken}"
    titles["answers"] = "Answers"
    texts["answers"] = f"<h1>Answers</h1>\n{answers}"
    return document({"contents": contents(titles), **texts}, titles)


def document(texts, titles):
    """Put the parts together.

    Args:
        texts: the parts' names, and their HTML, in order.
        titles: the names of those whose title is at each page's foot, and it.

    Returns:
        The one page.
    """
    quoted = partial(json.dumps, ensure_ascii=False)
    feet = "".join(
        f"@page {name} {{ @bottom-left {{ content: {quoted(title)}; }} }}\n"
        for name, title in titles.items()
    )
    parts = "".join(
        f'<article class="bd-article" id="{name}" style="page: {name}">\n'
        f"{text}</article>\n"
        for name, text in texts.items()
    )
    first = parsed((SITE / f"{pages()[0]}.html").read_text("utf-8"))
    sheets = "".join(
        f'<link rel="stylesheet" href="../html/book/{link["href"]}">\n'
        for link in first.select("link[rel=stylesheet]")
    )
    return f"""\
<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<title>{first.select_one("article h1").contents[0]}</title>
{sheets}<style>
{STYLE.read_text("utf-8")}{feet}</style>
</head>
<body>
<div class="cover">{cover()}</div>
<main class="bd-main"><div class="bd-content">
<div class="bd-article-container">
{parts}</div></div></main>
</body>
</html>
"""


def print_page(page, text, **options):
    """Print the one page in a tab of the browser."""
    PAPER.write_text(text, "utf-8")
    page.goto(PAPER.as_uri())
    page.pdf(path=PDF, prefer_css_page_size=True, **options)


def page_numbers():
    """Which page each place is on that a link leads to."""
    reader = PdfReader(PDF)
    return {
        name.removeprefix("/"): reader.get_destination_page_number(target) + 1
        for name, target in reader.named_destinations.items()
    }


def number_links(text, numbers):
    """Write its page's number into each link that shows it."""
    return re.sub(
        r'(<a class="number" href="#([^"]*)">)\d+',
        lambda found: f"{found[1]}{numbers[found[2]]}",
        text,
    )


def main():
    PAPER.parent.mkdir(exist_ok=True)
    text = assembled()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=presence.find_chromium()
        )
        page = browser.new_page(java_script_enabled=False)
        print_page(page, text)
        text = number_links(text, page_numbers())
        print_page(page, text, tagged=True, outline=True)
        browser.close()
    print(f"The PDF is at {PDF.as_uri()}")


if __name__ == "__main__":
    main()
