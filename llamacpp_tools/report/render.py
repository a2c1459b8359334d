"""A report in one of its forms, and where it goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.report.story import Story


class Form(StrEnum):
    """What a report can be written as."""

    TABLE = "table"
    MARKDOWN = "md"
    CSV = "csv"
    JSON = "json"
    PNG = "png"
    SVG = "svg"
    HTML = "html"
    LLAMA_BENCH_JSONL = "llama-bench-jsonl"
    LLAMA_BENCH_SQL = "llama-bench-sql"

    @property
    def suffix(self) -> str:
        """Of a file in this form."""
        return {"table": ".txt", "llama-bench-jsonl": ".jsonl", "llama-bench-sql": ".sql"}.get(
            self, f".{self}"
        )

    @property
    def needs_file(self) -> bool:
        """Whether it is not for a terminal."""
        return self in (Form.PNG, Form.SVG, Form.HTML)


def form_of(path: Path) -> Form | None:
    """The form that a file's name asks for."""
    return next((form for form in Form if form.suffix == path.suffix.lower()), None)


def text(stories: Sequence[Story], form: Form, by_mode: bool = False) -> str:
    """The whole report in a form of text, the terminal's tables excepted.

    Raises:
        MissingTool: what draws the page is not installed.
        BadInput: `by_mode` with several results.
    """
    if form is Form.HTML:
        from llamacpp_tools.report.page import page

        return page(stories)
    if form is Form.MARKDOWN:
        from llamacpp_tools.report.markdown import markdown

        return markdown(stories)
    if form in (Form.LLAMA_BENCH_JSONL, Form.LLAMA_BENCH_SQL):
        from llamacpp_tools.report.llamabench import rows, to_jsonl, to_sql

        found = rows(stories, by_mode)
        return to_sql(found) if form is Form.LLAMA_BENCH_SQL else to_jsonl(found)
    from llamacpp_tools.report.flat import as_json, csv

    if form is Form.CSV:
        return csv(stories)
    return json.dumps(as_json(stories), indent=2, ensure_ascii=False) + "\n"


def image(story: Story, form: Form) -> bytes:
    """One result's charts as one picture.

    Raises:
        MissingTool: matplotlib is not installed.
        CheckFailed: nothing in the result can be plotted.
    """
    from llamacpp_tools.report.panels import panels
    from llamacpp_tools.report.plots import picture

    found = panels(story)
    if not found.panels:
        raise CheckFailed(f"nothing in {story.path} can be plotted: {' '.join(found.left_out)}")
    return picture(found.panels, story.name, "png" if form is Form.PNG else "svg")


def places(stories: Sequence[Story], form: Form, out: Path | None) -> list[Path]:
    """Where the files go: `out`, or beside the result, or `report.html` in the current folder for several results.

    A picture shows one result; of several there is one each, in the folder `out`.

    Raises:
        BadInput: `out` is a result, or one file for several pictures.
    """
    each = form in (Form.PNG, Form.SVG)
    if each and len(stories) > 1:
        if out is not None and not out.is_dir():
            raise BadInput(
                f"{len(stories)} results make {len(stories)} pictures: name a folder that is there, not {out}"
            )
        found = [_beside(story, form, out) for story in stories]
        if len(set(found)) < len(found):
            raise BadInput("two of the results have the same file name, so their pictures would be one file")
    elif out is not None and not out.is_dir():
        found = [out]
    elif len(stories) == 1:
        found = [_beside(stories[0], form, out)]
    else:
        found = [(out or Path()) / f"report{form.suffix}"]
    results = {story.path.resolve() for story in stories}
    for path in found:
        if path.resolve() in results:
            raise BadInput(f"{path} is a result; name another file with --out")
    return found


def _beside(story: Story, form: Form, folder: Path | None) -> Path:
    name = story.path.stem + form.suffix
    return (folder if folder is not None else story.path.parent) / name
