"""The miniature in torch: a trunk of transformers' own Qwen3.5-MoE classes, and an MTP block beside it.

The MTP block is what `graph_mtp` in upstream's `src/models/qwen35moe.cpp` (b9842) computes: at position p it
takes the embedding of token p and the hidden row of position p - 1 *after* the trunk's final norm, normalises
each, joins them as [embedding, hidden], maps them to the model's width, and runs one decoder layer with full
attention. Its own final norm gives both the row that the trunk's output matrix turns into logits for token
p + 1 and the hidden row for the next step of a chain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen3_5_moe.configuration_qwen3_5_moe import Qwen3_5MoeTextConfig
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import (
    Qwen3_5MoeDecoderLayer,
    Qwen3_5MoeForCausalLM,
    Qwen3_5MoeGatedDeltaNet,
    Qwen3_5MoeRMSNorm,
    Qwen3_5MoeSparseMoeBlock,
    load_balancing_loss_func,
)

from llamacpp_tools.models.shapes import Shape

INITIAL_STD = 0.02


def config_of(shape: Shape) -> Qwen3_5MoeTextConfig:
    """The transformers configuration of a `qwen35moe` shape.

    Raises:
        ValueError: the shape is of another architecture, or has not one MTP block.
    """
    if shape.arch != "qwen35moe" or shape.n_nextn != 1:
        raise ValueError("the trainer knows qwen35moe with one MTP block")
    config = Qwen3_5MoeTextConfig(
        vocab_size=shape.n_vocab,
        hidden_size=shape.n_embd,
        num_hidden_layers=shape.n_layer,
        num_attention_heads=shape.n_head,
        num_key_value_heads=shape.n_head_kv,
        head_dim=shape.head_dim,
        layer_types=[
            "linear_attention" if shape.is_recurrent(layer) else "full_attention"
            for layer in range(shape.n_layer)
        ],
        linear_conv_kernel_dim=shape.ssm_conv,
        linear_key_head_dim=shape.ssm_head_dim,
        linear_value_head_dim=shape.ssm_head_dim,
        linear_num_key_heads=shape.ssm_k_heads,
        linear_num_value_heads=shape.ssm_v_heads,
        moe_intermediate_size=shape.n_ff_exp,
        shared_expert_intermediate_size=shape.n_ff_shexp,
        num_experts=shape.n_expert,
        num_experts_per_tok=shape.n_expert_used,
        max_position_embeddings=shape.n_ctx_train,
        initializer_range=INITIAL_STD,
        rms_norm_eps=1e-6,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": shape.rope_freq_base,
            "partial_rotary_factor": 2 * sum(shape.rope_sections) / shape.head_dim,
            "mrope_section": list(shape.rope_sections),
        },
    )
    config._attn_implementation = "sdpa"
    config._experts_implementation = "grouped_mm"
    return config


class MtpBlock(nn.Module):
    """One multi-token-prediction block; see the head of this module."""

    def __init__(self, config: Qwen3_5MoeTextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        full = (config.layer_types or []).index("full_attention")
        self.enorm = Qwen3_5MoeRMSNorm(width, eps=config.rms_norm_eps)
        self.hnorm = Qwen3_5MoeRMSNorm(width, eps=config.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * width, width, bias=False)
        self.layer = Qwen3_5MoeDecoderLayer(config, full)
        self.norm = Qwen3_5MoeRMSNorm(width, eps=config.rms_norm_eps)

    def forward(self, embedded: Tensor, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Hidden rows [batch, tokens, width] of the block.

        Args:
            embedded: embeddings of the tokens, [batch, tokens, width].
            hidden: for each token the hidden row of the position before it, [batch, tokens, width].
            rotary: cosines and sines of the positions.
        """
        joined = torch.cat((self.enorm(embedded), self.hnorm(hidden)), dim=-1)
        out: Tensor = self.layer(self.eh_proj(joined), position_embeddings=rotary)
        rows: Tensor = self.norm(out)
        return rows


@dataclass(frozen=True)
class Losses:
    """Mean cross-entropies in nats per token, and the routers' balance loss.

    Attributes:
        trunk: of the next token.
        draft: of the MTP block at lookahead 1, 2, ...: what it says about the token after next, then from
            its own hidden rows about the one after that.
        balance: the number of experts used where all get the same load, more otherwise (Switch Transformer,
            eq. 4 to 6).
    """

    trunk: Tensor
    draft: tuple[Tensor, ...]
    balance: Tensor


class Miniature(nn.Module):
    """Trunk and MTP block; embedding and output matrix are shared."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        config = config_of(shape)
        self.trunk = Qwen3_5MoeForCausalLM(config)
        self.mtp = MtpBlock(config)
        # transformers initialises what lies in its own model; the block follows the same rules.
        self.mtp.apply(self.trunk._init_weights)
        self._routed: list[Tensor] = []
        _remember(self.trunk)
        for module in self.modules():
            if isinstance(module, Qwen3_5MoeSparseMoeBlock):
                module.gate.register_forward_hook(self._note_routing)

    def _note_routing(self, _module: nn.Module, _inputs: object, outputs: tuple[Tensor, ...]) -> None:
        if self.training:
            self._routed.append(outputs[0])

    def hidden(self, tokens: Tensor) -> Tensor:
        """The trunk's hidden rows after its final norm, [batch, tokens, width]."""
        rows: Tensor = self.trunk.model(input_ids=tokens, use_cache=False).last_hidden_state
        return rows

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., n_vocab] of hidden rows, the trunk's or the MTP block's."""
        out: Tensor = self.trunk.lm_head(hidden)
        return out

    def drafted(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """The MTP block's rows [batch, tokens, width] for tokens and the hidden rows of the same positions.

        Row p has seen token p and the hidden row of p - 1; before the first there is a row of zeros, as in
        our decode loop.
        """
        before = functional.pad(hidden[:, :-1], (0, 0, 1, 0))
        positions = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
        rotary = self.trunk.model.rotary_emb(before, positions.expand(3, *tokens.shape))
        rows: Tensor = self.mtp(self.trunk.model.embed_tokens(tokens), before, rotary)
        return rows

    def losses(self, tokens: Tensor, lookahead: int) -> Losses:
        """Losses of token rows [batch, tokens].

        Draft losses flow back into the trunk (joint training). In a chain every step runs over whole rows,
        so at lookahead 2 attention sees keys made from the block's own rows, where a decode sees those made
        from the trunk's rows for all but the newest tokens.
        """
        self._routed.clear()
        hidden = self.hidden(tokens)
        trunk = self._loss(hidden, tokens)
        drafts = []
        for _ in range(lookahead):
            hidden = self.drafted(tokens, hidden)
            drafts.append(self._loss(hidden, tokens))
        routed: Any = tuple(self._routed)
        balance = load_balancing_loss_func(routed, self.shape.n_expert, self.shape.n_expert_used)
        self._routed.clear()
        return Losses(trunk, tuple(drafts), torch.as_tensor(balance))

    def _loss(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        logits = self.logits(hidden[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def _remember(trunk: nn.Module) -> None:
    """Give DeltaNet's heads memories of one to a thousand tokens to begin with.

    transformers starts every head with dt_bias 1 and a rate A up to 16, so that a state is gone after one token,
    and that hardly changes in a short run. As in Mamba (Gu & Dao 2023, 3.6) and the reference code of Gated
    DeltaNet, steps dt are drawn evenly in their logarithm between 0.001 and 0.1, and A between 1 and 16.
    """
    with torch.no_grad():
        for module in trunk.modules():
            if isinstance(module, Qwen3_5MoeGatedDeltaNet):
                low, high = math.log(1e-3), math.log(1e-1)
                dt = torch.exp(low + (high - low) * torch.rand_like(module.dt_bias))
                # The inverse of softplus, which the layer applies to the bias.
                module.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))
                module.A_log.copy_(torch.log(1 + 15 * torch.rand_like(module.A_log)))


def build(shape: Shape, seed: int) -> Miniature:
    """A fresh model with weights from `seed`."""
    torch.manual_seed(seed)
    return Miniature(shape)


def silence(model: Miniature, muted: tuple[int, ...]) -> None:
    """Start the output rows of tokens that no text holds at zero, so that all of them learn the same row."""
    with torch.no_grad():
        model.trunk.lm_head.weight[list(muted)] = 0.0
