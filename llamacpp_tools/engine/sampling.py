"""Seeded sampling with the library's own samplers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from llamacpp_tools.engine.model import Model
from llamacpp_tools.errors import BadInput
from llamacpp_tools.ffi.handle import Handle


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn; names, order and defaults are llama-server's.

    Attributes:
        seed: the same seed gives the same text on the same build and machine.
        temperature: above 0; for the most likely token each time, leave sampling out.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the fewest tokens whose probabilities reach this sum; 1 keeps all.
        min_p: keep tokens with at least this share of the most likely one's probability; 0 keeps all.
    """

    seed: int = 0
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 32:
            raise BadInput(f"a seed is a number from 0 to 4294967295, not {self.seed}")
        if not self.temperature > 0:
            raise BadInput(
                f"a temperature is above 0, not {self.temperature}; leave sampling out for greedy choice"
            )
        if self.top_k < 0 or not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            raise BadInput(
                f"top_k {self.top_k}, top_p {self.top_p} or min_p {self.min_p} is out of range:"
                " top_k counts tokens, the others are shares up to 1"
            )


class Sampler(Handle):
    """A chain of the library's samplers, with the state of its random numbers.

    Args:
        model: whose vocabulary it chooses from.
        sampling: what the chain is made of.
        banned: tokens that are never drawn.
    """

    def __init__(self, model: Model, sampling: Sampling, banned: Collection[int] = ()) -> None:
        ffi, lib = model.library.ffi, model.library.lib
        params = lib.llama_sampler_chain_default_params()
        params.no_perf = True
        chain = lib.llama_sampler_chain_init(params)
        if banned:
            biases = ffi.new("llama_logit_bias[]", len(banned))
            for bias, token in zip(biases, banned, strict=True):
                bias.token = token
                bias.bias = float("-inf")
            # The sampler copies them.
            lib.llama_sampler_chain_add(
                chain, lib.llama_sampler_init_logit_bias(model.n_vocab, len(banned), biases)
            )
        for sampler in (
            lib.llama_sampler_init_top_k(sampling.top_k),
            lib.llama_sampler_init_top_p(sampling.top_p, 0),
            lib.llama_sampler_init_min_p(sampling.min_p, 0),
            lib.llama_sampler_init_temp(sampling.temperature),
            lib.llama_sampler_init_dist(sampling.seed),
        ):
            lib.llama_sampler_chain_add(chain, sampler)
        super().__init__("the sampler", chain, lib.llama_sampler_free, model)
