"""The PDF has the whole book: contents, links, letters, figures and answers."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader
from test_links import in_repository

from tools import print_book
from tools.build_book import SITE, pages

MEGABYTES = 15
# Fonts, and with them where a page ends, are those of the machine.
PAGE_COUNTS = range(200, 400)
# What reaches out of the paper, and formulas under their numbers.
CUT = """() => [...document.querySelectorAll("main :is(pre, table, img, .base)")]
    .filter((box) => {
        const number = box.closest("div.math")?.querySelector(".eqno");
        const paper = box.closest("article").getBoundingClientRect();
        const room = number ? number.getBoundingClientRect() : paper;
        const edge = number ? room.left : room.right;
        return box.getBoundingClientRect().right > edge + 1;
    })
    .map((box) => [box.closest("article").id, box.outerHTML.slice(0, 200)])"""


@pytest.fixture(scope="module")
def reader(browser):
    assert print_book.PDF.exists(), "run: make pdf"
    newest = max(path.stat().st_mtime for path in SITE.rglob("*.html"))
    assert print_book.PDF.stat().st_mtime >= newest, "run: make pdf"
    return PdfReader(print_book.PDF)


@pytest.fixture(scope="module")
def paper(reader):
    """The one page that was printed."""
    text = print_book.PAPER.read_text("utf-8")
    return BeautifulSoup(text, "html.parser")


def resources(reader, kind):
    """Resources of a kind on the pages and in the drawings on them."""
    found, seen = [], set()
    left = [page["/Resources"] for page in reader.pages]
    while left:
        resource = left.pop()
        for each in resource.get(kind, {}).values():
            found.append(each.get_object())
        for each in resource.get("/XObject", {}).values():
            drawing = each.get_object()
            if each.idnum not in seen and "/Resources" in drawing:
                left.append(drawing["/Resources"])
            seen.add(each.idnum)
    return {item.indirect_reference.idnum: item for item in found}.values()


def outline(reader):
    """The outermost titles of the outline, and the pages they lead to."""
    return {
        entry.title: reader.get_destination_page_number(entry) + 1
        for entry in reader.outline
        if not isinstance(entry, list)
    }


def numbered(paper, links="a.number"):
    """What each link that shows a page's number leads to, and the number."""
    return {
        link["href"].removeprefix("#"): int(link.text)
        for link in paper.select(links)
    }


def annotations(reader):
    for page in reader.pages:
        for annotation in page.get("/Annots", []):
            yield annotation.get_object()


def test_it_is_small_and_has_pages(reader, record_property):
    megabytes = print_book.PDF.stat().st_size / 1e6
    record_property("PDF", f"{megabytes:.1f} MB, {len(reader.pages)} pages")
    assert megabytes < MEGABYTES
    assert len(reader.pages) in PAGE_COUNTS


def test_the_outline_and_the_contents_name_every_chapter(reader, paper):
    names = [Path(page).name for page in pages()]
    titles = {
        name: paper.select_one(f"article#{name} h1").get_text()
        for name in [*names, "answers"]
    }
    on_page = numbered(paper, "#contents a.number")
    assert list(on_page) == list(titles)
    expected = {titles[name]: number for name, number in on_page.items()}
    found = outline(reader)
    assert found.pop("Contents") == 2
    assert found == expected
    assert list(found) == list(expected)


def test_each_number_of_a_page_is_right(reader, paper):
    shown = numbered(paper)
    assert shown
    assert shown.items() <= print_book.page_numbers().items()


def test_each_page_but_the_first_has_its_number(reader):
    for number in (2, 3, len(reader.pages) // 2, len(reader.pages)):
        text = reader.pages[number - 1].extract_text()
        assert text.startswith(str(number))


def test_links_are_alive(reader, paper, tracked):
    links = list(annotations(reader))
    places = set(reader.named_destinations)
    inside = {str(link["/Dest"]) for link in links if "/Dest" in link}
    assert inside and inside <= places
    addresses = {link["/A"]["/URI"] for link in links if "/A" in link}
    meant = {link["href"] for link in paper.select("main a[href]")}
    assert {x for x in meant if x.startswith("#")} == {
        f"#{name.removeprefix('/')}" for name in inside
    }
    assert {x.rstrip("/") for x in meant if not x.startswith("#")} <= {
        x.rstrip("/") for x in addresses
    }
    files = {in_repository(address) for address in addresses} - {None}
    assert files and files <= {*tracked, *(x.parent for x in tracked)}
    assert all(re.match("https?://", address) for address in addresses)


def test_every_font_is_embedded_and_every_letter_has_a_shape(reader, paper):
    fonts = resources(reader, "/Font")
    for font in fonts:
        assert font["/Subtype"] in ("/Type0", "/Type3")
        if font["/Subtype"] == "/Type0":
            [inner] = font["/DescendantFonts"]
            described = inner.get_object()["/FontDescriptor"]
            assert {"/FontFile2", "/FontFile3"} & set(described)
        assert b"FFFD" not in font["/ToUnicode"].get_object().get_data()
    assert "\ufffd" not in paper.get_text()
    # Where no font has a letter, the first shape of one is drawn instead.
    for number, page in enumerate(reader.pages, start=1):
        shown = re.findall(
            rb"<([0-9A-F]+)> Tj", page.get_contents().get_data()
        )
        for codes in shown:
            shapes = re.findall(b"....", codes)
            assert b"0000" not in shapes, f"page {number}"
        assert shown, f"nothing is written on page {number}"


def test_drawings_are_drawn_and_not_photographed(reader, paper):
    files = {image["src"] for image in paper.select("img")}
    photographs = [name for name in files if not name.endswith(".svg")]
    inside = [
        place
        for name in files - set(photographs)
        for place in re.findall(
            "<image", (print_book.PAPER.parent / name).read_text("utf-8")
        )
    ]
    found = [
        drawing
        for drawing in resources(reader, "/XObject")
        if drawing["/Subtype"] == "/Image"
    ]
    assert 0 < len(found) <= len(photographs) + len(inside)


def test_all_that_is_folded_on_the_pages_is_among_the_answers(paper):
    folded = 0
    for page in pages():
        html = (SITE / f"{page}.html").read_text("utf-8")
        folded += len(re.findall("<details><summary>|tag_hide-cell", html))
    assert folded and len(paper.select("#answers .answer")) == folded
    assert not paper.select("details, figure.touch")
    for answer in paper.select("#answers .answer"):
        assert len(answer.get_text(strip=True)) > 30
        question = answer.select_one("a")["href"].removeprefix("#")
        [back] = paper.find(id=question).select("a:not(.number)")
        assert back["href"] == f"#{answer['id']}"


def test_nothing_is_cut(browser, reader):
    width = round((210 - 2 * 18) / 25.4 * 96)
    page = browser.new_page(viewport={"width": width, "height": 1000})
    page.emulate_media(media="print")
    page.goto(print_book.PAPER.as_uri())
    cut = page.evaluate(CUT)
    page.close()
    assert cut == []
