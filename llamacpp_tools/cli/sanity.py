"""`llt sanity`: is this machine as fast as it was, and if not, why?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llamacpp_tools.cli.options import share

if TYPE_CHECKING:
    from llamacpp_tools.results.sanity import Checkup
    from llamacpp_tools.results.schema import Document

DEFAULT = "5%"


def sanity(
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", help="A result file of this check, in place of this machine's own baseline."
        ),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Make what is measured now the baseline.")] = False,
    model: Annotated[
        Path | None, typer.Option("--model", help="A GGUF file, in place of the miniature with ballast.")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="cpu, vulkan or cuda.")] = "cpu",
    variant: Annotated[str, typer.Option("--variant", help="Of the build: patched or stock.")] = "patched",
    fail_over: Annotated[
        str, typer.Option("--fail-over", help="How much slower still counts as fast, e.g. 5%.")
    ] = DEFAULT,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")
    ] = False,
) -> None:
    """Measure a short fixed matrix from a cold start and hold it against the baseline of this machine.

    The first run stores the baseline. A later one that is slower by more than --fail-over says what speaks for heat,
    neighbours, a driver or system change, or the code, and ends with 1.
    """
    from llamacpp_tools.cli.output import file_progress
    from llamacpp_tools.cli.sweepbars import bars
    from llamacpp_tools.errors import CheckFailed
    from llamacpp_tools.results.sanity import matrix
    from llamacpp_tools.results.sanity import sanity as check

    limit = share(fail_over, "--fail-over")
    config = matrix(model, backend, variant)
    found = check(
        config, baseline, update, limit, bars, file_progress, lambda text: typer.echo(text, err=True)
    )
    if json_output:
        from llamacpp_tools.cli.output import print_json

        print_json(_document(found))
    else:
        _print(found)
    if found.diagnosis is not None and found.diagnosis.slower and not found.stored:
        raise CheckFailed(f"this machine is {found.diagnosis.outcome} since its baseline {found.baseline}")


def _document(found: Checkup) -> dict[str, object]:
    diagnosis = found.diagnosis
    return {
        "schema_version": 1,
        "baseline": str(found.baseline),
        "stored": found.stored,
        "result": str(found.last or found.baseline),
        "speeds": [
            {
                "mode": cell.mode,
                "decode_tps": cell.decode_tps,
                "prefill_tps": cell.prefill_tps,
                "load_ns": cell.load_ns,
            }
            for cell in found.now.cells
        ],
        "diagnosis": diagnosis.model_dump(mode="json") if diagnosis is not None else None,
    }


def _print(found: Checkup) -> None:
    for cell in found.now.cells:
        if cell.status != "ok":
            typer.echo(f"{cell.mode}: {cell.status}: {cell.reason}")
            continue
        speeds = f"decode {cell.decode_tps or 0:.2f} t/s, prefill {cell.prefill_tps or 0:.1f} t/s"
        typer.echo(f"{cell.mode}: {speeds}, loaded in {_seconds(cell.load_ns)}")
    if found.diagnosis is not None:
        typer.echo()
        for sentence in found.diagnosis.sentences:
            typer.echo(sentence)
    note = _alone(found.now)
    if note:
        again = " Make it again on a quiet machine: llt sanity --update" if found.stored else ""
        typer.echo(f"note: {note}{again}")
    typer.echo(f"{'baseline stored' if found.stored else 'baseline'}: {found.baseline}")
    if found.last is not None:
        typer.echo(f"result: {found.last}; more with: llt compare {found.baseline} {found.last}")


def _alone(now: Document) -> str:
    """What makes a baseline a bad one."""
    busy = [
        text
        for text in now.caveats
        if text.startswith(("Other programs", "The machine was busy", "The clock"))
    ]
    return " ".join(busy)


def _seconds(ns: int | None) -> str:
    return f"{ns / 1e9:.2f} s" if ns else "an unknown time"
