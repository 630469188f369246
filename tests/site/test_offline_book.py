"""The archive opens from a file system: each page, figure, formula and search.

That its links lead somewhere follows: it has the files of the site, whose links
`test_links.py` follows.
"""

import re
from zipfile import ZipFile

import pytest

from tools import offline_book
from tools.build_book import SITE

PAGES = sorted(
    path.relative_to(SITE).with_suffix("").as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path != SITE / "index.html"
)
# What a page shows and did not get.
MISSING = """async () => {
    await document.fonts.ready;
    const pictures = [...document.images].filter((image) => !image.naturalWidth);
    const fonts = [...document.fonts].filter((font) => font.status === "error");
    return [...pictures, ...fonts].map(String);
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the archive is unpacked."""
    assert offline_book.ARCHIVE.exists(), "run: make book-offline"
    folder = tmp_path_factory.mktemp("offline")
    with ZipFile(offline_book.ARCHIVE) as archive:
        archive.extractall(folder)
    return folder / offline_book.FOLDER


@pytest.fixture
def open_file(browser, folder):
    """Opens a page of the archive, such as "book/level", as a file."""
    context = browser.new_context()
    page = context.new_page()
    page.requests, page.errors = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("requestfailed", lambda request: page.errors.append(request.url))

    def hear(message):
        if message.type == "error":
            page.errors.append(message.text)

    page.on("console", hear)

    def open(name):
        page.goto((folder / f"{name}.html").as_uri())
        return page

    yield open
    context.close()


def elsewhere(page, folder):
    """What a page asked for that is not in the archive's folder."""
    own = (folder.as_uri(), "data:")
    return [url for url in page.requests if not url.startswith(own)]


def test_the_archive_has_the_files_of_the_site(folder, tmp_path):
    again = tmp_path / "again.zip"
    offline_book.pack(again)
    assert again.read_bytes() == offline_book.ARCHIVE.read_bytes(), (
        "the book was built again; run: make book-offline"
    )
    files = {
        path.relative_to(SITE).as_posix(): path
        for path in SITE.rglob("*")
        if path.is_file()
    }
    packed = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file()
    }
    left_out = files.keys() - packed.keys()
    assert all(name.startswith(offline_book.FETCHED) for name in left_out)
    changed = [
        name
        for name, path in packed.items()
        if path.read_bytes() != files[name].read_bytes()
    ]
    assert changed == [offline_book.OPTIONS]


def test_no_page_links_to_what_is_left_out():
    for path in SITE.rglob("*.html"):
        text = path.read_text("utf-8")
        for name in offline_book.FETCHED:
            assert not re.search(rf'(href|src)="[^"]*{name}', text)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_as_a_file(open_file, folder, name):
    page = open_file(name)
    assert page.evaluate(MISSING) == []
    assert page.errors == []
    assert elsewhere(page, folder) == []


def test_the_first_file_leads_into_the_book(open_file):
    page = open_file("index")
    page.wait_for_url("**/book/intro.html")


def test_formulas_figures_and_links_work(open_file, folder):
    page = open_file("book/block")
    loaded = "[...document.fonts].some((font) => font.status === 'loaded')"
    assert page.evaluate(f"document.fonts.ready.then(() => {loaded})")
    page.locator("figure.touch.ready").first.wait_for()
    page.locator("a.left-prev").click()
    page.wait_for_url("**/book/window_attention.html")
    assert not page.errors and not elsewhere(page, folder)


def test_search_works_without_a_server(open_file, folder):
    page = open_file("book/intro")
    page.get_by_role("button", name="Search").click()
    page.keyboard.type("relative position")
    page.keyboard.press("Enter")
    results = page.locator("#search-results")
    results.get_by_role("link", name="Window attention").first.click()
    page.wait_for_url("**/book/window_attention.html*")
    assert not page.errors and not elsewhere(page, folder)
