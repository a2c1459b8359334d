"""Who may talk to whom. Dask carries pickled code: who can speak to a scheduler or a worker can run anything there.

So plain connections are for loopback alone, and everywhere else both sides show a certificate of the same authority.
Dask checks no host names: each key of a set opens every door.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from llamacpp_tools.errors import BadInput, CheckFailed, MissingTool

if TYPE_CHECKING:
    from distributed.security import Security

Role = Literal["scheduler", "worker", "client"]
ROLES: tuple[Role, ...] = ("scheduler", "worker", "client")
PORT = 8786
KNOCK_S = 5.0


@dataclass(frozen=True)
class Address:
    """Where a scheduler listens; `host` is a name or a number, IPv6 without brackets."""

    scheme: Literal["tcp", "tls"]
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def address(text: str) -> Address:
    """The address in `text`.

    Raises:
        BadInput: it is none, or a plain one that is not on this machine.
    """
    try:
        parts = urlsplit(text)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("tcp", "tls") or not host or parts.path or parts.query or parts.username:
        raise BadInput(
            f"{text!r} is no address of a scheduler: write tls://HOST:PORT, or tcp://127.0.0.1:PORT"
        )
    found = Address("tls" if scheme == "tls" else "tcp", host, PORT if port is None else port)
    if found.scheme == "tcp" and not is_loopback(host):
        raise BadInput(
            f"{text} is not on this machine, and Dask carries pickled code, so TLS is required there: make "
            f"certificates with `llt cluster certs DIR` and name it tls://{host}:{found.port}"
        )
    return found


def is_loopback(host: str) -> bool:
    """Whether nobody outside this machine can reach `host`; of names only `localhost` is taken for that."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def security(role: Role, where: Address, certs: Path | None) -> Security | None:
    """What Dask is told about certificates; None for a plain connection on this machine.

    Args:
        role: what this process is.
        where: the scheduler.
        certs: a folder of `llt cluster certs`; None for Dask's own settings (`distributed.comm.tls`).

    Raises:
        BadInput: certificates are missing, unreadable, or lie open to others.
    """
    from distributed.security import Security

    if where.scheme == "tcp":
        if certs is not None:
            raise BadInput(
                f"{where} is a plain connection: with --certs name it tls://{where.host}:{where.port}"
            )
        return None
    named = _files(role, certs) if certs is not None else {}
    found = Security(require_encryption=True, **named)
    try:
        if not found.tls_ca_file or not found.get_tls_config_for_role(role)["cert"]:
            raise BadInput(
                f"{where} needs certificates: name a folder of `llt cluster certs` with --certs, or set Dask's own"
                f" distributed.comm.tls.ca-file and .{role}.cert"
            )
        found.get_connection_args(role)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"the certificates of {certs or 'Dask'} cannot be used: {error}") from None
    return found


def knock(where: Address, sealed: Security | None, role: Role = "client") -> None:
    """Whether a scheduler answers there in the right tongue, so that a wrong one is a sentence and not a wait.

    A scheduler greets whoever connects, once it trusts them; nothing is sent to it.

    Raises:
        MissingTool: nobody listens.
        CheckFailed: somebody does, and one side does not trust or does not understand the other.
    """
    try:
        with socket.create_connection((where.host, where.port), KNOCK_S) as plain:
            plain.settimeout(KNOCK_S)
            if sealed is None:
                _greeted_plainly(where, plain)
            else:
                context: ssl.SSLContext = sealed.get_connection_args(role)["ssl_context"]
                with context.wrap_socket(plain, server_hostname=where.host) as secret:
                    if not secret.recv(1):
                        raise CheckFailed(
                            f"the scheduler at {where} hung up: it does not trust this certificate"
                        )
    except ssl.SSLCertVerificationError as error:
        raise CheckFailed(
            f"the scheduler at {where} shows a certificate that this set does not vouch for ({error.verify_message}):"
            " take the folder that the scheduler's was made with"
        ) from None
    except ssl.SSLError as error:
        raise CheckFailed(f"no TLS with {where}: {_of_tls(error)}") from None
    except TimeoutError:
        raise CheckFailed(f"{where} takes the connection and says nothing: is it a Dask scheduler?") from None
    except ConnectionResetError:
        raise CheckFailed(f"the scheduler at {where} hung up: it does not trust this certificate") from None
    except OSError as error:
        raise MissingTool(
            f"no scheduler answers at {where} ({error.strerror or error}): start one with `llt cluster scheduler`"
        ) from None


def local_host(where: Address) -> str:
    """The address of this machine through which `where` is reached; nothing need listen on any other."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            # Connecting a datagram socket sends nothing; it only asks which way it would go.
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise MissingTool(f"there is no way to {where}: {error.strerror or error}") from None


def _greeted_plainly(where: Address, plain: socket.socket) -> None:
    try:
        first = plain.recv(1)
    except TimeoutError:
        raise CheckFailed(
            f"{where} says nothing to a plain connection, as a scheduler with TLS does: name it "
            f"tls://{where.host}:{where.port} and its certificates with --certs"
        ) from None
    if not first:
        raise CheckFailed(f"{where} hung up on a plain connection: is it a Dask scheduler?")


def _of_tls(error: ssl.SSLError) -> str:
    reason = (error.reason or "").upper()
    if "WRONG_VERSION" in reason or "RECORD_LAYER" in reason or "PACKET_LENGTH" in reason:
        return (
            "it does not speak TLS; a scheduler without it is only for this machine, as tcp://127.0.0.1:PORT"
        )
    if "UNKNOWN_CA" in reason or "CERTIFICATE" in reason or "DECRYPT" in reason:
        return "it does not trust this certificate, which is of another set than its own, or has expired"
    return f"{(error.reason or str(error)).replace('_', ' ').lower()}"


def _files(role: Role, certs: Path) -> dict[str, str]:
    if not certs.is_dir():
        raise BadInput(f"there is no folder {certs}: make one with `llt cluster certs {certs}`")
    named = {"tls_ca_file": "ca.pem", f"tls_{role}_cert": f"{role}.pem", f"tls_{role}_key": f"{role}-key.pem"}
    for path in _missing(certs, named.values()):
        raise BadInput(f"{path} is missing: {certs} is no folder of `llt cluster certs` for a {role}")
    key = certs / f"{role}-key.pem"
    if stat.S_IMODE(key.stat().st_mode) & 0o077:
        raise BadInput(f"{key} can be read by others, and it opens every box: chmod 600 {key}")
    return {option: str((certs / name).absolute()) for option, name in named.items()}


def _missing(folder: Path, names: object) -> Iterator[Path]:
    assert hasattr(names, "__iter__")
    yield from (folder / str(name) for name in names if not (folder / str(name)).is_file())
