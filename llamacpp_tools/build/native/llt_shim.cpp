#include "llt_shim.h"

#include "llama-ext.h"
#include "llt_batch.h"
#include "llt_choice.h"

#include <algorithm>

void llt_context_bytes(const llama_context * ctx, uint64_t * memory, uint64_t * compute) {
    *memory  = 0;
    *compute = 0;
    for (const auto & [buft, bytes] : llama_get_memory_breakdown(ctx)) {
        *memory  += bytes.context;
        *compute += bytes.compute;
    }
}

int32_t llt_argmax(const float * values, int32_t n, const llama_token * banned, int32_t n_banned) {
    const auto is_banned = [&](int32_t i) { return std::find(banned, banned + n_banned, i) != banned + n_banned; };

    const int32_t best = (int32_t) (std::max_element(values, values + n) - values);
    if (!is_banned(best)) {
        return best;
    }
    int32_t other = -1;
    for (int32_t i = 0; i < n; ++i) {
        if ((other < 0 || values[i] > values[other]) && !is_banned(i)) {
            other = i;
        }
    }
    return other;
}

struct llt_plain {
    llama_context * ctx;
    llt_choice      choose;
    llama_batch     prompt;
    llama_batch     one;
    llama_token     chosen;
};

llt_plain * llt_plain_new(llama_context * ctx, int32_t n_batch, const llama_token * banned, int32_t n_banned) {
    auto * plain = new llt_plain {
        ctx, llt_choice(ctx, banned, n_banned), llama_batch_init(n_batch, 0, 1), llama_batch_init(1, 0, 1),
        /* chosen */ LLAMA_TOKEN_NULL,
    };
    llt_batch_use_sequence_0(plain->prompt, n_batch);
    llt_batch_use_sequence_0(plain->one, 1);
    plain->one.n_tokens  = 1;
    plain->one.logits[0] = 1;
    return plain;
}

void llt_plain_free(llt_plain * plain) {
    if (plain == nullptr) {
        return;
    }
    llama_batch_free(plain->prompt);
    llama_batch_free(plain->one);
    delete plain;
}

void llt_plain_sample(llt_plain * plain, llama_sampler * sampler) {
    plain->choose.sampler = sampler;
}

int32_t llt_plain_prefill(llt_plain * plain, const llama_token * tokens, int32_t n, llama_pos pos0) {
    llt_batch_fill_prompt(plain->prompt, tokens, n, pos0);
    return llama_decode(plain->ctx, plain->prompt);
}

llama_token llt_plain_next(llt_plain * plain) {
    return plain->choose(plain->ctx, -1);
}

int32_t llt_plain_step(llt_plain * plain, llama_token token, llama_pos pos, llama_token * next) {
    plain->one.token[0] = token;
    plain->one.pos[0]   = pos;

    const int32_t status = llama_decode(plain->ctx, plain->one);
    if (status == 0) {
        *next = llt_plain_next(plain);
        plain->chosen = *next;
    }
    return status;
}

bool llt_plain_tied(const llt_plain * plain, float within) {
    if (plain->choose.sampler != nullptr || plain->chosen == LLAMA_TOKEN_NULL) {
        return false;
    }
    const float * logits = llama_get_logits_ith(plain->ctx, -1);
    const float   limit  = logits[plain->chosen] - within;
    int32_t       near   = 0;
    // All of them rather than a search that stops, so that the compiler makes vector code of it.
    for (int32_t i = 0; i < plain->choose.n_vocab; ++i) {
        near += logits[i] > limit;
    }
    return near > 1;
}
