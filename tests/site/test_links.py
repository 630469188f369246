"""Every link of the book leads somewhere: to a page, to a place in it, or to a
file of the repository."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from tools import stamp
from tools.build_book import ROOT, SITE

PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts
)
CHAPTERS = [path.relative_to(ROOT) for path in ROOT.glob("book/*.ipynb")]


@cache
def parsed(path):
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


@cache
def places(path):
    """The names of the places in a page that a link can lead to."""
    return {tag["id"] for tag in parsed(path).find_all(id=True)} | {""}


def links(path):
    """What a page links to and loads."""
    tags = parsed(path).find_all(True)
    found = [tag.get(key) for tag in tags for key in ("href", "src")]
    return [link for link in found if link is not None]


@pytest.fixture(scope="session")
def files(tracked):
    """The files of the repository, and their folders."""
    return {*tracked, *(folder for path in tracked for folder in path.parents)}


def in_repository(link):
    """The path in this repository that a link leads to, or None."""
    slug = stamp.slug()
    forms = [
        rf"https://github\.com/{slug}/(?:blob|tree|edit)/main/(.+)",
        rf"https://colab\.research\.google\.com/github/{slug}/blob/main/(.+)",
        rf"https://mybinder\.org/v2/gh/{slug}/main\?urlpath=lab/tree/(.+)",
    ]
    found = [re.fullmatch(form, link.split("#")[0]) for form in forms]
    return next((Path(unquote(match[1])) for match in found if match), None)


def is_dead(page, link, files):
    """Whether a link leads to nothing in the book or in the repository."""
    target = urlsplit(link)
    if target.scheme or target.netloc:
        path = in_repository(link)
        return path is not None and path not in files
    path = page.parent / unquote(target.path) if target.path else page
    if not path.is_file():
        return True
    return path.suffix == ".html" and unquote(target.fragment) not in places(
        path.resolve()
    )


@pytest.mark.parametrize("name", PAGES)
def test_no_link_is_dead(name, files):
    page = SITE / name
    assert [x for x in links(page) if is_dead(page, x, files)] == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_can_be_launched(chapter, files):
    page = SITE / chapter.with_suffix(".html")
    buttons = parsed(page).select(".dropdown-launch-buttons a")
    names = [button.get_text(strip=True) for button in buttons]
    assert names == ["Binder", "Colab"]
    for button in buttons:
        assert in_repository(button["href"]) == chapter, (
            f"{button['href']}; run: make stamp"
        )
    assert chapter in files


def test_the_links_of_the_readme_are_files(files):
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\((.+?)\)", text)
    relative = {Path(link) for link in links if not urlsplit(link).scheme}
    inside = {in_repository(link) for link in links} - {None}
    assert relative and inside and relative | inside <= files
