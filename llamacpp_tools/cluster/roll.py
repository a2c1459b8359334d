"""Who has joined a scheduler, and what each says of itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from llamacpp_tools.cluster.client import Connect
from llamacpp_tools.cluster.link import BoxLost, Link, alive
from llamacpp_tools.cluster.measure import at
from llamacpp_tools.cluster.security import Address
from llamacpp_tools.errors import LltError

ABOUT = ("cpu", "threads", "memory_bytes", "gpu", "driver", "sensors", "llt_version")


def call(where: Address, certs: Path | None) -> list[dict[str, Any]]:
    """Every worker there, by name: what `box.greet` said, or `reason` why it said nothing.

    Raises:
        LltError: the scheduler does not answer, or is not to be trusted.
    """
    return asyncio.run(_call(at(where, certs)))


async def _call(connect: Connect) -> list[dict[str, Any]]:
    from llamacpp_tools.cluster import box

    found = []
    async with connect() as client:
        for address, worker in (await alive(client)).items():
            row: dict[str, Any] = {"name": str(worker.get("name")), "address": address}
            try:
                row |= await Link(client, row["name"], address).call(box.greet)
            except (BoxLost, LltError) as error:
                row["reason"] = str(error)
            except Exception as error:
                row["reason"] = f"it is no box of this version of llt ({type(error).__name__})"
            found.append(row)
    return sorted(found, key=lambda row: str(row["name"]))
