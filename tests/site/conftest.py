"""The built book, served on this machine, and a Chromium that reads it."""

import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tools import presence
from tools.build_book import ROOT, SITE

pytest_plugins = ["tools.suites"]

# No name but this machine's own leads anywhere.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def pytest_collection_modifyitems(items):
    """Mark what is read in the browser."""
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker(pytest.mark.needs_chromium)


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Say nothing of each request."""


class Server(ThreadingHTTPServer):
    def handle_error(self, *arguments):
        """Say nothing of a page that was closed while it loaded."""


@pytest.fixture(scope="session")
def address():
    """Where the book is served, such as "http://127.0.0.1:40000"."""
    with Server(("127.0.0.1", 0), partial(Files, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def tracked():
    """The paths of the files that git knows."""
    listed = subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in listed.stdout.splitlines()]


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=presence.find_chromium(), args=[OFFLINE]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """Opens a page of the book, such as "book/level".

    Whatever Playwright's `new_context` knows may be asked for. The page's
    `requests` are the addresses that it asked for, its `errors` what went
    wrong in its scripts or on its console.
    """
    contexts = []

    def open(name, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.requests, page.errors = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))

        def hear(message):
            if message.type == "error":
                page.errors.append(f"{message.text} {message.location}")

        page.on("console", hear)
        page.goto(f"{address}/{name}.html")
        return page

    yield open
    for context in contexts:
        context.close()


def pytest_terminal_summary(terminalreporter):
    """Print what the tests measured and did not judge."""
    lines = [
        f"{name}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
    ]
    if lines:
        terminalreporter.section("measured")
    for line in sorted(lines):
        terminalreporter.write_line(line)
