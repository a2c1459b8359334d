"""Who an RPC server is: upstream's protocol does not say, so a port beside it does, in one line of JSON.

Nothing is read from whoever connects there. It is no authentication: it keeps an honest mistake (another build, another
box) out of the figures, and not an attacker.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from llamacpp_tools.build.manifest import Manifest, build_command
from llamacpp_tools.errors import CheckFailed, MissingTool
from llamacpp_tools.rpc.address import identity_port, parse

VERSION: Literal[1] = 1
ASK_S = 3.0
# For the mistake of naming the port on which a server says who it is.
SLIP_S = 1.0
MOST_BYTES = 64 << 10
_MACHINE_ID = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))

Word = Annotated[str, pydantic.Field(max_length=300)]
Hash = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{16,64}$")]


class NoAnswer(MissingTool):
    """A server is not there, or does not say who it is."""


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class ServedDevice(_Strict):
    """A device that the server computes on: name, description, bytes of memory in all and free at its start."""

    name: Word
    description: Word
    memory_bytes: int
    free_bytes: int


class ServerIdentity(_Strict):
    """What a server says of itself.

    `tree` is git's hash of the patched source; `code_sha256` is one hash over all its libraries (see `Manifest`).
    `box` tells machines apart without naming them. `started` is another one for each process, `busy` whether somebody
    is connected to it now. `n_threads` are those of its CPU device.
    """

    llt_rpc: Literal[1]
    llt_version: Word
    pin: Word
    tree: Word
    series_digest: Word
    variant: Word
    backend: Word
    compiler: Word
    mitigation: Word
    code_sha256: Hash
    libllama_sha256: Hash
    ggml_sha256: Hash
    rpc_server_sha256: Hash
    protocol: Word
    n_threads: int
    devices: Annotated[tuple[ServedDevice, ...], pydantic.Field(min_length=1, max_length=64, strict=False)]
    cpu_info: Word
    memory_bytes: int
    box: Hash
    started: Hash
    busy: bool = False

    @property
    def figure_key(self) -> str:
        """A hash of all that a figure depends on: the code, the box, its devices, its threads."""
        devices = [(each.name, each.description, each.memory_bytes) for each in self.devices]
        parts = [self.code_sha256, self.rpc_server_sha256, self.box, self.cpu_info, devices, self.n_threads]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def ask(address: str, timeout_s: float = ASK_S) -> ServerIdentity:
    """Who the server at `address` (`host:port`) is.

    Raises:
        BadInput: that is no address.
        NoAnswer: nobody answers within `timeout_s` seconds, or somebody does who is no `llt rpc-server`.
    """
    host, port = parse(address)
    try:
        line = _read_line((host, identity_port(port)), timeout_s)
    except OSError as error:
        if _identity_at(host, port) is not None:
            raise NoAnswer(
                f"{address} is where the RPC server {host}:{port - 1} says who it is: name the server's own port"
            ) from None
        why = "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error))
        raise NoAnswer(
            f"the RPC server {address} does not say who it is on port {identity_port(port)} ({why}): start it there "
            f"with `llt rpc-server --port {port}`"
        ) from None
    try:
        return ServerIdentity.model_validate_json(line)
    except pydantic.ValidationError:
        raise NoAnswer(
            f"what answers on port {identity_port(port)} for the RPC server {address} is no `llt rpc-server` of this "
            "version of llt: start one there, of the same version as here"
        ) from None


def _identity_at(host: str, port: int) -> ServerIdentity | None:
    try:
        return ServerIdentity.model_validate_json(_read_line((host, port), SLIP_S))
    except (OSError, pydantic.ValidationError):
        return None


def check_build(address: str, server: ServerIdentity, here: Manifest) -> None:
    """See that a server is built from the same patched source as the library here.

    Compiler, backend and CPU may differ from box to box, and are recorded; another source may mean another ggml, whose
    operations have other numbers, and then the figures would mean nothing.

    Raises:
        CheckFailed: it is not.
    """
    if server.tree == here.tree:
        return
    raise CheckFailed(
        f"the RPC server {address} is of another build ({_words(server)}; here {_words(here)}): run "
        f"`{build_command(server.backend, here.variant, rpc=True)}` there, from the same pin and series, and start "
        "`llt rpc-server` again"
    )


def box_id(places: Sequence[Path] = _MACHINE_ID) -> str:
    """Sixteen hex digits that tell this machine from another and do not say which it is.

    From systemd's machine id, hashed with our name as its manual asks of everybody; from the host's name where there
    is none.
    """
    for path in places:
        try:
            known = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if known:
            return _hashed(known)
    return _hashed(socket.gethostname())


def _hashed(known: str) -> str:
    return hmac.new(known.encode(), b"llt rpc-server", hashlib.sha256).hexdigest()[:16]


def _words(build: ServerIdentity | Manifest) -> str:
    return f"{build.variant} {build.pin}, series {build.series_digest[:12]}, tree {build.tree[:12]}"


def _read_line(where: tuple[str, int], timeout_s: float) -> bytes:
    """All that is said up to the first line's end, or to the end of the connection."""
    end = time.monotonic() + timeout_s
    found = b""
    with socket.create_connection(where, timeout=timeout_s) as connection:
        while b"\n" not in found and len(found) <= MOST_BYTES:
            connection.settimeout(max(0.001, end - time.monotonic()))
            data = connection.recv(1 << 14)
            if not data:
                break
            found += data
            if time.monotonic() > end:
                raise TimeoutError
    return found.partition(b"\n")[0][:MOST_BYTES]
