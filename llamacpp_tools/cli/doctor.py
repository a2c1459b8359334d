"""`llt doctor`: what is here and what is missing for each backend, and what llt keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from llamacpp_tools.build.machine import Machine, Requirement


def doctor(
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show what each backend's build needs, what is missing, and the command that mends it."""
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.errors import MissingTool

    report = examine()
    if json_output:
        print_json(report)
    else:
        _print(report)
    cpu = report["backends"]["cpu"]
    if not cpu["buildable"]:
        raise MissingTool(f"not even the CPU backend can be built here: {cpu['mend']}")


def examine(machine: Machine | None = None) -> dict[str, Any]:
    """What `--json` prints: `backends` (one entry each) and `kept` (what lies under LLT_HOME)."""
    from llamacpp_tools.build.machine import Machine
    from llamacpp_tools.build.options import BACKENDS
    from llamacpp_tools.build.toolchain import requirements

    machine = machine or Machine()
    return {
        "backends": {name: _backend(machine, requirements(name, machine)) for name in BACKENDS},
        "kept": _kept(),
    }


def _backend(machine: Machine, found: list[Requirement]) -> dict[str, Any]:
    from dataclasses import asdict

    from llamacpp_tools.build.machine import join_mends
    from llamacpp_tools.build.toolchain import missing

    lacking = missing(found)
    return {
        "buildable": not lacking,
        "mend": join_mends(machine, [each.mend for each in lacking]),
        "requirements": [{**asdict(each), "ok": each.ok} for each in found],
    }


def _kept() -> dict[str, Any]:
    """What llt has fetched and built: names of folders and builds, nothing is opened that is large."""
    from llamacpp_tools import home
    from llamacpp_tools.build import manifest
    from llamacpp_tools.build.options import split_name

    builds = []
    for path in sorted(home.builds_dir().glob("*.current")):
        builds.append(_build(manifest, *split_name(path.name.removesuffix(".current"))))
    return {
        "home": str(home.llt_home()),
        "upstream": (home.sources_dir() / "upstream.git" / "HEAD").is_file(),
        "trees": _folders(home.trees_dir()),
        "builds": builds,
    }


def _build(manifest: Any, backend: str, variant: str, rpc: bool) -> dict[str, Any]:
    from llamacpp_tools.errors import LltError

    known = {"backend": backend, "variant": variant, "rpc": rpc}
    try:
        build = manifest.find(backend, variant, rpc)
    except LltError as error:
        return {**known, "library": None, "head": None, "problem": str(error)}
    return {**known, "library": str(build.library), "head": build.manifest.head, "problem": None}


def _folders(parent: Path) -> list[str]:
    return sorted(entry.name for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []


def _print(report: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from llamacpp_tools.cli.output import stdout_console

    console = stdout_console()
    for name, backend in report["backends"].items():
        state = "[green]can be built[/]" if backend["buildable"] else "[red]cannot be built[/]"
        table = Table(title=f"{name}: {state}", title_justify="left", expand=False)
        for column in ("needs", "here", "version", "found or what is asked for"):
            table.add_column(column, overflow="fold")
        for each in backend["requirements"]:
            words = [each["found"], each["detail"]] if each["ok"] else [each["detail"] or each["needed"]]
            told = "; ".join(word for word in words if word)
            table.add_row(each["name"], _mark(each), escape(each["version"] or ""), escape(told))
        console.print(table)
        for line in dict.fromkeys(each["mend"] for each in backend["requirements"] if not each["ok"]):
            console.print(f"  to mend: {escape(line)}", soft_wrap=True, highlight=False)
    _print_kept(report["kept"], console)


def _mark(requirement: dict[str, Any]) -> str:
    if requirement["ok"]:
        return "[green]yes[/]"
    return "[yellow]no (optional)[/]" if requirement["is_optional"] else "[red]no[/]"


def _print_kept(kept: dict[str, Any], console: Any) -> None:
    from rich.markup import escape

    lines = [
        f"LLT_HOME: {kept['home']}",
        f"upstream: {'fetched' if kept['upstream'] else 'not fetched yet (llt rebase)'}",
        f"trees: {', '.join(kept['trees']) or 'none'}",
    ]
    if not kept["builds"]:
        lines.append("builds: none (llt build --cpu)")
    for build in kept["builds"]:
        words = f"{build['variant']} {build['backend']}{' with RPC' if build['rpc'] else ''}"
        lines.append(f"build {words}: {build['problem'] or build['library']}")
    for line in lines:
        console.print(escape(line), soft_wrap=True, highlight=False)
