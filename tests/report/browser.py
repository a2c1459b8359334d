"""Headless Chromium for the tests of the page: the machine's own, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# As root there is no sandbox; the rest keeps the browser from talking to its maker.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The browser's path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser():
    """A browser with a profile of its own; skips where there is none, fails there with LLT_REQUIRE_BROWSER=1."""
    path = chromium()
    if path is None:
        said = f"no {' or '.join(NAMES)} on the PATH"
        if os.environ.get("LLT_REQUIRE_BROWSER") == "1":
            pytest.fail(said)
        pytest.skip(said)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # playwright gives each launch a fresh --user-data-dir, and takes it away afterwards.
        made = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        try:
            yield made
        finally:
            made.close()


class Visit:
    """One page as it was opened: what it asked for, and what it complained of."""

    def __init__(self, made, path: Path, width: int = 1100, scheme: str = "light") -> None:
        context = made.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())


@contextmanager
def visit(made, path: Path, **options) -> Iterator[Visit]:
    """Open the file at `path`."""
    opened = Visit(made, path, **options)
    try:
        yield opened
    finally:
        opened.page.context.close()
