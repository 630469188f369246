"""Each page stands alone, is light, and can be read by everybody."""

from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tools.build_book import ROOT, SITE, pages

SCREENSHOTS = ROOT / "_build" / "screenshots"
WIDTHS = {"desktop": 1280, "phone": 390}
# The colours of the text are the same on both devices, so each page is read in
# each theme once. What a device alone shows is on each page: one is enough, the
# first, in both themes.
THEMES = {"desktop": ("light", "dark"), "phone": ("dark", "light")}
SCREENSHOT_HEIGHT = 8000
# The first page only leads to the book's first page.
PAGES = sorted(
    path.relative_to(SITE).with_suffix("").as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path != SITE / "index.html"
)
PICTURES = (".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp")

UNFOLD = """() => document.querySelectorAll("details")
    .forEach((fold) => (fold.open = true))"""

# Nothing is judged while it fades in.
FINISH = """() => document.getAnimations()
    .forEach((animation) => animation.finish())"""

# What is wider than its box: the whole page, or code in it.
WIDER = """(selector) => [...document.querySelectorAll(selector)]
    .filter((box) => box.scrollWidth > box.clientWidth + 1)
    .map((box) => box.outerHTML.slice(0, 200))"""

# Pictures of the text need words, not the name of a file; the theme's own may be
# decoration.
UNFINISHED_PICTURES = r"""() => [...document.images]
    .filter((image) => {
        const isSized = image.hasAttribute("width") && image.hasAttribute("height");
        const isSaid = image.closest("article")
            ? image.alt && !/\.(svg|png|jpe?g)$/.test(image.alt)
            : image.hasAttribute("alt");
        return !isSized || !isSaid;
    })
    .map((image) => image.outerHTML.slice(0, 200))"""

# Drawings with letters of 10 points, and photographs with such labels.
SMALL_PICTURES = """() => [...document.querySelectorAll("article figure img")]
    .filter((image) => image.clientWidth < 0.74 * image.getAttribute("width"))
    .map((image) => image.outerHTML.slice(0, 200))"""

BLOCKING_SCRIPTS = """() => performance.getEntriesByType("resource")
    .filter((entry) => entry.name.split("?")[0].endsWith(".js"))
    .filter((entry) => entry.renderBlockingStatus === "blocking")
    .map((entry) => entry.name)"""

# Code is thousands of coloured words. One of each look is enough for axe-core,
# which takes a second instead of twenty for it.
ONE_OF_EACH_LOOK = """() => {
    const seen = new Set();
    const words = [...document.querySelectorAll(":is(pre, dt) span:not(:has(*))")];
    const again = words.filter((word) => {
        const { backgroundColor } = getComputedStyle(word.closest("pre, dt"));
        const look = [word.className, word.style.cssText, backgroundColor].join();
        return seen.size === seen.add(look).size;
    });
    again.forEach((word) => word.replaceWith(word.textContent));
}"""

# Without asking for style sheets again, and without a list of what is right.
AXE_OPTIONS = {"preload": False, "resultTypes": ["violations"]}

# What the browser read, in bytes, not as they were packed to travel.
SIZES = """() => document.fonts.ready.then(() => performance.getEntries()
    .filter((entry) => "decodedBodySize" in entry)
    .map((entry) => [entry.name, entry.decodedBodySize]))"""


def show(page, theme):
    """Switch the reader's screen to a theme; the page follows."""
    page.emulate_media(color_scheme=theme)
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    page.evaluate(FINISH)


def keep_screenshots(page, name, width):
    """Keep a whole page as pictures, from the top; Chromium cuts taller ones."""
    height = page.evaluate("document.documentElement.scrollHeight")
    for number, top in enumerate(range(0, height, SCREENSHOT_HEIGHT)):
        part = {"x": 0, "y": top, "width": width}
        part["height"] = min(SCREENSHOT_HEIGHT, height - top)
        path = SCREENSHOTS / f"{name}-{number}.jpg"
        page.screenshot(path=path, clip=part, full_page=True, quality=60)


def weight(page):
    """The bytes of a page and of all that it loads, except pictures."""
    return sum(
        size
        for url, size in page.evaluate(SIZES)
        if not urlsplit(url).path.endswith(PICTURES)
    )


def test_every_page_of_the_contents_is_here():
    assert {*pages(), "genindex", "search"} <= set(PAGES), "run: make book"


def test_the_first_page_leads_into_the_book(open_page, address):
    page = open_page("index")
    page.wait_for_url(f"{address}/{pages()[0]}.html")


@pytest.mark.parametrize("device", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_page(open_page, address, record_property, name, device):
    size = {"width": WIDTHS[device], "height": 900}
    page = open_page(name, viewport=size, color_scheme="light")
    kilobytes = weight(page) / 1000
    if device == "desktop":
        record_property(name, f"{kilobytes:.0f} KB and pictures")
    themes = THEMES[device][: 2 if name == pages()[0] else 1]
    for theme in themes:
        show(page, theme)
        keep_screenshots(page, f"{name}-{theme}-{device}", WIDTHS[device])
    # What is folded away has to be right as well.
    page.evaluate(UNFOLD)
    faults = {
        "weight": kilobytes > 700 and kilobytes,
        "wider than the page": page.evaluate(WIDER, "html"),
        "code that scrolls": device == "desktop"
        and page.evaluate(WIDER, "main pre"),
        "pictures without size or words": page.evaluate(UNFINISHED_PICTURES),
        "pictures too small to read": page.evaluate(SMALL_PICTURES),
        "scripts before the first paint": page.evaluate(BLOCKING_SCRIPTS),
    }
    page.evaluate(ONE_OF_EACH_LOOK)
    for theme in themes:
        show(page, theme)
        results = Axe().run(page, options=AXE_OPTIONS)
        if results.violations_count:
            faults[f"axe-core, {theme}"] = results.generate_report()
    faults["requests to elsewhere"] = [
        url for url in page.requests if not url.startswith(address)
    ]
    faults["errors"] = page.errors
    wrong = {kind: found for kind, found in faults.items() if found}
    assert not wrong, wrong


def test_a_wide_figure_scrolls_and_opens(open_page):
    phone = {"width": 390, "height": 844}
    page = open_page("book/architecture", viewport=phone)
    figure = page.locator("#figure-architecture a.picture")
    figure.focus()
    page.keyboard.press("ArrowRight")
    # Not `wait_for_function`: the page's policy forbids what it does when it waits.
    expect(page.locator(":focus")).not_to_have_js_property("scrollLeft", 0)
    assert not page.errors  # a picture's own page asks for /favicon.ico
    figure.click()
    page.wait_for_url("**/architecture*.svg")


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
