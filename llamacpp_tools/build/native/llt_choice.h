// How the token after a row of logits is chosen.
#pragma once

#include "llt_shim.h"

#include <vector>

struct llt_choice {
    int32_t                  n_vocab;
    std::vector<llama_token> banned;
    llama_sampler *          sampler = nullptr; // not owned; nullptr for the most likely token

    llt_choice(const llama_context * ctx, const llama_token * banned, int32_t n_banned)
        : n_vocab(llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)))),
          banned(banned, banned + n_banned) {}

    // Draws once from a sampler with a seed, so a text takes as many draws as it has tokens, drafted or not.
    llama_token operator()(llama_context * ctx, int32_t row) const {
        if (sampler != nullptr) {
            return llama_sampler_sample(sampler, ctx, row);
        }
        return llt_argmax(llama_get_logits_ith(ctx, row), n_vocab, banned.data(), (int32_t) banned.size());
    }
};
