"""What `llt sweep` is told of boxes, and how it then measures."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import datetime

    from llamacpp_tools.results.measure import Options
    from llamacpp_tools.results.schema import Document
    from llamacpp_tools.sweep.plan import Plan

    Measure = Callable[[Path, Options, datetime.datetime], Document]

Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster", help="Measure on the boxes that have joined this Dask scheduler: tls://HOST:PORT."
    ),
]
Hosts = Annotated[
    Path | None,
    typer.Option(
        "--hosts", help="Start a scheduler and boxes over SSH on the machines that this file lists."
    ),
]
Certs = Annotated[
    Path | None,
    typer.Option("--certs", help="A folder of `llt cluster certs` [default: Dask's own settings]."),
]
Place = Annotated[
    str | None,
    typer.Option("--place", help="any: spread the comparisons over the boxes; each: run all on every box."),
]
Wait = Annotated[
    float | None,
    typer.Option("--wait", min=1, help="Seconds to wait for a box where none can go on [default: 60]."),
]


@dataclass(frozen=True)
class Boxes:
    """Which boxes a sweep is to run over.

    Attributes:
        words: the options again, for the command line that goes on.
    """

    cluster: str | None
    hosts: Path | None
    certs: Path | None
    wait_s: float | None
    words: list[str]

    def measure(self, planned: Plan) -> Measure:
        """What measures over them.

        Raises:
            LltError: the scheduler does not answer, or what the boxes need is not here.
        """
        require_extra()
        from llamacpp_tools.cli.boxbars import box_bars
        from llamacpp_tools.cli.output import file_progress
        from llamacpp_tools.cluster.hosts import load, over_ssh
        from llamacpp_tools.cluster.measure import Waits, at, measure, ready
        from llamacpp_tools.cluster.security import address

        waits = Waits() if self.wait_s is None else Waits(patience_s=self.wait_s)
        # What is wrong with the line to the scheduler is said before a large file is hashed.
        if self.hosts is not None:
            connect = over_ssh(load(self.hosts))
        else:
            assert self.cluster is not None
            connect = at(address(self.cluster), self.certs)
        parts = ready(planned, file_progress)
        return lambda path, options, now: measure(
            planned, parts, path, connect, box_bars, options, waits, now
        )


def asked_boxes(
    cluster: str | None, hosts: Path | None, certs: Path | None, place: str | None, wait: float | None
) -> Boxes | None:
    """The boxes that the command line names; None for this machine alone.

    Raises:
        BadInput: the options do not go together.
    """
    from llamacpp_tools.errors import BadInput

    if place not in (None, "any", "each"):
        raise BadInput(f"--place {place}: there are any and each")
    if cluster is not None and hosts is not None:
        raise BadInput(
            "--cluster and --hosts exclude each other: the one names a running scheduler, the other starts one"
        )
    if cluster is None and hosts is None:
        for name, value in (("--certs", certs), ("--place", place), ("--wait", wait)):
            if value is not None:
                raise BadInput(f"{name} goes with --cluster or --hosts")
        return None
    if hosts is not None and certs is not None:
        raise BadInput("--certs goes with --cluster; with --hosts the file names the folder")
    words = []
    for name, given in (("--cluster", cluster), ("--hosts", hosts), ("--certs", certs), ("--place", place)):
        words += [name, str(given)] if given is not None else []
    words += ["--wait", f"{wait:g}"] if wait is not None else []
    return Boxes(cluster, hosts, certs, wait, words)


def require_extra() -> None:
    """Say what is missing where the extra is not installed.

    Raises:
        MissingTool: it is not.
    """
    from importlib.util import find_spec

    from llamacpp_tools.errors import MissingTool

    lacking = [
        name for name in ("dask", "distributed", "cryptography", "asyncssh") if find_spec(name) is None
    ]
    if lacking:
        wanted = shlex.quote("llamacpp_tools[cluster]")
        raise MissingTool(f"{', '.join(lacking)} is not installed, which boxes need: pip install {wanted}")
