"""`host:port` of an RPC server, and the port beside it on which it says who it is."""

from __future__ import annotations

import re

from llamacpp_tools.errors import BadInput

LOOPBACK = "127.0.0.1"
EVERY_ADDRESS = "0.0.0.0"
DEFAULT_PORT = 50052
# The next port above the server's own is the identity's.
MOST_PORT = 65534
FORM = f"HOST:PORT with a name or an IPv4 address and a port from 1 to {MOST_PORT}"
# Upstream's client takes the first colon for the port's, and looks names up as IPv4.
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):(?P<port>\d{1,5})")


def parse(address: str) -> tuple[str, int]:
    """Host and port of `host:port`.

    Raises:
        BadInput: it is no such address; IPv6 is none, as upstream's client does not speak it.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= MOST_PORT:
        raise BadInput(f"{address!r} is no {FORM}")
    return found["host"], int(found["port"])


def identity_port(port: int) -> int:
    """The port on which the server at `port` says who it is."""
    return port + 1
