"""A report as Markdown with GitHub's tables; what the file says is shown as text, never as markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llamacpp_tools.acceptance.grids import Grid
from llamacpp_tools.report.facts import commands, differences, facts, runs, sweep_file
from llamacpp_tools.report.story import Story, capital
from llamacpp_tools.results.sheet import NOTHING, Gain, Sheet
from llamacpp_tools.results.table import plain

_PUNCTUATION = re.compile(r"([\\`*_{}\[\]#|~$])")
_HEADS = (
    "mode",
    "prefill t/s",
    "decode t/s",
    "vs dense",
    "MTP's gain",
    "MTP's prefill",
    "acceptance",
    "KV MiB",
)


def markdown(stories: Sequence[Story]) -> str:
    """The whole report, each result under a heading of its own."""
    parts = [_result(story) for story in stories]
    apart = differences(stories)
    if apart:
        heads = ("", *(escaped(story.name) for story in stories))
        rows = [(escaped(each.name), *map(escaped, each.values)) for each in apart]
        parts.append("## What differs between the results\n\n" + table(heads, rows, numbers=False))
    return "\n\n".join(parts) + "\n"


def _result(story: Story) -> str:
    result = story.result
    about = ", ".join(
        escaped(each) for each in (result.model, result.box, result.backend, result.date) if each
    )
    blocks = [f"# {escaped(story.name)}", about, escaped(result.what)]
    blocks += [grid_table(grid) for grid in story.lab]
    if story.verdicts:
        heads = ("", "fastest", "decode t/s", "vs dense", "")
        rows = [
            (escaped(each.sheet.group.label), each.line.name, each.line.decode, _gain(each.gain), each.remark)
            for each in story.verdicts
        ]
        blocks += ["## Fastest mode", table(heads, rows, numbers=False)]
    if story.rule:
        blocks += ["## What to use", bullets([escaped(each) for each in story.rule])]
    for sheet in story.sheets:
        blocks.append(f"## {escaped(capital(sheet.group.label))}")
        blocks.append(_sheet(sheet))
        blocks += [bullets([f"{escaped(mark)} {words}" for mark, words in sheet.footnotes.items()])]
        blocks.append(bullets([escaped(each) for each in story.said_of(sheet)]))
    if story.said_of_all:
        blocks += ["## Findings", bullets([escaped(each) for each in story.said_of_all])]
    if story.troubles:
        bad = [
            (each.mode, str(each.n_depth), *map(escaped, (each.workload, each.status, each.reason)))
            for each in story.troubles
        ]
        bad_heads = ("mode", "depth", "workload", "status", "reason")
        blocks += ["## Cells without figures", table(bad_heads, bad, numbers=False)]
    if story.caveats:
        blocks += ["## Caveats", bullets([escaped(each) for each in story.caveats])]
    known = [(escaped(name), escaped(value)) for name, value in facts(result).items()]
    blocks += ["## Where the figures come from", table(("", ""), known, numbers=False)]
    gone_on = runs(result)
    if gone_on:
        keys = list(dict.fromkeys(key for run in gone_on for key in run))
        each_run = [[escaped(run.get(key, "")) for key in keys] for run in gone_on]
        blocks += ["### Runs", table([escaped(key) for key in keys], each_run, numbers=False)]
    if not story.published:
        blocks += ["## To measure it again", _again(story)]
    return "\n\n".join(block for block in blocks if block)


def _again(story: Story) -> str:
    file, words = sweep_file(story.result), commands(story.result)
    if not file:
        return script(words)
    fence = fence_around(file)
    return f"With this as `sweep.yaml`:\n\n{fence}yaml\n{file}{fence}\n\n{script(words)}"


def script(commands: Sequence[str]) -> str:
    """Commands as a block, whatever they hold."""
    fence = fence_around("\n".join(commands))
    return "\n".join([f"{fence}sh", *commands, fence])


def fence_around(text: str) -> str:
    """Backticks that no run of them in `text` can end."""
    return "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def _sheet(sheet: Sheet) -> str:
    rows = [
        (
            line.name,
            line.prefill,
            line.decode if line.ok else line.status,
            _gain(line.dense),
            _gain(line.own),
            _gain(line.own_prefill),
            line.acceptance,
            line.kv_mib,
        )
        for line in sheet.lines
    ]
    keep = [at for at in range(len(_HEADS)) if at == 0 or any(row[at] != NOTHING for row in rows)]
    return table(tuple(_HEADS[at] for at in keep), [tuple(row[at] for at in keep) for row in rows])


def _gain(gain: Gain | None) -> str:
    if gain is None:
        return NOTHING
    return escaped(gain.marked) + (f" ({gain.span})" if gain.span else "")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table of strings that are Markdown already; figures to the right unless `numbers` is False."""
    rule = ["---", *(("---:" if numbers else "---") for _ in heads[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *rows))


def grid_table(grid: Grid) -> str:
    """One of the lab's tables under a heading of its own, with the note on how to read it."""
    rows = [[escaped(value) for value in row] for section in grid.sections for row in section]
    title = escaped(capital(grid.title))
    parts = [f"## {title}", table([escaped(head) for head in grid.heads], rows), escaped(grid.note)]
    return "\n\n".join(part for part in parts if part)


def bullets(items: Sequence[str]) -> str:
    """A list of items that are Markdown already."""
    return "\n".join(f"- {item}" for item in items)


def escaped(value: str) -> str:
    """`value` as text that Markdown takes literally."""
    safe = _PUNCTUATION.sub(r"\\\1", plain(value))
    return safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
