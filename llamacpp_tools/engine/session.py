"""A mode, opened: model, contexts and decoder for dense, SWA, MTP or SWA+MTP, closed in the right order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llamacpp_tools.closing import Closing
from llamacpp_tools.engine import profile
from llamacpp_tools.engine.bisect import AS_USUAL, Bisect
from llamacpp_tools.engine.context import Context, ContextOptions
from llamacpp_tools.engine.control import Chooser
from llamacpp_tools.engine.decode import Decoder, MtpDecoder, PlainDecoder, Tick
from llamacpp_tools.engine.generate import Filled, Generation, Limits, Run, fill, go_on
from llamacpp_tools.engine.interrupt import interruptible
from llamacpp_tools.engine.model import ALL_LAYERS, Model
from llamacpp_tools.engine.native_control import control_of
from llamacpp_tools.engine.recipe import Recipe
from llamacpp_tools.engine.sampling import Sampler, Sampling
from llamacpp_tools.engine.stream import Stream
from llamacpp_tools.engine.trace import Trace, watch
from llamacpp_tools.errors import BadInput
from llamacpp_tools.ffi.library import Library


@dataclass(frozen=True)
class SessionOptions:
    """What a mode is made of.

    Attributes:
        context: the target's context; `n_rs_seq` and `mtp` are set from `n_max`.
        recipe: the SWA recipe, None for full attention.
        n_max: the longest draft in tokens, 0 for an MTP block that is loaded and drafts nothing, None for no MTP.
        auto: choose the length of each draft from 0 to `n_max`, by what it costs and how long drafts survive
            (`engine.control`).
        p_min: a draft ends before a token less probable than this.
        n_gpu_layers: layers on the GPU.
        ignore_eos: never end a text.
        draft_model: a file whose MTP block drafts (`models.extract` writes one); None for the model's own.
        bisect: what a draft sees, other than usual, to find a fault.
        rpc: RPC servers (`host:port`) that hold a part of the layers.
    """

    context: ContextOptions
    recipe: Recipe | None = None
    n_max: int | None = None
    auto: bool = False
    p_min: float = 0.0
    n_gpu_layers: int = ALL_LAYERS
    ignore_eos: bool = True
    draft_model: Path | None = None
    bisect: Bisect = AS_USUAL
    rpc: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # A verification decodes the last token and the draft in one batch, and libllama asserts that it fits.
        most = min(self.context.n_ctx, self.context.n_batch) - 1
        if self.n_max is not None and not 0 <= self.n_max <= most:
            raise BadInput(f"n_max is a number of tokens from 0 to {most}, below n_batch, not {self.n_max!r}")
        if not 0 <= self.p_min <= 1:
            raise BadInput(f"p_min is a probability, not {self.p_min!r}")
        if self.auto and (not self.n_max or self.p_min):
            raise BadInput("auto chooses the length of drafts: it takes n_max, the longest one, and no p_min")
        if self.draft_model is not None and self.n_max is None:
            raise BadInput(f"{self.draft_model} is to draft, and n_max does not say how many tokens")


class Session(Closing):
    """An open mode. Close it, or use it as a context manager.

    Raises:
        BadInput: the file is no model, the recipe does not fit it, or it has no MTP block to draft with.
        LltError: libllama could not make a context.
    """

    def __init__(self, library: Library, path: Path | str, options: SessionOptions) -> None:
        self.options = options
        # Whatever is made on the model is closed with it.
        self.model = Model(library, path, options.recipe, options.n_gpu_layers, options.rpc)
        self.draft: Context | None = None
        self._draft_model: Model | None = None
        self._decoder: Decoder
        # What it learns of the machine in one text serves the next.
        self._control = self.new_control()
        try:
            if options.n_max is None:
                self.target = Context(self.model, options.context)
                self._decoder = PlainDecoder(self.target, options.ignore_eos)
            else:
                self._decoder = self._with_mtp(options, options.n_max)
        except BaseException:
            self.close()
            raise

    def _with_mtp(self, options: SessionOptions, n_max: int) -> MtpDecoder:
        drafting = self._drafting_model(options)
        self.target = Context(self.model, replace(options.context, n_rs_seq=n_max))
        self.draft = Context(drafting, replace(options.context, mtp=True))
        decoder = MtpDecoder(self.target, self.draft, n_max, options.p_min, options.ignore_eos)
        if options.bisect != AS_USUAL:
            decoder.bisect(
                options.bisect.history, *options.bisect.factors(self.model.header, drafting.header)
            )
        return decoder

    def _drafting_model(self, options: SessionOptions) -> Model:
        header = self.model.header
        if options.draft_model is None:
            if header.n_layer_nextn == 0:
                raise BadInput(
                    f"{self.model.path} has no MTP block (nextn_predict_layers is 0): leave MTP modes out, or name a "
                    "draft_model"
                )
            return self.model
        # The MTP block is never windowed, so the draft model needs no recipe.
        drafting = Model(
            self.model.library, options.draft_model, n_gpu_layers=options.n_gpu_layers, rpc=options.rpc
        )
        self._draft_model = drafting
        theirs = (drafting.header.arch, drafting.header.n_embd, drafting.n_vocab)
        if theirs != (header.arch, header.n_embd, self.model.n_vocab) or drafting.header.n_layer_nextn == 0:
            raise BadInput(
                f"{options.draft_model} cannot draft for {self.model.path}: it takes an MTP block of the same "
                "architecture, width and vocabulary"
            )
        return drafting

    @property
    def decoder(self) -> Decoder:
        """The decoder of this mode."""
        return self._decoder

    def new_control(self) -> Chooser | None:
        """What chooses the length of drafts here and knows nothing yet; None unless the session is `auto`."""
        options = self.options
        if not options.auto or not options.n_max:
            return None
        return control_of(self.model.library, options.n_max, self.model.positions_may_be_left_out)

    def generate(
        self,
        prompt: str | Sequence[int],
        n_predict: int = 128,
        sampling: Sampling | None = None,
        stop: Collection[int] = (),
        accepts: Sequence[int] = (),
    ) -> Stream:
        """A text after `prompt`, plain or with MTP, whichever the mode is; it is computed as it is iterated over.

        Args:
            prompt: text, or token ids; at least one token.
            n_predict: tokens to generate, at most.
            sampling: how tokens are drawn; None for the most likely one each time.
            stop: tokens that end the text, beside those of the model (which do unless `ignore_eos`).
            accepts: drafted tokens to accept in each step, whatever the model says, for measuring what a step costs
                at a given acceptance; the text means nothing then.

        Raises:
            BadInput: the prompt is empty or does not fit, or acceptance is forced without MTP.
        """
        tokens = self.model.tokenize(prompt, add_special=True) if isinstance(prompt, str) else list(prompt)
        self._check(tokens, n_predict, accepts)
        if not all(isinstance(token, int) for token in stop):
            raise BadInput("stop takes token ids; `model.tokenize` gives those of a text")
        limits = self._limits(n_predict, stop, accepts, ())

        def begin() -> Iterator[Run]:
            with contextlib.ExitStack() as stack:
                if sampling is not None:
                    banned = self.model.end_tokens if self.options.ignore_eos else ()
                    sampler = stack.enter_context(Sampler(self.model, sampling, sorted(banned)))
                    self._decoder.sample_with(sampler)
                    stack.callback(self._decoder.sample_with, None)
                stack.enter_context(interruptible(self.model.library))
                if self._control is not None:
                    self._control.begin()
                filled = fill(self._decoder, tokens)
                yield Run(self._decoder, filled, limits, self.model.library.ffi, self._control)

        return Stream(self.model, begin, limits.ends)

    def fill(self, prompt: Sequence[int], tick: Tick | None = None) -> Filled:
        """Forget all and prefill `prompt` (see `generate.fill`).

        Raises:
            BadInput: the context is too small for it.
            LltError: a decode failed.
        """
        self._check_room(len(prompt), 0)
        with interruptible(self.model.library):
            return fill(self._decoder, prompt, tick)

    def go_on(
        self,
        filled: Filled,
        n_predict: int,
        tick: Callable[[int], None] | None = None,
        accepts: Sequence[int] = (),
        drafts: Sequence[int] = (),
        control: Chooser | None = None,
    ) -> Generation:
        """Generate after what stands in the caches (see `generate.go_on`, and `generate.Limits` for the schedules).

        Args:
            filled: what stands there.
            n_predict: tokens to generate.
            tick: called with the tokens generated so far.
            accepts, drafts: schedules.
            control: chooses the draft lengths, and may have been in use before; None for a new one, where the session
                is `auto`.

        Raises:
            BadInput: the context is too small for it, or a draft is to be longer than `n_max`.
            LltError: a decode failed.
        """
        self._check_room(filled.n_prompt, n_predict)
        if drafts and max(drafts) > (self.options.n_max or 0):
            raise BadInput(
                f"a draft of {max(drafts)} tokens is longer than n_max, which is {self.options.n_max}"
            )
        limits = self._limits(n_predict, (), accepts, drafts)
        if control is None:
            control = self.new_control()
        with interruptible(self.model.library):
            return go_on(self._decoder, filled, limits, self.model.library.ffi, tick, control)

    def profile(self, prompt: str | Sequence[int], control: Chooser | None = None) -> None:
        """Time drafts of every length after `prompt`, so that the first text finds a controller that knows them.

        It takes `n_max + 1` times 16 steps and four prefills of the prompt, which is to be about as long as the texts
        are: what a length costs beside a plain step changes with the depth (see `engine.profile`).

        Args:
            prompt: text, or token ids; at least one token.
            control: what is told; None for the one that `generate` asks.

        Raises:
            BadInput: the session is not `auto` and no control is given, the prompt is empty, or the context is too
                small for it and the drafts.
            LltError: a decode failed.
        """
        n_max, control = self.options.n_max or 0, control or self._control
        if control is None or not n_max:
            raise BadInput(
                "there is nothing to profile: the session does not choose the length of drafts (auto)"
            )
        tokens = self.model.tokenize(prompt, add_special=True) if isinstance(prompt, str) else list(prompt)
        self._check(tokens, profile.room(n_max), ())
        with interruptible(self.model.library):
            profile.profile(self._decoder, tokens, control, n_max, self.model.library.ffi)

    def add(self, filled: Filled, done: Generation, tokens: Sequence[int]) -> Filled:
        """Prefill `tokens` after a generation, as a conversation's next turn; what stands there then.

        Args:
            filled: what the generation went on from.
            done: the generation, of at least one token.
            tokens: token ids, at least one.

        Raises:
            BadInput: the context is too small for it.
            LltError: a decode failed.
        """
        # The last token was chosen and not decoded yet.
        begin = filled.n_prompt + len(done.tokens) - 1
        self._check_room(begin, 1 + len(tokens))
        with interruptible(self.model.library):
            begun = time.perf_counter_ns()
            token = self._decoder.append([done.tokens[-1], *tokens], begin)
            return Filled(begin + 1 + len(tokens), token, time.perf_counter_ns() - begun)

    def watch(
        self,
        filled: Filled,
        n_predict: int,
        tick: Callable[[int], None] | None = None,
        given: Sequence[int] = (),
    ) -> Trace:
        """Generate greedily as plain decode does, and have the MTP block draft at each token (see `trace.watch`).

        Raises:
            BadInput: the session drafts nothing, the context is too small, or the text that is given is too short or
                no text of the model's.
            LltError: a decode failed.
        """
        if not isinstance(self._decoder, MtpDecoder):
            raise BadInput("there is nothing to watch: the session drafts nothing (n_max is not set)")
        lookahead = self.options.n_max or 0
        self._check_room(filled.n_prompt, n_predict + lookahead)
        if given:
            self._check_tokens(given)
            if len(given) < n_predict + lookahead:
                raise BadInput(f"{len(given)} tokens are given, {n_predict + lookahead} are gone through")
        with interruptible(self.model.library):
            return watch(self._decoder, filled, n_predict, lookahead, self.model.library.ffi, tick, given)

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

    def _limits(
        self, n_predict: int, stop: Collection[int], accepts: Sequence[int], drafts: Sequence[int]
    ) -> Limits:
        options = self.options
        ends = frozenset(stop) if options.ignore_eos else self.model.end_tokens | frozenset(stop)
        return Limits(n_predict, options.n_max or 0, ends, tuple(accepts), tuple(drafts))

    def _check(self, tokens: Sequence[int], n_predict: int, accepts: Sequence[int]) -> None:
        self._check_room(len(tokens), n_predict)
        if not tokens:
            raise BadInput("the prompt is empty")
        self._check_tokens(tokens)
        if n_predict < 1:
            raise BadInput(f"n_predict is at least 1, not {n_predict}")
        if accepts and self.options.n_max is None:
            raise BadInput("there is nothing to accept: the session drafts nothing (n_max is not set)")

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        n_vocab = self.model.n_vocab
        odd = next((token for token in tokens if not 0 <= token < n_vocab), None)
        if odd is not None:
            raise BadInput(f"token {odd} is not one of the {n_vocab}")

    def _check_room(self, n_prompt: int, n_predict: int) -> None:
        n_ctx = self.target.options.n_ctx
        if n_prompt + n_predict > n_ctx:
            raise BadInput(
                f"{n_prompt} tokens of prompt and {n_predict} to generate do not fit into a context of {n_ctx}"
            )

    def close(self) -> None:
        """Close decoder, contexts and models; a second call does nothing."""
        if self._draft_model is not None:
            self._draft_model.close()
        self.model.close()
