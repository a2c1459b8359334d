"""Which cells may be open at once: a model that is loaded need not be loaded again for every round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.identity import Device
from llamacpp_tools.sweep.memory import USABLE, free_memory, need, too_large

# Each holds a thread pool and buffers of the driver.
MOST_OPEN = 12


@dataclass(frozen=True)
class Room:
    """The memory that a sweep may use.

    Attributes:
        header: the model.
        free_bytes: what was free before anything was loaded.
        shared_weights: workers on one machine read the weights from the same pages (a CPU does, a GPU does not).
        forced: the user knows better; nothing is refused.
    """

    header: GgufHeader
    free_bytes: int
    shared_weights: bool
    forced: bool = False

    @classmethod
    def on(cls, header: GgufHeader, device: Device, n_gpu_layers: object, forced: bool) -> Room:
        """The room there is now, on the GPU where the layers go there, else in the machine's memory."""
        on_gpu = device.free_bytes is not None and n_gpu_layers != 0
        free = device.free_bytes if on_gpu and device.free_bytes is not None else free_memory()
        return cls(header, free, not on_gpu, forced)

    def refusal(self, spec: CellSpec) -> str | None:
        """Why a cell cannot be opened even alone, None if it can."""
        return None if self.forced else too_large(self.header, spec, self.free_bytes)

    def holds(self, specs: Sequence[CellSpec]) -> bool:
        """Whether all of `specs` may be open at once."""
        if len(specs) <= 1:
            return True
        needs = [need(self.header, spec) for spec in specs]
        weights = needs[0].weights * (1 if self.shared_weights else len(needs))
        return (
            len(specs) <= MOST_OPEN and weights + sum(each.own for each in needs) <= USABLE * self.free_bytes
        )
