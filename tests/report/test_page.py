import builtins
import re
from html.parser import HTMLParser

import pytest

from llamacpp_tools.errors import MissingTool
from llamacpp_tools.report.page import page
from llamacpp_tools.report.story import capital
from tests.report.browser import browser, visit
from tests.report.conftest import ACCEPTANCE, changed

# None of them has an end tag of its own.
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Elements(HTMLParser):
    """The tags and attributes of a page, and whether every element is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.headings, self.text = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *each) for each in attrs]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="session")
def pages(published, measured, full, hostile, lab, tmp_path_factory):
    """Pages as files, by what they show."""
    folder = tmp_path_factory.mktemp("pages")
    cells = list(measured.result.cells[:7])
    cells[3] = cells[3].model_copy(
        update={"status": "crashed", "reason": "GGML_ASSERT(" + "x" * 200 + ") failed"}
    )
    told = {
        "published": [published],
        "measured": [measured],
        "full": [full],
        "unfinished": [changed(measured, cells, status="started")],
        "empty": [changed(measured, [], status="started")],
        "hostile": [hostile],
        "several": [published, measured],
        "lab": [lab],
    }
    made = {}
    for name, stories in told.items():
        made[name] = folder / f"{name}.html"
        made[name].write_text(page(stories), encoding="utf-8")
    return made


NAMES = ["published", "measured", "full", "unfinished", "empty", "hostile", "several", "lab"]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_one_file_that_asks_for_nothing(pages, name):
    found = Elements(pages[name].read_text())
    assert not {"script", "link", "img", "image", "iframe", "object", "embed", "foreignobject"} & set(
        found.tags
    )
    for tag, attribute, value in found.attributes:
        assert not attribute.startswith("on"), (tag, attribute)
        if attribute in ("src", "href", "xlink:href", "srcset", "action"):
            assert value.startswith("#"), (tag, attribute, value)
    assert "@import" not in pages[name].read_text()
    assert not re.search(r"url\((?!#)", pages[name].read_text())


@pytest.mark.parametrize("name", NAMES)
def test_headings_go_down_one_by_one_and_ids_are_unique(pages, name):
    found = Elements(pages[name].read_text())
    assert found.headings[0] == 1 and found.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(found.headings, found.headings[1:], strict=False))
    ids = [value for _, attribute, value in found.attributes if attribute == "id"]
    assert len(ids) == len(set(ids))


def test_what_a_file_says_is_text(pages):
    found = Elements(pages["hostile"].read_text())
    assert "<script>alert(1)</script>" in "".join(found.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", pages["hostile"].read_text())


def test_a_result_of_the_lab_has_the_labs_tables(pages, measured, lab):
    found = Elements(pages["lab"].read_text())
    said = " ".join("".join(found.text).split())
    for grid in lab.lab:
        assert capital(grid.title) in said
        for rows in grid.sections:
            for row in rows:
                assert all(value in found.text for value in row if value)
    assert len(lab.lab) == 4 and measured.lab == []


def test_it_says_what_the_tables_say(pages):
    text = re.sub(r"<[^>]+>|\s+", " ", pages["published"].read_text())
    for figure in (
        "+13.6%",
        "+10.6%",
        "+46.0%",
        "-10.6%",
        "-2.6%",
        "+8.6%",
        "+31.7% *",
        "-6.9%",
        "-14.8%",
        "0.961",
    ):
        assert figure in text, figure
    assert "no command that makes them again" in text


def test_missing_and_failed_cells_have_their_reasons(pages):
    text = pages["unfinished"].read_text()
    assert "GGML_ASSERT(" + "x" * 200 in text
    assert text.count("missing: the sweep ended before it") == 9
    assert "not finished" in text


def test_the_same_result_gives_the_same_page(full):
    assert page([full]) == page([full])


def test_without_jinja2_the_extra_is_named(monkeypatch, published):
    real = builtins.__import__

    def no_jinja2(name, *rest, **options):
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", no_jinja2)
    with pytest.raises(MissingTool, match=r"pip install 'llamacpp_tools\[report\]'"):
        page([published])


@pytest.fixture(scope="module")
def chromium():
    with browser() as made:
        yield made


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "light"), (360, "dark"), (1100, "light"), (1100, "dark")]
)
def test_a_browser_has_nothing_to_complain_of(chromium, pages, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    with visit(chromium, pages[name], width=width, scheme=scheme) as opened:
        assert opened.requests == [pages[name].as_uri()]
        assert opened.complaints == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(opened.page)
        assert found.violations_count == 0, found.generate_report()
        # Without this an axe that looked at nothing would pass.
        assert len(found.response["passes"]) > 20
        assert opened.complaints == []


@pytest.mark.browser
def test_both_themes_are_themes_and_charts_follow(chromium, pages):
    seen = {}
    for scheme in ("light", "dark"):
        with visit(chromium, pages["full"], scheme=scheme) as opened:
            seen[scheme] = opened.page.evaluate(
                """() => [getComputedStyle(document.body).backgroundColor,
                          getComputedStyle(document.querySelector('figure svg text')).fill,
                          [...document.querySelectorAll('figure svg path')].map(e => getComputedStyle(e).stroke)
                            .filter(c => c !== 'none')]"""
            )
    light, dark = seen["light"], seen["dark"]
    assert all(a != b for a, b in zip(light[:2], dark[:2], strict=True))
    assert light[2] and not set(light[2]) & set(dark[2])


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_seen_against_the_paper(chromium, pages, scheme):
    # WCAG 1.4.11 asks 3:1 for the parts of a graphic.
    code = """() => {
      const light = c => { const v = c.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
        .map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126*v[0] + .7152*v[1] + .0722*v[2] }
      const paper = light(getComputedStyle(document.body).backgroundColor)
      return [...document.querySelectorAll('.key')].map(e => {
        const a = light(getComputedStyle(e).backgroundColor)
        return (Math.max(a, paper) + .05) / (Math.min(a, paper) + .05) }) }"""
    with visit(chromium, pages["measured"], scheme=scheme) as opened:
        ratios = opened.page.evaluate(code)
    assert len(ratios) >= 16 and min(ratios) >= 3


@pytest.mark.browser
@pytest.mark.parametrize("name", ["measured", "several"])
def test_it_prints_whole(chromium, pages, name, tmp_path):
    with visit(chromium, pages[name], scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        # What is folded on the screen stands open on paper, dark pages are printed on white.
        hidden = opened.page.evaluate(
            "() => [...document.querySelectorAll('details li, details pre')].filter(e => !e.checkVisibility()).length"
        )
        paper = opened.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        printed = opened.page.pdf(prefer_css_page_size=True)
    assert hidden == 0 and paper == "rgb(255, 255, 255)"
    assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page\n") >= 3


@pytest.mark.browser
def test_a_result_of_many_cells_still_fits_a_phone(chromium, tmp_path):
    from llamacpp_tools.report.story import stories

    path = tmp_path / "many.html"
    path.write_text(page(stories([ACCEPTANCE])), encoding="utf-8")
    with visit(chromium, path, width=360) as opened:
        assert opened.complaints == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
