"""The shape of the miniature: Qwen3.6-35B-A3B's plan at a width of 128.

Twelve layers make one MTP step cost about a quarter of a decode step of the trunk; every 4th attends to all
of the context. Rows are multiples of 32 (most of 64), so that q8_0 fits every matrix. With a rotary share of
a quarter there are 8 frequencies; a base of 100,000 gives them wave lengths of 6 to 149,000 tokens.
"""

from __future__ import annotations

from llamacpp_tools.models.shapes import Shape

N_VOCAB = 1024
N_CTX = 16384

MINIATURE = Shape(
    name="miniature",
    arch="qwen35moe",
    n_layer=12,
    n_nextn=1,
    n_embd=128,
    n_head=2,
    n_head_kv=1,
    head_dim=64,
    rope_sections=(3, 3, 2),
    ssm_k_heads=1,
    ssm_v_heads=2,
    ssm_head_dim=64,
    n_expert=8,
    n_expert_used=2,
    n_ff_exp=64,
    n_ff_shexp=64,
    n_vocab=N_VOCAB,
    n_ctx_train=N_CTX,
    rope_freq_base=1e5,
)
