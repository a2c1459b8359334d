"""`--hosts hosts.yaml`: a scheduler and boxes started over SSH for one sweep, by Dask's own SSH cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from llamacpp_tools.cluster import nodes
from llamacpp_tools.cluster.client import Connect, connected
from llamacpp_tools.cluster.joining import NAME
from llamacpp_tools.cluster.security import PORT, ROLES, Address, is_loopback, security
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.stack.upstream import load_strict

if TYPE_CHECKING:
    from distributed import Client

START_S = 60.0
CLOSE_S = 5.0
Name = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=255, pattern=r"^[^-\s][^\s]*$")]


class Host(pydantic.BaseModel):
    """One machine: how SSH reaches it and how it is called in rows."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    host: Name
    name: Annotated[str, pydantic.StringConstraints(pattern=f"^{NAME.pattern}$")] | None = None
    user: Name | None = None
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] = 22
    models: tuple[str, ...] = ()
    rebuild: bool = False


class Hosts(pydantic.BaseModel):
    """The whole file.

    `scheduler` is the machine of the scheduler, by default the first of `boxes`; `python` the interpreter on every one
    of them that has llt; `certs` a folder of `llt cluster certs` at the same path on all, needed beyond this machine.
    `known_hosts` and `key` are SSH's files on this machine, where they are not the usual ones.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    boxes: Annotated[tuple[Host, ...], pydantic.Field(min_length=1)]
    scheduler: Host | None = None
    listen: Name | None = None
    port: Annotated[int, pydantic.Field(ge=0, le=65535)] = PORT
    python: str = "python3"
    certs: Path | None = None
    known_hosts: Path | None = None
    key: Path | None = None

    @pydantic.model_validator(mode="after")
    def _apart_and_sealed(self) -> Hosts:
        names = [box.name or box.host for box in self.boxes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names {twice[0]} twice: give each box a `name` of its own")
        if self.certs is None and not all(is_loopback(each.host) for each in (self.first, *self.boxes)):
            raise ValueError(
                "needs `certs`: Dask carries pickled code, so beyond this machine TLS is required"
            )
        return self

    @property
    def first(self) -> Host:
        """Where the scheduler runs."""
        return self.scheduler or self.boxes[0]

    @property
    def where(self) -> Address:
        """Where the scheduler is to listen."""
        return Address("tls" if self.certs is not None else "tcp", self.listen or self.first.host, self.port)


def load(path: Path) -> Hosts:
    """The file at `path`.

    Raises:
        BadInput: it is missing, or not of that form.
    """
    if not path.is_file():
        raise BadInput(f"there is no file {path}: --hosts names one that lists your boxes (docs/cluster.md)")
    return load_strict(path, Hosts)


def settings(hosts: Hosts) -> dict[str, Any]:
    """What Dask's configuration is set to here, and inherited by what is started over SSH.

    The paths of certificates travel, never their text: a command line can be read by others on its machine. Dask's SSH
    scheduler always has a small HTTP server; it gets no pages, and listens to its own machine alone.
    """
    found: dict[str, Any] = {
        **nodes.SETTINGS,
        "distributed.scheduler.http.routes": [],
        # One that was still starting when its sweep gave up has nobody else who would end it.
        "distributed.scheduler.idle-timeout": "15 minutes",
    }
    if hosts.certs is not None:
        found |= {
            "distributed.comm.require-encryption": True,
            "distributed.comm.tls.ca-file": str(hosts.certs / "ca.pem"),
        }
        for role in ROLES:
            found[f"distributed.comm.tls.{role}.cert"] = str(hosts.certs / f"{role}.pem")
            found[f"distributed.comm.tls.{role}.key"] = str(hosts.certs / f"{role}-key.pem")
    return found


def scheduler_options(hosts: Hosts) -> dict[str, Any]:
    """What Dask's scheduler over SSH is started with."""
    listens = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    where = hosts.where
    return {
        "address": hosts.first.host,
        "connect_options": _ssh(hosts.first, hosts),
        "kwargs": {"protocol": where.scheme, "host": where.host, "port": where.port, **listens},
        "remote_python": hosts.python,
    }


def worker_options(box: Host, hosts: Hosts) -> dict[str, Any]:
    """What a box over SSH is started with."""
    told = {"models": list(box.models), "rebuild": box.rebuild}
    return {
        "address": box.host,
        "connect_options": _ssh(box, hosts),
        "kwargs": {"protocol": hosts.where.scheme, "name": box.name or box.host, "host": box.host, **told},
        "worker_class": "llamacpp_tools.cluster.nodes.BoxWorker",
        "remote_python": hosts.python,
    }


def _ssh(host: Host, hosts: Hosts) -> dict[str, Any]:
    options: dict[str, Any] = {"port": host.port}
    if host.user is not None:
        options["username"] = host.user
    if hosts.known_hosts is not None:
        options["known_hosts"] = str(hosts.known_hosts)
    if hosts.key is not None:
        options["client_keys"] = [str(hosts.key)]
    return options


def over_ssh(hosts: Hosts) -> Connect:
    """Starts the scheduler and the boxes, connects, and ends them all with the sweep.

    Raises:
        BadInput: the certificates cannot be used.
    """
    import dask

    nodes.quiet()
    dask.config.set(settings(hosts))
    sealed = security("client", hosts.where, hosts.certs)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Client]:
        from distributed import Client, SpecCluster
        from distributed.deploy import ssh

        # `SSHCluster` is this with the same options for every worker; boxes have names and folders of their own.
        boxes = {
            box.name or box.host: {"cls": ssh.Worker, "options": worker_options(box, hosts)}
            for box in hosts.boxes
        }
        first = {"cls": ssh.Scheduler, "options": scheduler_options(hosts)}
        cluster = SpecCluster(
            boxes, first, name="llt", security=sealed, asynchronous=True, shutdown_on_close=True
        )
        try:
            try:
                # Dask waits for as long as it takes; a machine that does not answer is said to be so.
                await asyncio.wait_for(cluster, START_S)
            except Exception as error:  # asyncssh, Dask and the remote side each have errors of their own
                raise CheckFailed(
                    f"the boxes of {', '.join(each.host for each in hosts.boxes)} could not be started over SSH "
                    f"({type(error).__name__}: {error}): can `ssh HOST {hosts.python} -m llamacpp_tools --version` "
                    "be run?"
                ) from None
            async with connected(Client(cluster, asynchronous=True, set_as_default=False)) as client:
                yield client
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(cluster.close(), START_S)
            # Of a cluster that did not come to its feet Dask closes nothing, and what runs over SSH would stay.
            for each in (cluster.scheduler, *cluster.workers.values()):
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(each.close(), CLOSE_S)

    return connect
