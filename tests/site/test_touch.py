"""The figures to touch answer to mouse, touch, keyboard and menus.

A figure is tested as soon as it is on a page: what it says in its line for
screen readers has to change with each of them.
"""

import re
from statistics import median

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import expect

from tools.build_book import SITE, pages

FIGURE = "figure:has(> .live)"


def figures():
    """Each figure to touch, as its page and its place among those there."""
    for name in pages():
        html = (SITE / f"{name}.html").read_text("utf-8")
        soup = BeautifulSoup(html, "html.parser")
        for place, figure in enumerate(soup.select(FIGURE)):
            yield pytest.param(name, place, id=f"{name}-{figure['class'][-1]}")


FIGURES = list(figures())
every_figure = pytest.mark.parametrize(("name", "place"), FIGURES)

# How long the handlers run, in ms, for a pointer over each drawing, each choice
# of a menu, and a larger number in each field.
ANSWER_TIMES = """(figure) => {
    const times = [];
    const dispatch = (target, event) => {
        const start = performance.now();
        target.dispatchEvent(event);
        times.push(performance.now() - start);
    };
    for (const drawing of figure.querySelectorAll("svg[tabindex]")) {
        const { left, top, width, height } = drawing.getBoundingClientRect();
        for (let i = 0; i < 100; i++) {
            const clientX = left + ((i % 10) + 0.5) * width / 10;
            const clientY = top + (Math.floor(i / 10) + 0.5) * height / 10;
            const options = { clientX, clientY, bubbles: true };
            dispatch(drawing, new PointerEvent("pointermove", options));
        }
    }
    for (const menu of figure.querySelectorAll("select"))
        for (let i = 0; i < menu.options.length; i++) {
            menu.selectedIndex = i;
            dispatch(menu, new Event("change", { bubbles: true }));
        }
    for (const field of figure.querySelectorAll("input[type=number]")) {
        field.stepUp();
        dispatch(field, new Event("input", { bubbles: true }));
    }
    // As it was, for the next try.
    for (const menu of figure.querySelectorAll("select")) {
        menu.selectedIndex = 0;
        menu.dispatchEvent(new Event("change", { bubbles: true }));
    }
    return times;
}"""


def find(page, place):
    figure = page.locator(FIGURE).nth(place)
    figure.scroll_into_view_if_needed()
    return figure


def said_after(figure, act, *arguments, **options):
    """What a figure says after an act that has to change it."""
    line = figure.locator("[aria-live]")
    before = line.inner_text()
    act(*arguments, **options)
    expect(line).not_to_have_text(before, timeout=2000)
    return line.inner_text()


def points(drawing):
    """Two points of a drawing, in the window."""
    box = drawing.bounding_box()
    return [
        (box["x"] + part * box["width"], box["y"] + part * box["height"])
        for part in (0.15, 0.85)
    ]


def point_at_drawings(figure, point):
    """Point at two places of each drawing; the figure has to answer."""
    for drawing in figure.locator("svg[tabindex]").all():
        drawing.scroll_into_view_if_needed()
        first, second = points(drawing)
        point(*first)
        said_after(figure, point, *second)
        said_after(figure, point, *first)


def test_there_are_figures_to_touch():
    assert FIGURES


@every_figure
def test_a_figure_answers_to_the_mouse(open_page, name, place):
    page = open_page(name)
    figure = find(page, place)
    point_at_drawings(figure, page.mouse.move)
    assert not page.errors


@every_figure
def test_a_figure_answers_to_touch(open_page, name, place):
    phone = {"width": 390, "height": 844}
    page = open_page(name, has_touch=True, is_mobile=True, viewport=phone)
    figure = find(page, place)
    point_at_drawings(figure, page.touchscreen.tap)
    assert not page.errors


@every_figure
def test_a_figure_answers_to_the_keyboard(open_page, name, place):
    page = open_page(name)
    figure = find(page, place)
    controls = "svg[tabindex], select, input"
    reached = []
    for _ in range(1000):
        page.keyboard.press("Tab")
        focused = figure.locator(controls).and_(page.locator(":focus"))
        if focused.count():
            reached.append(focused.evaluate("(control) => control.tagName"))
            if reached[-1] == "svg":
                # From a corner one of the two leads nowhere.
                there_and_back = ["ArrowRight", "ArrowLeft"]
                said = {figure.locator("[aria-live]").inner_text()}
                for key in there_and_back:
                    page.keyboard.press(key)
                    said.add(figure.locator("[aria-live]").inner_text())
                assert len(said) > 1, "no arrow key changes what it says"
        elif reached:
            break
    assert len(reached) == figure.locator(controls).count() > 0
    assert not page.errors


@every_figure
def test_a_figure_answers_to_its_menus_and_fields(open_page, name, place):
    page = open_page(name)
    figure = find(page, place)
    for menu in figure.locator("select").all():
        # The last choice stays, so that the next menu has something to choose.
        for index in range(menu.locator("option").count()):
            if index != menu.evaluate("(menu) => menu.selectedIndex"):
                said_after(figure, menu.select_option, index=index)
    for field in figure.locator("input[type=number]").all():
        step = field.get_attribute("step") or "1"
        more = int(field.input_value()) + int(step)
        said_after(figure, field.fill, str(more))
    assert not page.errors


@every_figure
def test_how_long_a_figure_takes(open_page, name, place, record_property):
    page = open_page(name)
    figure = find(page, place)
    tries = [figure.evaluate(ANSWER_TIMES) for _ in range(5)]
    # The quickest of five: what else the machine does is not the figure's time.
    times = [min(times) for times in zip(*tries, strict=False)]
    assert times
    kind = figure.get_attribute("class").removesuffix(" ready").split()[-1]
    record_property(
        f"{name}, {kind}",
        f"{len(times)} answers of {median(times):.1f} ms of script, "
        f"the longest {max(times):.1f} ms",
    )


@every_figure
def test_without_scripts_there_is_a_still_and_a_sentence(
    open_page, name, place
):
    page = open_page(name, java_script_enabled=False)
    figure = page.locator(FIGURE).nth(place)
    expect(figure.locator("> .live")).to_be_hidden()
    expect(figure.locator("noscript")).to_be_visible()
    expect(figure.locator("noscript")).not_to_be_empty()
    still = figure.locator("xpath=preceding::img[1]")
    expect(still).to_be_visible()
    expect(still).to_have_attribute("alt", re.compile(r"\w+ \w+"))
