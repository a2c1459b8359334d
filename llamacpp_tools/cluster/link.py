"""One box as the sweep sees it: called by name through the scheduler, its entries fetched, its loss found out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import llamacpp_tools
from llamacpp_tools.cluster import box
from llamacpp_tools.cluster.job import LEASE_S, Row
from llamacpp_tools.errors import CheckFailed, LltError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

POLL_S = 1.0
# Below the lease, so that a box is given up before it gives up.
SILENCE_S = 20.0
CALL_S = 10.0


class BoxLost(Exception):
    """The box does not answer any more; the text says how that was noticed."""


class SchedulerLost(CheckFailed):
    """The scheduler does not answer any more."""


@dataclass
class Link:
    """A box that has joined.

    Attributes:
        client: the connection to the scheduler.
        name: of the box.
        address: of its worker.
        about: what `box.greet` said.
        silence_s: seconds without an answer after which the box is taken to be gone.
        gone: set when the scheduler has let go of its worker, so that no answer need be waited for.
    """

    client: Client
    name: str
    address: str
    about: Row = field(default_factory=dict)
    silence_s: float = SILENCE_S
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _job: str | None = None

    async def call(self, function: Callable[..., Any], *args: Any, timeout_s: float = CALL_S) -> Any:
        """Have one of `box`'s functions run there.

        Raises:
            BoxLost: no answer.
            LltError: the box's own word.
        """
        asked = asyncio.ensure_future(self.client.run(function, *args, workers=[self.address]))
        gone = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({asked, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise BoxLost("its worker is gone" if self.gone.is_set() else "it does not answer")
            return asked.result()[self.address]
        except LltError:
            raise
        except (TimeoutError, OSError, KeyError, ValueError) as error:
            raise BoxLost(f"it does not answer ({type(error).__name__})") from None
        finally:
            for each in (asked, gone):
                each.cancel()

    async def greet(self) -> str | None:
        """Ask who is there; why it cannot take part, None if it can.

        Raises:
            BoxLost: no answer.
        """
        try:
            self.about = await self.call(box.greet)
        except LltError as error:
            return str(error)
        except BoxLost:
            raise
        except Exception as error:  # whatever another version of llt, or a plain Dask worker, answers with
            return f"it is no box of this version of llt ({type(error).__name__})"
        version, own = self.about["llt_version"], llamacpp_tools.__version__
        if (version, self.about["protocol"]) != (own, box.PROTOCOL):
            return f"it runs llt {version} and this is {own}: install the same on both"
        return None

    async def run(
        self, job_id: str, order: Row, on_row: Callable[[Row], None], on_progress: Callable[[Row], None]
    ) -> Row:
        """Have an order carried out; its end.

        Args:
            job_id: unlike any other.
            order: what is to be done.
            on_row: given each entry for the journal, once and in order.
            on_progress: given the last word of how far it is.

        Raises:
            BoxLost: the box is gone, or has been started again.
            SchedulerLost: the scheduler is.
        """
        try:
            await self.call(box.accept, job_id, order, max(LEASE_S, 1.5 * self.silence_s))
        except LltError as error:
            raise BoxLost(str(error)) from None
        self._job = job_id
        place = {"workers": [self.address], "allow_other_workers": False, "resources": {"box": 1}}
        task = self.client.submit(box.work, job_id, key=f"llt-{job_id}", pure=False, retries=0, **place)
        try:
            return await self._followed(job_id, task, on_row, on_progress)
        finally:
            self._job = None
            task.release()

    async def stop(self, at_once: bool = False) -> None:
        """End what runs there; nothing is said of a box that does not answer."""
        if self._job is not None:
            with contextlib.suppress(BoxLost, LltError):
                await self.call(box.stop, self._job, at_once, timeout_s=2.0)

    async def _followed(
        self, job_id: str, task: Any, on_row: Callable[[Row], None], on_progress: Callable[[Row], None]
    ) -> Row:
        have, heard = 0, time.monotonic()
        while True:
            try:
                said: Row = await self.call(
                    box.poll, job_id, have, POLL_S, timeout_s=min(CALL_S, self.silence_s)
                )
            except LltError as error:
                raise BoxLost(str(error)) from None
            except BoxLost as lost:
                await self._still_there(lost, time.monotonic() - heard)
                await asyncio.sleep(POLL_S / 2)
                continue
            heard = time.monotonic()
            for row in said["rows"]:
                on_row(row)
                have += 1
            on_progress(
                said["progress"]
                if said["begun"]
                else {"doing": "waiting for its turn", "done": 0, "total": 0}
            )
            if said["answer"] is not None and not said["rows"]:
                return dict(said["answer"])
            if task.status in ("error", "cancelled", "lost"):
                raise BoxLost(f"Dask gave the work up ({task.status})")

    async def _still_there(self, lost: BoxLost, silent_s: float) -> None:
        workers = await alive(self.client)
        if self.address not in workers:
            raise BoxLost("its worker is gone") from None
        if silent_s > self.silence_s:
            raise lost


async def alive(client: Client) -> dict[str, Any]:
    """The scheduler's workers, by address.

    Raises:
        SchedulerLost: it does not answer.
    """
    try:
        known: dict[str, Any] = (await asyncio.wait_for(client.scheduler.identity(), CALL_S))["workers"]
    except (TimeoutError, OSError, AttributeError, RuntimeError, ValueError) as error:
        log.info("the scheduler: %s: %s", type(error).__name__, error)
        raise SchedulerLost("the scheduler does not answer any more: start it again, then go on") from None
    return known
