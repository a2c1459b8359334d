"""`llt worker`: this machine as a box of a cluster."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from llamacpp_tools.cli.boxes import Certs


def worker(
    address: Annotated[str, typer.Argument(help="The scheduler: tls://HOST:PORT, or tcp://127.0.0.1:PORT.")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="What results call this box [default: the machine's own name]."),
    ] = None,
    certs: Certs = None,
    models: Annotated[
        list[Path] | None, typer.Option("--models", help="A folder where models are looked for (repeatable).")
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Let a sweep's series take the place of another that is built here."),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="If no scheduler listens there yet, try again until one does.")
    ] = False,
) -> None:
    """Join a cluster as a box and measure what sweeps order, one comparison at a time, until Ctrl-C.

    Whoever can use the scheduler can run code here: join only one that only you and those you trust reach.
    """
    from llamacpp_tools.cli.boxes import require_extra
    from llamacpp_tools.errors import Interrupted

    require_extra()
    from llamacpp_tools.cluster.joining import Joining, join, own_name
    from llamacpp_tools.cluster.security import address as parsed

    verbose = logging.getLogger().isEnabledFor(logging.INFO)
    joining = Joining(parsed(address), certs, name or own_name(), tuple(models or ()), rebuild, wait, verbose)
    try:
        join(joining, lambda text: typer.echo(text, err=True))
    except KeyboardInterrupt:
        raise Interrupted(
            f"the box {joining.name} has left; a sweep gives what ran here to another box"
        ) from None
