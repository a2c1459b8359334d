"""`llt cluster`: certificates, a scheduler, and who has joined it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from llamacpp_tools.cli.boxes import Certs, require_extra

app = typer.Typer(
    help="Boxes together: certificates, a scheduler, who has joined.",
    epilog="Example: llt cluster certs ~/llt-certs, then llt cluster scheduler --host 192.168.7.2 --certs ~/llt-certs",
    no_args_is_help=True,
)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command("certs", epilog="Example: llt cluster certs ~/llt-certs --days 90")
def certs(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How long they hold.")] = 365,
    json_output: Json = False,
) -> None:
    """Make a set of certificates: an authority, and a key each for scheduler, worker and client.

    Each key opens every box: give them to machines and people whom you would let run any program there.
    """
    require_extra()
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.cluster.certs import make

    made = make(folder, days)
    if json_output:
        print_json({"folder": str(made.folder), "files": list(made.files), "until": made.until.isoformat()})
        return
    typer.echo(f"{len(made.files)} files in {folder}, good until {made.until:%Y-%m-%d}")
    for role, who in (
        ("scheduler", "the scheduler's machine"),
        ("worker", "each box"),
        ("client", "where you sweep"),
    ):
        typer.echo(f"{who}: ca.pem, {role}.pem, {role}-key.pem")
    typer.echo(
        "whoever holds one of the keys can run any program on every box; the authority's own key is not kept"
    )


@app.command("scheduler", epilog="Example: llt cluster scheduler --host 192.168.7.2 --certs ~/llt-certs")
def scheduler(
    host: Annotated[str, typer.Option("--host", help="The one address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any free one.")] = 8786,
    certs: Certs = None,
) -> None:
    """Run a Dask scheduler for boxes to join, without a dashboard, until Ctrl-C."""
    require_extra()
    from llamacpp_tools.cluster.joining import serve
    from llamacpp_tools.errors import Interrupted

    verbose = logging.getLogger().isEnabledFor(logging.INFO)
    try:
        serve(host, port, certs, lambda text: typer.echo(text, err=True), verbose)
    except KeyboardInterrupt:
        raise Interrupted("the scheduler has ended; sweeps over it can be gone on with") from None


@app.command("boxes", epilog="Example: llt cluster boxes tls://lab:8786 --certs ~/llt-certs")
def boxes(
    address: Annotated[str, typer.Argument(help="The scheduler.")],
    certs: Certs = None,
    json_output: Json = False,
) -> None:
    """List the boxes that have joined a scheduler, and what each says of itself."""
    require_extra()
    from llamacpp_tools.cli.output import print_json
    from llamacpp_tools.cluster.roll import call
    from llamacpp_tools.cluster.security import address as parsed

    found = call(parsed(address), certs)
    if json_output:
        print_json({"scheduler": address, "boxes": found})
        return
    if not found:
        sealed = f" --certs {certs}" if certs is not None else ""
        typer.echo(f"no box has joined {address}: join one with `llt worker {address}{sealed}`")
    for row in found:
        typer.echo(f"{row['name']}: {_words(row)}")


def _words(row: dict[str, Any]) -> str:
    if "reason" in row:
        return f"not usable: {row['reason']}"
    sensors = ", ".join(str(name).rsplit("_", 1)[0] for name in row["sensors"]) or "none"
    gpu = f"{row['gpu']}, driver {row['driver'] or 'unknown'}" if row["gpu"] else "no GPU seen"
    memory = f"{row['memory_bytes'] / 2**30:.0f} GiB"
    return f"{row['cpu']}, {row['threads']} threads, {memory}; {gpu}; sensors: {sensors}; llt {row['llt_version']}"
