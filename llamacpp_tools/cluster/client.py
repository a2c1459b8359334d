"""The connection to a scheduler, opened and closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from llamacpp_tools.cluster.link import SchedulerLost

if TYPE_CHECKING:
    from distributed import Client

Connect = Callable[[], AbstractAsyncContextManager["Client"]]


@contextlib.asynccontextmanager
async def connected(client: Client) -> AsyncIterator[Client]:
    """The client for the body; a scheduler that is gone does not hold up the end.

    Raises:
        SchedulerLost: it cannot be reached.
    """
    try:
        async with asyncio.timeout(30.0):
            await client
    except (OSError, TimeoutError) as error:
        raise SchedulerLost(f"the scheduler cannot be reached ({error})") from None
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(timeout=2), 5.0)
