"""`llt compare`: two result files, what differs in where they come from, and whether B is slower than A."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llamacpp_tools.cli.options import share

if TYPE_CHECKING:
    from rich.table import Table

    from llamacpp_tools.results.across import Across, Match, Ratio

DEFAULT = "3%"
NOTHING = "-"
_WORDS = {"faster": "faster", "slower": "slower", "no difference shown": "not shown", None: "one figure"}


def compare(
    a: Annotated[Path, typer.Argument(help="A result file: what B is held against.")],
    b: Annotated[Path, typer.Argument(help="Another one.")],
    fail_over: Annotated[
        str,
        typer.Option(
            "--fail-over", help="End with 1 if B is shown to be slower by more than this share, e.g. 2%."
        ),
    ] = DEFAULT,
    box: Annotated[
        str | None,
        typer.Option(
            "--box", help="Only what this box measured, of a result that each of several boxes made."
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Say how B differs from A: origin, speed, acceptance, tokens, memory.

    Cells are matched by their parameters. A cell that A measured and B did not, or a decode or prefill that is slower
    by more than --fail-over and shown to be by its rounds, ends it with 1. Where each of several boxes measured all
    cells, a box is held against itself.
    """
    from llamacpp_tools.errors import BadInput, CheckFailed
    from llamacpp_tools.results.across import across
    from llamacpp_tools.results.boxes import sides
    from llamacpp_tools.results.document import read

    limit = share(fail_over, "--fail-over")
    found = across(*sides(read(a), read(b), box), limit, (str(a), str(b)))
    if json_output:
        from llamacpp_tools.cli.output import print_json

        print_json({**found.model_dump(mode="json"), "failed": found.failed})
    else:
        print_across(found)
    if not found.matched:
        raise BadInput(f"{a} and {b} have no cell with the same parameters, so there is nothing to compare")
    if found.failed:
        count = len(found.regressions)
        raise CheckFailed(
            f"B is worse than A in {count} {'place' if count == 1 else 'places'}: {found.regressions[0]}"
        )


def print_across(found: Across) -> None:
    """The comparison for people: origin first, then the ratios, then what they amount to."""
    from llamacpp_tools.cli.output import stdout_console

    console = stdout_console()
    typer.echo(f"A  {found.a}\nB  {found.b}\n")
    if found.differences:
        console.print(_origins(found))
    else:
        typer.echo("Nothing differs in where the two come from.")
    for warning in found.warnings:
        typer.echo(f"warning: {warning}")
    if found.matched:
        typer.echo()
        console.print(_ratios(found))
        changes = [text for match in found.matched if (text := _beside(match))]
        for text in changes:
            typer.echo(text)
    for side, cells in (("A", found.only_a), ("B", found.only_b)):
        for cell in cells:
            typer.echo(f"only {side} has {cell}")
    for note in found.notes:
        typer.echo(f"note: {note}")
    for text in found.doubtful:
        typer.echo(f"not shown: {text}")
    for text in found.regressions:
        typer.echo(f"regression: {text}")
    if found.matched and not found.regressions:
        typer.echo(f"no regression of more than {found.fail_over:.1%} is shown")


def _origins(found: Across) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title="What differs", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "of", "A", "B"):
        table.add_column(name, overflow="fold")
    for each in found.differences:
        a, b = _shown(each.a), _shown(each.b)
        if isinstance(each.a, list) and isinstance(each.b, list):
            # Of two long lists only what is in one of them counts.
            a = _shown([item for item in each.a if item not in each.b])
            b = _shown([item for item in each.b if item not in each.a])
        table.add_row(each.name, each.kind, a, b)
    return table


def _shown(value: Any) -> str:
    if value is None:
        return "not said"
    if isinstance(value, list):
        return " ".join(str(item) for item in value) or NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    is_hash = len(text) in (40, 64) and all(char in "0123456789abcdef" for char in text)
    return text[:12] if is_hash else text


def _ratios(found: Across) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title="B over A", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("cell", overflow="fold", ratio=1)
    for name in ("", "A t/s", "B t/s", "B/A", "95 %"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for match in found.matched:
        name = _name(match, found.matched)
        if not match.ratios:
            table.add_row(
                name, "", match.status_a, match.status_b, NOTHING, NOTHING, "lost" if match.lost else NOTHING
            )
        for at, ratio in enumerate(match.ratios):
            table.add_row("" if at else name, *_row(ratio), style="red" if ratio.regression else None)
    for ratio in found.overall:
        table.add_row("all cells", *_row(ratio), style="red" if ratio.regression else None)
    return table


def _row(ratio: Ratio) -> list[str]:
    metric = "decode" if ratio.metric == "decode_tps" else "prefill"
    speeds = [f"{value:.2f}" if value is not None else NOTHING for value in (ratio.a, ratio.b)]
    low_high = "{:.3f} to {:.3f}".format(*ratio.interval) if ratio.interval else NOTHING
    return [metric, *speeds, f"{ratio.ratio:.3f}", low_high, _WORDS[ratio.verdict]]


def _name(match: Match, matched: list[Match]) -> str:
    short = f"{match.mode} d{match.n_depth} {match.workload}"
    alike = [
        each
        for each in matched
        if (each.mode, each.n_depth, each.workload) == (match.mode, match.n_depth, match.workload)
    ]
    return short if len(alike) == 1 else match.cell


def _beside(match: Match) -> str:
    """What else differs in a cell; empty where nothing does."""
    parts = []
    if match.lost:
        parts.append(f"is {match.status_b} in B: {match.reason_b}")
    if match.acceptance_a is not None and match.acceptance_b is not None:
        change = match.acceptance_b - match.acceptance_a
        if abs(change) >= 5e-4:
            parts.append(f"acceptance {match.acceptance_a:.3f} to {match.acceptance_b:.3f} ({change:+.3f})")
    if match.kv_bytes_a and match.kv_bytes_b and match.kv_bytes_a != match.kv_bytes_b:
        parts.append(f"KV cache {match.kv_bytes_a / 2**20:.1f} to {match.kv_bytes_b / 2**20:.1f} MiB")
    if match.tokens == "different":
        parts.append(f"other tokens from position {match.first_divergence}")
    return f"{match.cell}: {'; '.join(parts)}" if parts else ""
