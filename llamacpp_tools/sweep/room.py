"""Which cells may be open at once: a model that is loaded need not be loaded again for every round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.models.kvbytes import kv_bytes
from llamacpp_tools.models.memory import USABLE, free_memory
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.identity import Device
from llamacpp_tools.sweep.memory import need, too_large

# Each holds a thread pool and buffers of the driver.
MOST_OPEN = 12


@dataclass(frozen=True)
class Room:
    """The memory that a sweep may use, as it was before anything was loaded.

    Attributes:
        header: the model.
        free_bytes: of the machine.
        gpu_free_bytes: of all GPUs together, None without one.
        forced: the user knows better; nothing is refused.
        rpc_free_bytes: of each RPC server's devices together, by its address.
    """

    header: GgufHeader
    free_bytes: int
    gpu_free_bytes: int | None = None
    forced: bool = False
    rpc_free_bytes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def now(
        cls, header: GgufHeader, device: Device, forced: bool, rpc_free_bytes: Mapping[str, int] | None = None
    ) -> Room:
        """The room that there is at this moment."""
        return cls(header, free_memory(), device.free_bytes, forced, rpc_free_bytes or {})

    def refusal(self, spec: CellSpec) -> str | None:
        """Why a cell cannot be opened even alone, None if it can.

        Nothing is said of a model that is split between GPU and CPU: how it is split is libllama's business.
        """
        if self.forced or self._is_split(spec):
            return None
        return too_large(self.header, spec, self._free(spec))

    def holds(self, specs: Sequence[CellSpec]) -> bool:
        """Whether all of `specs` may be open at once.

        Workers share the pages of the weights on a CPU; on a GPU each has its own copy.
        """
        if len(specs) <= 1:
            return True
        if any(spec.rpc for spec in specs):
            # A server serves one client at a time.
            return False
        if len(specs) > MOST_OPEN or any(self._is_split(spec) for spec in specs):
            return False
        on_gpu = [spec for spec in specs if self._on_gpu(spec)]
        on_cpu = [spec for spec in specs if not self._on_gpu(spec)]
        gpu = sum(need(self.header, spec).total for spec in on_gpu)
        needs = [need(self.header, spec) for spec in on_cpu]
        cpu = sum(each.own for each in needs) + (needs[0].weights if needs else 0)
        return gpu <= USABLE * (self.gpu_free_bytes or 0) and cpu <= USABLE * self.free_bytes

    def full_kv_bytes(self, spec: CellSpec) -> int:
        """Bytes of the target's KV caches if no layer of `spec` had a window."""
        types = (spec.type_k, spec.type_v)
        return kv_bytes(
            self.header, spec.n_ctx, spec.n_ubatch, *types, n_batch=spec.n_batch
        ).full_layers_bytes

    def _free(self, spec: CellSpec) -> int:
        if spec.rpc:
            return sum(self.rpc_free_bytes.get(server, 0) for server in spec.rpc) + (self.gpu_free_bytes or 0)
        return (self.gpu_free_bytes or 0) if self._on_gpu(spec) else self.free_bytes

    def _on_gpu(self, spec: CellSpec) -> bool:
        return (self.gpu_free_bytes is not None or bool(spec.rpc)) and spec.n_gpu_layers != 0

    def _is_split(self, spec: CellSpec) -> bool:
        # The output matrix counts as one layer more.
        return self._on_gpu(spec) and spec.n_gpu_layers != "all" and spec.n_gpu_layers <= self.header.n_layer
