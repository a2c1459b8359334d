"""A context: the KV cells, the recurrent state and the compute buffers of one sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from llamacpp_tools.engine.model import Model, OutOfMemory
from llamacpp_tools.errors import BadInput, Interrupted, LltError
from llamacpp_tools.ffi.handle import Handle
from llamacpp_tools.threads import auto_threads

FlashAttention = Literal["auto", "on", "off"]
ABORTED = 2


class DecodeFailed(LltError):
    """`llama_decode` returned a status other than 0."""


@dataclass(frozen=True)
class ContextOptions:
    """What a context is made with; names are llama.h's.

    Attributes:
        n_ctx: cells, tokens of prompt and generation together.
        n_batch: tokens handed to `llama_decode` at once.
        n_ubatch: tokens computed at once.
        type_k, type_v: ggml type names of the KV cells.
        flash_attn: `auto` lets libllama decide; quantised V cells need it on.
        n_threads: threads for decode and prefill; 0 for the physical cores.
        n_rs_seq: recurrent-state snapshots, the largest rollback in tokens.
        swa_full: give windowed layers a full-size cache; then nothing is bounded.
        mtp: make the draft context of the model's MTP block.
    """

    n_ctx: int
    n_batch: int = 2048
    n_ubatch: int = 512
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attn: FlashAttention = "auto"
    n_threads: int = 0
    n_rs_seq: int = 0
    swa_full: bool = False
    mtp: bool = False

    def __post_init__(self) -> None:
        for name, least in (("n_ctx", 1), ("n_batch", 1), ("n_ubatch", 1), ("n_threads", 0), ("n_rs_seq", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value < 1 << 31:
                raise BadInput(f"{name} is a number from {least}, not {value!r}")
        if self.flash_attn not in get_args(FlashAttention):
            raise BadInput(f"flash_attn is auto, on or off, not {self.flash_attn!r}")


class Context(Handle):
    """A context on a model. Close it, or use it as a context manager; it keeps the model alive.

    A Ctrl-C ends its decodes where somebody watches (see `interrupt`).

    Raises:
        BadInput: an option does not fit the model.
        OutOfMemory: libllama could not make it.
    """

    def __init__(self, model: Model, options: ContextOptions) -> None:
        self.model = model
        options = replace(options, n_threads=options.n_threads or auto_threads())
        self.options = options
        _check_layers(model, options)
        ffi, lib = model.library.ffi, model.library.lib
        params = lib.llama_context_default_params()
        params.n_ctx = options.n_ctx
        params.n_batch = options.n_batch
        params.n_ubatch = options.n_ubatch
        params.n_seq_max = 1
        params.n_rs_seq = options.n_rs_seq
        params.n_threads = options.n_threads
        params.n_threads_batch = options.n_threads
        params.type_k = ggml_type(lib, ffi, options.type_k)
        params.type_v = ggml_type(lib, ffi, options.type_v)
        params.flash_attn_type = _flash(lib, options.flash_attn)
        params.swa_full = options.swa_full
        params.no_perf = True
        if options.mtp:
            params.ctx_type = lib.LLAMA_CONTEXT_TYPE_MTP
        model.library.forget_log()
        pointer = lib.llama_init_from_model(model.handle, params)
        if pointer == ffi.NULL:
            model.library.raise_interrupt()
            told = str(model.library.error("libllama could not make a context"))
            raise OutOfMemory(told) if "alloc" in told else BadInput(told)
        super().__init__("the context", pointer, lib.llama_free, model)
        # libllama takes no more at once than the context holds, and asserts it.
        self.options = replace(options, n_batch=int(lib.llama_n_batch(pointer)))
        lib.llt_heed_interrupt(pointer)
        model.library.raise_interrupt()

    @property
    def n_ctx(self) -> int:
        """Cells granted; libllama rounds `options.n_ctx` up, and what it adds is no room for a text."""
        return int(self.model.library.lib.llama_n_ctx(self.handle))

    @property
    def n_rs_seq(self) -> int:
        """Rollback depth granted in tokens; 0 where the architecture cannot."""
        return int(self.model.library.lib.llama_n_rs_seq(self.handle))

    @property
    def memory_bytes(self) -> int:
        """Bytes of KV cells and recurrent state, rollback planes included."""
        return self._bytes()[0]

    @property
    def compute_bytes(self) -> int:
        """Bytes of the buffers that graphs are computed in."""
        return self._bytes()[1]

    def _bytes(self) -> tuple[int, int]:
        ffi = self.model.library.ffi
        memory, compute = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        self.model.library.lib.llt_context_bytes(self.handle, memory, compute)
        return int(memory[0]), int(compute[0])

    def clear(self) -> None:
        """Forget every token; buffers are kept."""
        lib = self.model.library.lib
        lib.llama_memory_clear(lib.llama_get_memory(self.handle), True)

    def failed(self, status: int, what: str) -> LltError:
        """The exception for a status of `llama_decode` (llama.h: 1 no cells, 2 aborted, < -1 fatal)."""
        self.model.library.raise_interrupt()
        if status == ABORTED:
            return Interrupted(f"{what} was stopped")
        told = self.model.library.error(f"{what} failed with status {status}")
        return OutOfMemory(str(told)) if status in (-2, 1) else DecodeFailed(str(told))


def _check_layers(model: Model, options: ContextOptions) -> None:
    """What libllama answers with a failed assert, or by reading a tensor that is not there."""
    header = model.header
    if options.mtp and header.n_layer_nextn > 1:
        raise BadInput(f"{model.path} has {header.n_layer_nextn} MTP blocks, llama.cpp drafts with one")
    if not options.mtp and not header.has_trunk:
        raise BadInput(
            f"{model.path} holds nothing but an MTP block: it drafts for the model that it was taken from"
        )


def _flash(lib: Any, asked: FlashAttention) -> int:
    return {
        "auto": int(lib.LLAMA_FLASH_ATTN_TYPE_AUTO),
        "off": int(lib.LLAMA_FLASH_ATTN_TYPE_DISABLED),
        "on": int(lib.LLAMA_FLASH_ATTN_TYPE_ENABLED),
    }[asked]


def ggml_type(lib: Any, ffi: Any, name: str) -> int:
    """The ggml type's number for its name, asked of the library.

    Raises:
        BadInput: ggml has no such type.
    """
    names = {}
    for number in range(int(lib.GGML_TYPE_COUNT)):
        pointer = lib.ggml_type_name(number)
        if pointer != ffi.NULL:
            names[ffi.string(pointer).decode().lower()] = number
    if name.lower() not in names:
        raise BadInput(f"ggml has no type {name!r}")
    return names[name.lower()]
