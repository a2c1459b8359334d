"""A report as one HTML file that needs nothing else: no script, no request, styles and charts in it.

Whatever the result file says goes through jinja2's escaping; the only markup that is put in as it stands are our
own charts, whose labels matplotlib has escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llamacpp_tools.errors import MissingTool
from llamacpp_tools.report.facts import commands, differences, facts, runs, sweep_file
from llamacpp_tools.report.panels import Panel, panels
from llamacpp_tools.report.plots import inline_svg
from llamacpp_tools.report.story import Story, capital
from llamacpp_tools.results.sheet import NOTHING
from llamacpp_tools.results.table import plain

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Chart:
    """A panel and its SVG."""

    panel: Panel
    svg: str


@dataclass(frozen=True)
class Section:
    """One result as the template wants it; `key` begins its ids."""

    key: str
    story: Story
    topics: dict[str, list[Chart]]
    not_plotted: tuple[str, ...]
    facts: dict[str, str]
    runs: list[dict[str, str]]
    commands: list[str]
    sweep_file: str


def page(stories: Sequence[Story]) -> str:
    """The whole page.

    Raises:
        MissingTool: jinja2 or matplotlib is not installed.
    """
    sections = [_section(f"r{at}-", story) for at, story in enumerate(stories, 1)]
    title = stories[0].name if len(stories) == 1 else f"{len(stories)} results side by side"
    return str(
        _template().render(
            title=title,
            sections=sections,
            differences=differences(stories),
            nothing=NOTHING,
            several=len(stories) > 1,
        )
    )


def _section(key: str, story: Story) -> Section:
    found = panels(story)
    topics: dict[str, list[Chart]] = {}
    for at, panel in enumerate(found.panels):
        topics.setdefault(panel.topic, []).append(Chart(panel, inline_svg(panel, f"{key}c{at}-")))
    again = ([], "") if story.published else (commands(story.result), sweep_file(story.result))
    return Section(key, story, topics, found.left_out, facts(story.result), runs(story.result), *again)


def _template() -> Any:
    try:
        import jinja2
        from markupsafe import escape
    except ImportError:
        raise MissingTool(
            "plots and the page need matplotlib and jinja2, which are not here: pip install 'llamacpp_tools[report]'"
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("llamacpp_tools.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_one_line,
    )
    environment.filters["capital"] = capital
    # The one text of several lines; YAML has escaped what is not for printing.
    environment.filters["lines"] = escape
    return environment.get_template(TEMPLATE)


def _one_line(value: Any) -> Any:
    """Text without control characters; what is markup already has been through here or is ours."""
    return plain(value) if type(value) is str else value
