"""A loaded GGUF model: its facts, its tokenizer, and the contexts that are made from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llamacpp_tools.engine.recipe import Recipe, override_array
from llamacpp_tools.engine.remote import Devices, placement, spread
from llamacpp_tools.errors import BadInput, LltError
from llamacpp_tools.ffi.handle import Handle
from llamacpp_tools.ffi.library import Library
from llamacpp_tools.models.header import check_gguf

ALL_LAYERS = -1


class OutOfMemory(LltError):
    """A model, a context or a batch did not fit into memory."""

    exit_code = 3


class Model(Handle):
    """A model in memory. Close it, or use it as a context manager; its contexts are closed with it.

    Args:
        library: where libllama comes from.
        path: a GGUF file, or any part of a split one; checked before libllama sees it.
        recipe: the SWA recipe, None for dense.
        n_gpu_layers: layers to put on the GPU; `ALL_LAYERS` for all.
        rpc: RPC servers (`host:port`) that take their share of these layers, see `remote`.

    Raises:
        BadInput: the file is missing, truncated or no GGUF, or the recipe does not fit the model.
        LltError: an RPC server cannot be reached, or the build has no RPC backend.
        OutOfMemory: its weights do not fit.
    """

    def __init__(
        self,
        library: Library,
        path: Path | str,
        recipe: Recipe | None = None,
        n_gpu_layers: int = ALL_LAYERS,
        rpc: Sequence[str] = (),
    ) -> None:
        path = Path(path)
        self.library = library
        self.path = path
        self.recipe = recipe
        self.header = check_gguf(path)
        ffi, lib = library.ffi, library.lib
        params = lib.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        # Later versions can leave the MTP block out; at the pin it is always loaded.
        if hasattr(params, "load_mtp"):
            params.load_mtp = True
        try:
            overrides = override_array(ffi, lib, recipe.overrides() if recipe else {})
        except ValueError as error:
            raise BadInput(f"the recipe does not fit into an override: {error}") from error
        params.kv_overrides = overrides
        # The model keeps pointers into it.
        self._devices: Devices | None = spread(library, rpc) if rpc else None
        if self._devices is not None:
            params.devices, params.tensor_split = self._devices.array, self._devices.split
        library.forget_log()
        pointer = lib.llama_model_load_from_file(os.fsencode(self.header.files[0]), params)
        if pointer == ffi.NULL:
            library.raise_interrupt()
            told = str(library.error(f"{path} cannot be loaded"))
            raise OutOfMemory(told) if "alloc" in told else BadInput(told)
        super().__init__(f"the model {path}", pointer, lib.llama_model_free)
        library.raise_interrupt()

    @property
    def _vocab(self) -> Any:
        return self.library.lib.llama_model_get_vocab(self.handle)

    @cached_property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        return int(self.library.lib.llama_vocab_n_tokens(self._vocab))

    @property
    def positions_may_be_left_out(self) -> bool:
        """Whether a batch may leave a gap after the last position of its sequence: libllama allows it with M-RoPE."""
        lib = self.library.lib
        kinds = (lib.LLAMA_ROPE_TYPE_MROPE, lib.LLAMA_ROPE_TYPE_IMROPE)
        return lib.llama_model_rope_type(self.handle) in kinds

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors."""
        return int(self.library.lib.llama_model_size(self.handle))

    @property
    def n_params(self) -> int:
        """Parameters of all tensors."""
        return int(self.library.lib.llama_model_n_params(self.handle))

    @property
    def description(self) -> str:
        """Architecture, size and quantisation in libllama's words."""
        buffer = self.library.ffi.new("char[256]")
        self.library.lib.llama_model_desc(self.handle, buffer, 256)
        return self._text(buffer)

    def tokenize(self, text: str, add_special: bool = False) -> list[int]:
        """Tokens of `text`; `add_special` lets the vocabulary add its begin-of-text token."""
        raw = text.encode()
        ffi, lib = self.library.ffi, self.library.lib
        room = len(raw) + 8
        out = ffi.new("llama_token[]", room)
        count = lib.llama_tokenize(self._vocab, raw, len(raw), out, room, add_special, False)
        if count < 0:
            out = ffi.new("llama_token[]", -count)
            count = lib.llama_tokenize(self._vocab, raw, len(raw), out, -count, add_special, False)
        return list(ffi.unpack(out, count)) if count else []

    def detokenize(self, tokens: list[int]) -> str:
        """Text of `tokens`; bytes that are not UTF-8 become the replacement character."""
        if not tokens:
            return ""
        ffi, lib = self.library.ffi, self.library.lib
        held = ffi.new("llama_token[]", tokens)
        room = 16 * len(tokens) + 64
        out = ffi.new("char[]", room)
        count = lib.llama_detokenize(self._vocab, held, len(tokens), out, room, False, True)
        if count < 0:
            out = ffi.new("char[]", -count)
            count = lib.llama_detokenize(self._vocab, held, len(tokens), out, -count, False, True)
        return bytes(ffi.buffer(out, count)).decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """The bytes of one token, which may be part of a character; special tokens have their names."""
        ffi, lib = self.library.ffi, self.library.lib
        out = ffi.new("char[]", 64)
        count = lib.llama_token_to_piece(self._vocab, token, out, 64, 0, True)
        if count < 0:
            out = ffi.new("char[]", -count)
            count = lib.llama_token_to_piece(self._vocab, token, out, -count, 0, True)
        return bytes(ffi.buffer(out, count))

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end a generation."""
        lib, vocab = self.library.lib, self._vocab
        return frozenset(token for token in range(self.n_vocab) if lib.llama_vocab_is_eog(vocab, token))

    def layers(self) -> dict[str, list[int]]:
        """The layers by the device that holds them (see `remote.placement`)."""
        return placement(self.library, self.handle)

    def devices(self) -> list[str]:
        """Descriptions of this machine's devices that the process can compute on; the CPU comes last."""
        lib, ffi = self.library.lib, self.library.ffi
        return [
            ffi.string(lib.ggml_backend_dev_description(lib.ggml_backend_dev_get(index))).decode(
                "utf-8", "replace"
            )
            for index in range(lib.ggml_backend_dev_count())
        ]

    def backends(self) -> list[str]:
        """Names of the ggml backends that are registered."""
        lib, ffi = self.library.lib, self.library.ffi
        names = (
            lib.ggml_backend_reg_name(lib.ggml_backend_reg_get(i))
            for i in range(lib.ggml_backend_reg_count())
        )
        return [ffi.string(name).decode() for name in names]

    def _text(self, buffer: Any) -> str:
        raw: bytes = self.library.ffi.string(buffer)
        return raw.decode("utf-8", "replace")
