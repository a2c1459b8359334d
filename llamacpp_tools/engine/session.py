"""A mode, opened: model, contexts and decoder for dense, SWA, MTP or SWA+MTP, closed in the right order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llamacpp_tools.engine.context import Context, ContextOptions
from llamacpp_tools.engine.decode import Decoder, MtpDecoder, PlainDecoder, Tick
from llamacpp_tools.engine.generate import Filled, Generation, fill, go_on
from llamacpp_tools.engine.model import ALL_LAYERS, Model
from llamacpp_tools.engine.recipe import Recipe
from llamacpp_tools.errors import BadInput
from llamacpp_tools.ffi.closing import Closing
from llamacpp_tools.ffi.library import Library


@dataclass(frozen=True)
class SessionOptions:
    """What a mode is made of.

    Attributes:
        context: the target's context; `n_rs_seq` and `mtp` are set from `n_max`.
        recipe: the SWA recipe, None for full attention.
        n_max: the longest draft in tokens, None for no MTP.
        p_min: a draft ends before a token less probable than this.
        n_gpu_layers: layers on the GPU.
        ignore_eos: never end a text.
    """

    context: ContextOptions
    recipe: Recipe | None = None
    n_max: int | None = None
    p_min: float = 0.0
    n_gpu_layers: int = ALL_LAYERS
    ignore_eos: bool = True


class Session(Closing):
    """An open mode. Close it, or use it as a context manager.

    Raises:
        BadInput: the file is no model, the recipe does not fit it, or it has no MTP block to draft with.
        LltError: libllama could not make a context.
    """

    def __init__(self, library: Library, path: Path, options: SessionOptions) -> None:
        self.options = options
        with contextlib.ExitStack() as stack:
            self.model = stack.enter_context(Model(library, path, options.recipe, options.n_gpu_layers))
            self.draft: Context | None = None
            self._decoder: Decoder
            if options.n_max is None:
                self.target = stack.enter_context(Context(self.model, options.context))
                self._decoder = stack.enter_context(PlainDecoder(self.target, options.ignore_eos))
            else:
                self._decoder = self._with_mtp(stack, options, options.n_max)
            self._stack = stack.pop_all()

    def _with_mtp(self, stack: contextlib.ExitStack, options: SessionOptions, n_max: int) -> MtpDecoder:
        if self.model.header.n_layer_nextn == 0:
            raise BadInput(
                f"{self.model.path} has no MTP block (nextn_predict_layers is 0): leave MTP modes out"
            )
        self.target = stack.enter_context(Context(self.model, replace(options.context, n_rs_seq=n_max)))
        self.draft = stack.enter_context(Context(self.model, replace(options.context, mtp=True)))
        decoder = MtpDecoder(self.target, self.draft, n_max, options.p_min, options.ignore_eos)
        return stack.enter_context(decoder)

    @property
    def decoder(self) -> Decoder:
        """The decoder of this mode."""
        return self._decoder

    def fill(self, prompt: Sequence[int], tick: Tick | None = None) -> Filled:
        """Forget all and prefill `prompt` (see `generate.fill`).

        Raises:
            BadInput: the context is too small for it.
            LltError: a decode failed.
        """
        self._check_room(len(prompt), 0)
        return fill(self._decoder, prompt, tick)

    def go_on(self, filled: Filled, n_predict: int, tick: Callable[[int], None] | None = None) -> Generation:
        """Generate after what stands in the caches (see `generate.go_on`).

        Raises:
            BadInput: the context is too small for it.
            LltError: a decode failed.
        """
        self._check_room(filled.n_prompt, n_predict)
        options = self.options
        return go_on(
            self.model, self._decoder, filled, n_predict, options.n_max or 0, options.ignore_eos, tick
        )

    def run(
        self,
        prompt: Sequence[int],
        n_predict: int,
        prefill_tick: Tick | None = None,
        decode_tick: Callable[[int], None] | None = None,
    ) -> Generation:
        """Prefill and generate from scratch.

        Raises:
            BadInput: the context is too small for the prompt and what is to be generated.
            LltError: a decode failed.
        """
        self._check_room(len(prompt), n_predict)
        return self.go_on(self.fill(prompt, prefill_tick), n_predict, decode_tick)

    def _check_room(self, n_prompt: int, n_predict: int) -> None:
        if n_prompt + n_predict > self.target.n_ctx:
            raise BadInput(
                f"{n_prompt} tokens of prompt and {n_predict} to generate do not fit into a context of"
                f" {self.target.n_ctx}"
            )

    def close(self) -> None:
        """Close decoder, contexts and model; a second call does nothing."""
        self._stack.close()
