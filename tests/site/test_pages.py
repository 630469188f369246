"""Each page stands alone, is light, and can be read by everybody."""

from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe

from tools.build_book import ROOT, SITE, pages

SCREENSHOTS = ROOT / "_build" / "screenshots"
WIDTHS = {"desktop": 1280, "phone": 390}
# The first page only leads to the book's first page.
PAGES = sorted(
    path.relative_to(SITE).with_suffix("").as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path != SITE / "index.html"
)
PICTURES = (".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp")

# Open what is folded, and do not wait until it has faded in.
UNFOLD = """() => {
    document.querySelectorAll("details").forEach((fold) => (fold.open = true));
    document.getAnimations().forEach((animation) => animation.finish());
}"""

# What is wider than its box: the whole page, or code in it.
WIDER = """(selector) => [...document.querySelectorAll(selector)]
    .filter((box) => box.scrollWidth > box.clientWidth + 1)
    .map((box) => box.outerHTML.slice(0, 200))"""

# Pictures of the text need words; the theme's own may be decoration.
UNFINISHED_PICTURES = """() => [...document.images]
    .filter((image) => {
        const isSized = image.hasAttribute("width") && image.hasAttribute("height");
        const needsWords = image.closest("article");
        const isSaid = needsWords ? image.alt.includes(" ") : image.hasAttribute("alt");
        return !isSized || !isSaid;
    })
    .map((image) => image.outerHTML.slice(0, 200))"""

BLOCKING_SCRIPTS = """() => performance.getEntriesByType("resource")
    .filter((entry) => entry.name.split("?")[0].endsWith(".js"))
    .filter((entry) => entry.renderBlockingStatus === "blocking")
    .map((entry) => entry.name)"""

# Code is thousands of coloured words. One of each look is enough for axe-core,
# which takes a second instead of twenty for it.
ONE_OF_EACH_LOOK = """() => {
    const seen = new Set();
    const words = [...document.querySelectorAll("pre span:not(:has(*))")];
    const again = words.filter((word) => {
        const { color, fontWeight } = getComputedStyle(word);
        const box = getComputedStyle(word.closest("pre"));
        const look = [color, fontWeight, box.backgroundColor].join();
        return seen.size === seen.add(look).size;
    });
    again.forEach((word) => word.replaceWith(word.textContent));
}"""

# Without asking for style sheets again, and without a list of what is right.
AXE_OPTIONS = {"preload": False, "resultTypes": ["violations"]}

SIZES = """() => performance.getEntries()
    .filter((entry) => "decodedBodySize" in entry)
    .map((entry) => [entry.name, entry.decodedBodySize])"""


def test_every_page_of_the_contents_is_here():
    assert {*pages(), "genindex", "search"} <= set(PAGES), "run: make book"


def test_the_first_page_leads_into_the_book(open_page, address):
    page = open_page("index")
    page.wait_for_url(f"{address}/{pages()[0]}.html")


@pytest.mark.parametrize("device", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page(open_page, address, name, theme, device):
    size = {"width": WIDTHS[device], "height": 900}
    page = open_page(name, color_scheme=theme, viewport=size)
    assert page.get_attribute("html", "data-theme") == theme
    picture = SCREENSHOTS / f"{name}-{theme}-{device}.jpg"
    page.screenshot(path=picture, full_page=True, quality=60)
    # What is folded away has to be right as well.
    page.evaluate(UNFOLD)
    faults = {
        "requests to elsewhere": [
            url for url in page.requests if not url.startswith(address)
        ],
        "errors": page.errors,
        "wider than the page": page.evaluate(WIDER, "html"),
        "pictures without size or words": page.evaluate(UNFINISHED_PICTURES),
        "scripts before the first paint": page.evaluate(BLOCKING_SCRIPTS),
        "code that scrolls": device == "desktop"
        and page.evaluate(WIDER, "main pre"),
    }
    page.evaluate(ONE_OF_EACH_LOOK)
    results = Axe().run(page, options=AXE_OPTIONS)
    faults["axe-core"] = results.violations_count and results.generate_report()
    wrong = {kind: found for kind, found in faults.items() if found}
    assert not wrong, wrong


@pytest.mark.parametrize("name", pages())
def test_weight(open_page, name, record_property):
    page = open_page(name)
    page.wait_for_load_state("networkidle")
    # In bytes as the browser reads them, not as they were packed to travel.
    weight = sum(
        size
        for url, size in page.evaluate(SIZES)
        if not urlsplit(url).path.endswith(PICTURES)
    )
    record_property(name, f"{weight / 1000:.0f} KB without pictures")
    assert 0 < weight <= 700_000


def test_search_finds_a_chapter(open_page):
    page = open_page("book/intro")
    page.get_by_role("button", name="Search").click()
    page.keyboard.type("relative position")
    page.keyboard.press("Enter")
    results = page.locator("#search-results")
    results.get_by_role("link", name="Window attention").first.wait_for()
    assert not page.errors


def test_the_theme_s_buttons_work(open_page):
    page = open_page("book/level", color_scheme="light")
    page.get_by_role("button", name="Launch interactive content").click()
    page.get_by_role("link", name="Colab").wait_for()
    page.get_by_role("button", name="Color mode").click()
    assert page.get_attribute("html", "data-theme") == "dark"
    page.get_by_role("button", name="Copy").first.wait_for(state="attached")
    assert not page.errors
