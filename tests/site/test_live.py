"""The model in the page `live` answers as Keras does, and bad input loses nothing.

The site must have been built with the model and its runtime. A build that had no
network says so and goes on, and then all of this fails: nothing is skipped.
"""

import io
import json
import os
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect
from skimage import data as photographs

from tools.build_book import SITE

PAGE = "book/live"
FILES = SITE / "_static" / "live"
# The largest |Δ| of a logit, over those of Keras.
TOLERANCE = 1e-4
SIZE = {"width": 1280, "height": 1400}
SECONDS = 60_000  # a machine that does other work as well


@pytest.fixture(scope="module", autouse=True)
def is_complete():
    written = json.loads((FILES / "files.json").read_text("utf-8"))
    assert written["files"], (
        "the site was built without the model: npm could not install ONNX "
        "Runtime Web. With a network, run: make book"
    )


# === Pictures, and what Keras says of them ===


def in_memory(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned_exif():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    return exif


def make_pictures():
    """Twelve pictures, by the names of their files, as bytes."""
    cat = Image.fromarray(photographs.chelsea())
    coffee = Image.fromarray(photographs.coffee())
    holes = cat.convert("RGBA")
    holes.putalpha(cat.convert("L").point(lambda x: 255 * (x > 128)))
    veiled = cat.convert("RGBA")
    veiled.putalpha(cat.convert("L"))
    spots = coffee.quantize(16)
    frames = [coffee.quantize(64), cat.resize(coffee.size).quantize(64)]
    later = {"save_all": True, "append_images": frames[1:], "duration": 99}
    return {
        "photo.png": in_memory(cat, "PNG"),
        "turned.png": in_memory(cat, "PNG", exif=turned_exif()),
        "huge.png": in_memory(coffee.resize((3600, 2400)), "PNG"),
        "dot.png": in_memory(cat.crop((9, 9, 10, 10)), "PNG"),
        "line.png": in_memory(cat.crop((0, 9, 200, 10)), "PNG"),
        "column.png": in_memory(cat.crop((9, 0, 10, 200)), "PNG"),
        "grey.png": in_memory(cat.convert("L"), "PNG"),
        "holes.png": in_memory(holes, "PNG"),
        "palette.png": in_memory(spots, "PNG", transparency=3),
        "animated.gif": in_memory(frames[0], "GIF", **later),
        "veiled.png": in_memory(veiled, "PNG"),
        "turned.jpg": in_memory(cat, "JPEG", exif=turned_exif()),
    }


PICTURES = make_pictures()
OWN = ("chelsea", "rocket")  # what the figure begins with


def stored(name):
    """A picture of the site, as bytes."""
    return (FILES / f"{name}.png").read_bytes()


@pytest.fixture(scope="module")
def keras_says():
    """Asks Keras: two pictures, a mistake, and whose queries ask."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from keras import ops

    from gcvit import check, from_pretrained, pictures, preprocess
    from tools import live

    nano = from_pretrained("nano", head_activation=None)
    chapter = live.chapter()

    def answer(files, mistake=None, query_of=(0, 1)):
        images = preprocess(files, 64)
        if mistake == "bilinear":
            arrays = [chapter["bilinear"](pictures.decode(x)) for x in files]
            images = chapter["normalised"](ops.stack(arrays))
        if mistake == "unnormalised":
            mean = np.array((0.485, 0.456, 0.406), "float32")
            images = images * np.float32((0.229, 0.224, 0.225)) + mean
        if mistake in chapter["MISTAKES"]:
            with check.mistaken(nano, mistake):
                return ops.convert_to_numpy(nano(images))
        generators = [level.q_global_gen for level in nano.levels]
        for generator in generators:
            chapter["choose_query"](generator, query_of)
        logits = ops.convert_to_numpy(nano(images))
        for generator in generators:
            del vars(generator)["call"]
        return logits

    return answer


# === The page ===


def figure_of(page):
    return page.locator("figure.live_page")


def ready(page):
    """Wait until the figure knows what there is to fetch."""
    figure = figure_of(page)
    figure.scroll_into_view_if_needed()
    expect(figure.locator(".fetch")).to_be_enabled(timeout=SECONDS)
    return figure


def start(page):
    """Press the button, and wait for the first answer."""
    figure = ready(page)
    figure.locator(".fetch").click()
    expect(figure).to_have_attribute(
        "data-first", re.compile("."), timeout=SECONDS
    )
    return figure


@pytest.fixture(scope="module")
def started(browser, address):
    """A page whose figure runs, for all tests that need nothing else."""
    page = browser.new_page(has_touch=True, viewport=SIZE)
    page.errors, page.requests = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(f"{address}/{PAGE}.html")
    start(page)
    yield page
    page.close()


def after(figure, act, *arguments, **options):
    """Act, and wait for the answer."""
    before = int(figure.get_attribute("data-answers"))
    act(*arguments, **options)
    expect(figure).to_have_attribute(
        "data-answers", str(before + 1), timeout=SECONDS
    )


def logits(figure):
    """The logits that the figure shows, `(2, 10)`."""
    texts = [
        place.get_attribute("data-logits")
        for place in figure.locator(".distance").all()
    ]
    return np.array([json.loads(text) for text in texts])


def give(figure, place, name, content):
    file = {"name": name, "mimeType": "image/png", "buffer": content}
    figure.locator("input[type=file]").nth(place).set_input_files(file)


def says(figure, text):
    expect(figure.locator(".news")).to_contain_text(text, timeout=SECONDS)


def shown(figure):
    """What must stay as it was: pictures and logits."""
    hrefs = [
        image.get_attribute("href")
        for image in figure.locator("svg image").all()
    ]
    return hrefs, logits(figure).tolist()


@pytest.fixture
def running(started):
    """The figure, with its own two pictures and exact."""
    figure = figure_of(started)
    for place, name in enumerate(OWN):
        after(figure, give, figure, place, name, stored(name))
    after(figure, figure.locator(".exactly").click)
    return figure


# === As exact as Keras ===


def test_pictures_are_answered_as_keras_does(
    running, keras_says, record_property
):
    figure = running
    arrived, first = (
        float(figure.get_attribute(name))
        for name in ("data-arrived", "data-first")
    )
    names, far, times = list(PICTURES), {}, []
    for pair in zip(names[::2], names[1::2]):
        for place, name in enumerate(pair):
            after(figure, give, figure, place, name, PICTURES[name])
            times.append(float(figure.get_attribute("data-milliseconds")))
        expected = keras_says([PICTURES[name] for name in pair])
        far |= dict(zip(pair, np.abs(logits(figure) - expected).max(axis=1)))
    record_property("live, first answer", f"{(first - arrived) / 1e3:.1f} s")
    record_property(
        "live, an answer", f"{np.median(times):.0f} ms for two pictures"
    )
    for name, value in far.items():
        record_property(f"live, {name}, max |Δ|", f"{value:.1e}")
    assert len(far) == len(PICTURES) and max(far.values()) < TOLERANCE, far


def test_each_mistake_is_keras_s_mistake(running, keras_says, record_property):
    figure, files = running, list(map(stored, OWN))
    exact = logits(figure)
    boxes = figure.locator("tbody input").all()
    assert len(boxes) == 7
    for box in boxes:
        name = box.get_attribute("value")
        after(figure, box.check)
        expected = keras_says(files, name)
        far = np.abs(logits(figure) - expected).max()
        record_property(f"live, {name}, max |Δ|", f"{far:.1e}")
        assert far < TOLERANCE, name
        # It makes a difference, and the figure says which.
        moved = np.abs(expected - exact).max(axis=1)
        assert moved.max() > 5 * TOLERANCE, name
        said = figure.locator(".distance").all_inner_texts()
        for text, value in zip(said, moved):
            assert abs(float(text.split()[0]) - value) < 0.06 * value + 1e-4
        after(figure, box.uncheck)
    assert np.array_equal(logits(figure), exact)


def test_each_query_is_whose_it_says(running, keras_says):
    figure, files = running, list(map(stored, OWN))
    menus = figure.locator("select.query")
    # What is chosen, place by place: its own, the other's, nobody's.
    for chosen, query_of in {
        (1, 0): (1, 1),
        (1, 1): (1, 0),
        (2, 1): (2, 0),
        (2, 2): (2, 2),
    }.items():
        for place in (0, 1):
            menu = menus.nth(place)
            is_new = menu.evaluate("(x) => x.selectedIndex") != chosen[place]
            if is_new:
                after(figure, menu.select_option, index=chosen[place])
        expected = keras_says(files, query_of=query_of)
        assert np.abs(logits(figure) - expected).max() < TOLERANCE, query_of
    after(figure, figure.locator(".exactly").click)
    expected = keras_says(files)
    assert np.abs(logits(figure) - expected).max() < TOLERANCE


# === Bad input: a sentence, and the figure as it was ===


def broken(size):
    """A picture's first bytes, of which the rest is missing."""
    return PICTURES["photo.png"][:size]


def drop(page, place, names):
    """Drop files, or a text where there are none; `None` is no place."""
    script = """(names) => {
        const data = new DataTransfer();
        for (const name of names) data.items.add(new File(["x"], name));
        if (!names.length) data.setData("text/plain", "x");
        return data;
    }"""
    handle = page.evaluate_handle(script, names)
    target = page.locator("article h1").last
    if place is not None:
        target = figure_of(page).locator(".panel").nth(place)
    target.dispatch_event("drop", {"dataTransfer": handle})


def test_what_is_no_picture_changes_nothing(running, started):
    figure, page = running, started
    before = shown(figure)
    large = Image.new("L", (10_000, 5_000), 99)
    for name, content, text in (
        ("notes.png", b"no picture", "notes.png is no picture"),
        ("empty.png", b"", "empty.png is no picture"),
        ("cut.png", broken(60), "cut.png is no picture"),
        ("drawing.svg", b"<svg/>", "drawing.svg is no picture"),
        ("large.png", in_memory(large, "PNG"), "has 50 megapixels"),
    ):
        give(figure, 0, name, content)
        says(figure, text)
        assert shown(figure) == before, name
    drop(page, 1, ["one.png", "two.png"])
    says(figure, "2 files came at once")
    drop(page, 1, [])
    says(figure, "no file")
    drop(page, 1, ["one.png"])
    says(figure, "one.png is no picture")
    drop(page, None, ["one.png"])
    says(figure, "Drop it on one of the two pictures")
    assert shown(figure) == before
    # And it goes on.
    after(figure, give, figure, 0, "photo.png", PICTURES["photo.png"])


def test_of_two_pictures_for_one_place_the_last_one_stays(
    running, started, keras_says
):
    figure = running
    for name in ("huge.png", "photo.png"):
        give(figure, 0, name, PICTURES[name])
    says(figure, "photo.png")
    expected = keras_says([PICTURES["photo.png"], stored("rocket")])
    started.wait_for_timeout(500)  # the other one is slower
    assert np.abs(logits(figure) - expected).max() < TOLERANCE


def test_a_picture_waits_for_the_model(open_page, keras_says):
    page = open_page(PAGE)
    figure = ready(page)
    waiting, late = [], []
    page.route("**/nano.onnx", lambda route: waiting.append(route))
    page.route("**/chelsea.png", lambda route: late.append(route))
    figure.locator(".fetch").click()
    give(figure, 1, "photo.png", PICTURES["photo.png"])
    says(figure, "photo.png is here")
    late[0].continue_()
    says(figure, "chelsea is here. photo.png is here")
    waiting[0].continue_()
    says(figure, "photo.png: cat")
    expected = keras_says([stored("chelsea"), PICTURES["photo.png"]])
    assert np.abs(logits(figure) - expected).max() < TOLERANCE


def test_a_camera_that_is_refused(running, started):
    figure = running
    before = shown(figure)
    started.evaluate("""() => {
        const refused = new DOMException("no", "NotAllowedError");
        navigator.mediaDevices.getUserMedia = () => Promise.reject(refused);
    }""")
    figure.locator(".camera").first.click()
    says(figure, "The camera was refused. The picture stays as it was")
    assert shown(figure) == before


def test_a_camera_gives_a_picture(running, started):
    figure = running
    before = shown(figure)
    started.evaluate("""() => {
        const canvas = document.createElement("canvas");
        canvas.getContext("2d").fillRect(0, 0, 99, 99);
        const stream = canvas.captureStream();
        navigator.mediaDevices.getUserMedia = () => Promise.resolve(stream);
    }""")
    camera = figure.locator(".camera").first
    camera.click()
    expect(camera).to_have_text("Take the picture")
    assert shown(figure) == before
    after(figure, camera.click)
    says(figure, "your photograph:")
    expect(camera).to_have_text("Camera")
    assert shown(figure) != before


def test_what_arrived_is_kept_when_the_connection_breaks_off(open_page):
    page = open_page(PAGE)
    figure = ready(page)
    part = (FILES / "onnxruntime.wasm").read_bytes()[:5_000_000]
    page.route("**/onnxruntime.wasm", lambda route: route.fulfill(body=part))
    figure.locator(".fetch").click()
    says(figure, "The connection broke off")
    says(figure, "of 19.1 MB")
    page.unroute("**/onnxruntime.wasm")
    start(page)
    # What had arrived whole was kept, and the next visit fetches nothing.
    asked = [url for url in page.requests if url.endswith("nano.onnx")]
    assert len(asked) == 1
    page.requests.clear()
    page.reload()
    start(page)
    large = [x for x in page.requests if x.endswith((".onnx", ".wasm"))]
    assert not large


def test_memory_that_is_short(open_page):
    page = open_page(PAGE)
    worker = (FILES / "worker.js").read_text("utf-8")
    fault = "throw new RangeError('could not allocate memory')"
    worker = f"WebAssembly.instantiate = () => {{ {fault}; }};\n{worker}"
    options = {"body": worker, "content_type": "text/javascript"}
    page.route("**/worker.js", lambda route: route.fulfill(**options))
    figure = ready(page)
    figure.locator(".fetch").click()
    says(figure, "not enough memory")
    expect(figure.locator(".fetch")).to_be_disabled()


def test_a_browser_without_simd(browser, address):
    page = browser.new_page()
    page.add_init_script("WebAssembly.validate = () => false")
    page.goto(f"{address}/{PAGE}.html")
    says(figure_of(page), "lacks SIMD")
    expect(figure_of(page).locator(".fetch")).to_be_disabled()
    page.close()


def test_a_book_that_was_built_without_the_model(browser, address):
    page = browser.new_page()
    without = {"body": '{"files": null, "pictures": []}'}
    page.route("**/files.json", lambda route: route.fulfill(**without))
    page.goto(f"{address}/{PAGE}.html")
    says(figure_of(page), "built without the model's runtime")
    expect(figure_of(page).locator(".fetch")).to_be_disabled()
    page.close()


def test_a_page_that_is_a_file(browser):
    page = browser.new_page()
    page.goto((SITE / f"{PAGE}.html").as_uri())
    says(figure_of(page), "python -m http.server")
    page.close()


def test_without_scripts_there_is_a_still_and_a_sentence(open_page):
    page = open_page(PAGE, java_script_enabled=False)
    figure = figure_of(page)
    expect(figure.locator(".live")).to_be_hidden()
    expect(figure.locator("noscript")).to_be_visible()
    still = figure.locator("xpath=preceding::img[1]")
    expect(still).to_be_visible()
    expect(still).to_have_attribute("alt", re.compile(r"\w+ \w+"))


# === For everybody ===


def test_nothing_is_fetched_before_the_click(open_page):
    page = open_page(PAGE)
    ready(page)
    own = [url for url in page.requests if "/_static/live/" in url]
    assert [url.rpartition("/")[2] for url in own] == ["files.json"]


def test_all_is_from_the_page_s_own_site(running, started, address):
    known = (address, "blob:", "data:")
    assert started.requests
    assert [x for x in started.requests if not x.startswith(known)] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_running_figure_can_be_read(running, started, theme, width):
    started.set_viewport_size({"width": width, "height": 1400})
    started.emulate_media(color_scheme=theme)
    wider = "document.documentElement.scrollWidth > innerWidth + 1"
    assert not started.evaluate(wider)
    options = {"preload": False, "resultTypes": ["violations"]}
    results = Axe().run(started, "figure.live_page", options)
    started.set_viewport_size(SIZE)
    assert not results.violations_count, results.generate_report()
    assert not started.errors


def said(figure):
    return figure.locator(".said").inner_text()


def test_it_answers_to_mouse_keyboard_and_touch(running, started):
    figure, page = running, started
    drawing = figure.locator("svg").first
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    before = said(figure)
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 30)
    assert said(figure) != before
    before = said(figure)
    page.touchscreen.tap(box["x"] + 0.2 * box["width"], box["y"] + 60)
    assert said(figure) != before
    drawing.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        before = said(figure)
        page.keyboard.press(key)
        assert said(figure) != before, key
    level, block, head, numbers = figure.locator(".controls select").all()
    for menu, index in ((level, 1), (block, 0), (block, 1), (head, 1)):
        before = said(figure)
        menu.select_option(index=index)
        assert said(figure) != before
    for index in range(numbers.locator("option").count()):
        numbers.select_option(index=index)
        kind = "Weights" if index else "global query"
        expect(figure.locator(".what").first).to_contain_text(kind)
    numbers.select_option(index=0)
    level.select_option(index=0)


def test_a_query_is_dragged_and_given_by_the_keyboard(running, started):
    figure, page = running, started
    for handle in (".give", "canvas"):
        figure.locator(handle).first.hover()
        page.mouse.down()
        figure.locator(".bars").nth(1).hover()
        after(figure, page.mouse.up)
        says(figure, "rocket, asked by the query of chelsea:")
        after(figure, figure.locator(".exactly").click)
    figure.locator(".give").nth(1).focus()
    after(figure, page.keyboard.press, "Enter")
    says(figure, "chelsea, asked by the query of rocket:")
