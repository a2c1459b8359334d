"""`llt drift`: what upstream's later commits do to each patch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamacpp_tools.cli.rebase import Json, Patches, SourceOption

if TYPE_CHECKING:
    from llamacpp_tools.stack.drift import Drift, PatchDrift
    from llamacpp_tools.stack.history import Step

To = Annotated[
    str | None,
    typer.Option(
        "--to",
        help="A known version, tag, branch or commit, or the path of a clone [default: the last known version].",
    ),
]
Out = Annotated[
    list[Path] | None,
    typer.Option("--out", help="Write the report to this .json or .md file as well (repeatable)."),
]

_HEAT_SHOWN = 12


def drift(
    to: To = None,
    source: SourceOption = None,
    patches: Patches = None,
    out: Out = None,
    json_output: Json = False,
) -> None:
    """Per patch: its status at REF, the first upstream commit that breaks it, and what touched its functions.

    Over upstream's commits where they can be had (the git remote, or a clone, bundle or URL named with --source),
    else over the known versions of upstream.yaml. A patch applies if it is clean, moved (at other lines) or
    three-way (merged, because upstream changed lines nearby). "First break" is the first after the pin; a later
    commit may heal it. Heat is what upstream changed in a patch's files and functions, even while it applies.
    Exit code 0 if the whole series applies at REF, else 1.
    """
    from llamacpp_tools.cli.output import print_json, step_progress
    from llamacpp_tools.cli.rebase import load
    from llamacpp_tools.errors import BadInput, CheckFailed
    from llamacpp_tools.files import write_text_atomic
    from llamacpp_tools.stack import drift as core

    for path in out or ():
        if path.suffix not in (".json", ".md"):
            raise BadInput(f"--out {path}: a report is a .json or a .md file")
    upstream, series = load(patches, None)
    with step_progress("states of the patched files") as tell:
        report = core.drift(upstream, series, to, source, tell)
    told = document(report)
    for path in out or ():
        write_text_atomic(path, as_json(told) if path.suffix == ".json" else markdown(told))
        typer.echo(f"report: {path}", err=True)
    if json_output:
        print_json(told)
    else:
        _print(told)
    if not report.complete:
        broken = [each.patch.name for each in report.patches if not each.status.applies]
        raise CheckFailed(
            f"{len(broken)} of {len(report.patches)} patches do not apply at {report.steps[-1].label}"
            f" ({', '.join(broken)}); the whole series applies up to"
            f" {report.newest_clean.label if report.newest_clean else 'no step'}"
        )


def document(report: Drift) -> dict[str, Any]:
    """The report as JSON values; steps of snapshots have no commit, because a squashed one is not upstream's."""
    snapshots = report.kind.value == "snapshots"
    told: dict[str, Any] = {
        "schema": 1,
        "pin": _step(report.steps[0], snapshots),
        "to": _step(report.steps[-1], snapshots),
        "kind": report.kind.value,
        "origin": report.origin,
        "note": report.note,
        "series_digest": report.series.digest,
        "steps": len(report.steps),
        "evaluated": report.evaluated,
        "verified": report.verified,
        "complete": report.complete,
        "newest_clean": _step(report.newest_clean, snapshots),
        "patches": [_patch(each, snapshots) for each in report.patches],
    }
    if snapshots:
        told["versions"] = [
            {
                **_known(_step(step, True)),
                "statuses": {
                    each.patch.name: status.value for each, status in zip(report.patches, row, strict=True)
                },
            }
            for step, row in zip(report.steps, report.grid, strict=True)
        ]
    return told


def _known(step: dict[str, Any] | None) -> dict[str, Any]:
    assert step is not None
    return step


def _step(step: Step | None, snapshots: bool) -> dict[str, Any] | None:
    if step is None:
        return None
    return {
        "label": step.label,
        "commit": None if snapshots else step.commit,
        "tree": step.tree,
        "date": step.date,
        "subject": step.subject,
    }


def _patch(each: PatchDrift, snapshots: bool) -> dict[str, Any]:
    broken = each.first_break
    return {
        "name": each.patch.name,
        "file": each.patch.entry.file,
        "status": each.status.value,
        "first_break": None
        if broken is None
        else {
            **_known(_step(broken.step, snapshots)),
            "status": broken.status.value,
            "before": None if broken.before is None else broken.before.label,
            "detail": broken.detail,
        },
        "heals_at": _step(each.heals_at, snapshots),
        "newest_clean": _step(each.newest_clean, snapshots),
        "spans": [
            {
                "status": span.status.value,
                "first": span.first.label,
                "last": span.last.label,
                "steps": span.steps,
            }
            for span in each.spans
        ],
        "heat": [
            {
                **_known(_step(touch.step, snapshots)),
                "files": list(touch.files),
                "functions": list(touch.functions),
            }
            for touch in each.heat
        ],
    }


def as_json(told: dict[str, Any]) -> str:
    """The text of a `.json` report: what `--json` prints."""
    import json

    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def summary(told: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of the table with a line for each patch."""
    heads = [
        "patch",
        f"at {told['to']['label']}",
        "first break after the pin",
        "heals at",
        "newest where it applies",
        "heat",
    ]
    rows = []
    for each in told["patches"]:
        broken = each["first_break"]
        first = "never" if broken is None else f"{_name(broken)}: {broken['status']}, {broken['detail']}"
        hot = sum(bool(touch["functions"]) for touch in each["heat"])
        rows.append(
            [
                each["name"],
                each["status"],
                first,
                _name(each["heals_at"]) if each["heals_at"] else "-",
                each["newest_clean"]["label"] if each["newest_clean"] else "none",
                f"{len(each['heat'])} in its files, {hot} in its functions",
            ]
        )
    return heads, rows


def matrix(told: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of the table of versions against patches (snapshots only)."""
    names = [each["name"] for each in told["patches"]]
    rows = [
        [version["label"], version["date"], *(version["statuses"][name] for name in names)]
        for version in told["versions"]
    ]
    return ["version", "date", *names], rows


def heat_rows(told: dict[str, Any], name: str, limit: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Column names and rows of a patch's heat; with `limit`, the newest of those that touch its functions."""
    patch = next(each for each in told["patches"] if each["name"] == name)
    touches = patch["heat"]
    if limit is not None:
        hot = [touch for touch in touches if touch["functions"]]
        touches = (hot or touches)[-limit:]
    rows = [
        [_name(touch), touch["date"], ", ".join(touch["files"]), ", ".join(touch["functions"]) or "-"]
        for touch in touches
    ]
    return ["step", "date", "files of the patch that changed", "its functions that changed"], rows


def sentences(told: dict[str, Any]) -> list[str]:
    """What was looked at, and how far the series goes."""
    clean = told["newest_clean"]
    what = "commit" if told["kind"] == "history" else "known version"
    count = told["steps"] - 1
    lines = [
        f"{count} {what}{'' if count == 1 else 's'} after {told['pin']['label']}, up to {told['to']['label']}"
        f" ({told['to']['date']}). The series was applied once for each of the {told['evaluated']} states in which"
        f" its files occur, and again in full at {told['verified']} of the steps, to check.",
        "The whole series applies at none of them."
        if clean is None
        else f"The newest at which the whole series applies: {_name(clean)} ({clean['date']}).",
    ]
    if told["note"]:
        lines.append(f"Not every commit was looked at: {told['note']}.")
    return lines


def markdown(told: dict[str, Any]) -> str:
    """The text of a `.md` report."""
    parts = [f"# Drift of the series from {told['pin']['label']} to {told['to']['label']}", *sentences(told)]
    parts.append(f"Series {told['series_digest'][:12]}. Asked: {told['origin']}.")
    parts += ["## Per patch", _table(*summary(told))]
    if "versions" in told:
        parts += ["## Per version", _table(*matrix(told))]
    parts.append("## Heat")
    parts.append(
        "What upstream changed in the files of a patch since the step before, and which of the functions that the"
        " patch changes were among it, whether or not the patch still applies."
    )
    for each in told["patches"]:
        parts.append(f"### {each['name']}")
        parts.append(_table(*heat_rows(told, each["name"])) if each["heat"] else "Its files did not change.")
    return "\n\n".join(parts) + "\n"


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _name(step: dict[str, Any]) -> str:
    return f"{step['label']} {step['subject']}".strip()


def _print(told: dict[str, Any]) -> None:
    from rich.table import Table

    from llamacpp_tools.cli.output import stdout_console

    console = stdout_console()

    def show(title: str, heads: list[str], rows: Iterable[list[str]]) -> None:
        table = Table(title=title, title_justify="left")
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        console.print(table)

    show(f"the series from {told['pin']['label']} to {told['to']['label']}", *summary(told))
    if "versions" in told:
        show("versions", *matrix(told))
    for each in told["patches"]:
        if any(touch["functions"] for touch in each["heat"]):
            show(f"heat: {each['name']}", *heat_rows(told, each["name"], _HEAT_SHOWN))
    for line in sentences(told):
        console.print(line, soft_wrap=True, markup=False)
