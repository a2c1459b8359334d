"""The texts that are measured: one module a kind, cut to a depth in the model's own tokens."""

from __future__ import annotations

from llamacpp_tools.workloads.cut import prompt_tokens
from llamacpp_tools.workloads.diversity import distinct_word_ratio
from llamacpp_tools.workloads.registry import MEASURED_SEED, names, prompt_text

__all__ = ["MEASURED_SEED", "distinct_word_ratio", "names", "prompt_text", "prompt_tokens"]
