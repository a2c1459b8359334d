// MTP draft and verify for one sequence.
//
// The MTP block predicts token t+2 from the pair (hidden row of the trunk at t, token t+1). Its own cache must
// therefore hold, for every position p, the pair (hidden row at p-1, token at p). Rows the trunk has produced
// and the block has not seen yet wait in `pending`, already in the layout of a batch, and ride along with
// the first draft decode of the next step: catching up costs no decode of its own. Where many wait, as nothing was
// drafted for a while, only the last of them do: the older ones leave a hole in the block's cache.

#include "llt_shim.h"

#include "llama-ext.h"
#include "llt_batch.h"
#include "llt_choice.h"
#include "llt_clock.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

namespace {

// llama_batch_init allocates tokens or embeddings; the MTP graph takes both.
llama_batch batch_with_both(int32_t n_tokens, int32_t n_embd) {
    llama_batch batch = llama_batch_init(n_tokens, n_embd, 1);
    batch.token = (llama_token *) std::malloc(sizeof(llama_token) * n_tokens);
    return batch;
}

// The top token's share among the ten largest logits: what upstream's draft sampler calls its probability.
float top_share(const float * logits, int32_t n, int32_t best) {
    constexpr size_t k = 10;
    float  top[k];
    size_t held = 0;
    for (int32_t i = 0; i < n; ++i) {
        if (held < k) {
            top[held++] = logits[i];
            std::push_heap(top, top + held, std::greater<float>());
        } else if (logits[i] > top[0]) {
            std::pop_heap(top, top + k, std::greater<float>());
            top[k - 1] = logits[i];
            std::push_heap(top, top + k, std::greater<float>());
        }
    }
    float sum = 0.0f;
    for (size_t i = 0; i < held; ++i) {
        sum += std::exp(top[i] - logits[best]);
    }
    return 1.0f / sum;
}

} // namespace

struct llt_mtp {
    llama_context * target;
    llama_context * draft;
    llt_choice      choose;
    int32_t         n_embd;
    int32_t         n_batch;
    int32_t         n_max;

    const llama_vocab * vocab;

    llama_batch     verify;  // [last] + drafted tokens, for the target
    llama_batch     prompt;  // a prefill chunk, for the target
    llama_batch     pending; // (hidden row, token) pairs the draft context has not seen
    llama_batch     one;     // one drafted pair

    std::vector<float>       carried; // the trunk's row at the last decoded position
    std::vector<llama_token> drafted;

    // Pairs that a draft catches up with, at most; with fewer than a step leaves behind, it would lose fresh ones.
    int32_t                  n_catch_up = INT32_MAX - 1;

    // To bisect a fault (`llt_mtp_bisect`); empty factors leave the rows as the library gives them.
    bool                     history = true;
    std::vector<float>       trunk_factors;
    std::vector<float>       block_factors;

    void push(llama_token token, llama_pos pos, const float * row) {
        const int32_t i = pending.n_tokens++;
        pending.token[i]  = token;
        pending.pos[i]    = pos;
        pending.logits[i] = 0;
        put_row(pending.embd + (size_t) i * n_embd, row, trunk_factors);
    }

    void put_row(float * to, const float * row, const std::vector<float> & factors) const {
        std::memcpy(to, row, sizeof(float) * n_embd);
        for (size_t i = 0; i < factors.size(); ++i) {
            to[i] *= factors[i];
        }
    }

    int32_t flush() {
        return flush_last(pending.n_tokens);
    }

    // The last n of what waits is decoded, the rest is let go.
    int32_t flush_last(int32_t n) {
        const int32_t first = pending.n_tokens - n;
        pending.n_tokens = 0;
        if (n == 0) {
            return 0;
        }
        llama_batch last = pending;
        last.n_tokens  = n;
        last.token    += first;
        last.embd     += (size_t) first * n_embd;
        last.pos      += first;
        last.n_seq_id += first;
        last.seq_id   += first;
        last.logits   += first;
        return llama_decode(draft, last);
    }

    bool full() const {
        return pending.n_tokens == std::max(n_batch, n_max + 1);
    }

    // There is no room left: what no draft will catch up with any more goes, or all is decoded.
    int32_t make_room() {
        const int32_t first = pending.n_tokens - n_catch_up;
        if (first <= 0) {
            return flush();
        }
        std::copy_n(pending.token + first, n_catch_up, pending.token);
        std::copy_n(pending.pos   + first, n_catch_up, pending.pos);
        std::memmove(pending.embd, pending.embd + (size_t) first * n_embd, sizeof(float) * n_catch_up * n_embd);
        pending.n_tokens = n_catch_up;
        return 0;
    }
};

llt_mtp * llt_mtp_new(llama_context * target, llama_context * draft, int32_t n_batch, int32_t n_max,
        const llama_token * banned, int32_t n_banned) {
    const int32_t n_embd    = llama_model_n_embd(llama_get_model(target));
    const int32_t n_pending = std::max(n_batch, n_max + 1);

    auto * mtp = new llt_mtp {
        target, draft, llt_choice(target, banned, n_banned), n_embd, n_batch, n_max,
        llama_model_get_vocab(llama_get_model(target)),
        /* verify  */ llama_batch_init(n_max + 1, 0, 1),
        /* prompt  */ llama_batch_init(n_batch, 0, 1),
        /* pending */ batch_with_both(n_pending, n_embd),
        /* one     */ batch_with_both(1, n_embd),
        /* carried */ std::vector<float>(n_embd, 0.0f),
        /* drafted */ std::vector<llama_token>(n_max + 1),
    };
    llt_batch_use_sequence_0(mtp->verify, n_max + 1);
    llt_batch_use_sequence_0(mtp->prompt, n_batch);
    llt_batch_use_sequence_0(mtp->pending, n_pending);
    llt_batch_use_sequence_0(mtp->one, 1);
    std::fill(mtp->verify.logits, mtp->verify.logits + n_max + 1, 1);
    mtp->pending.n_tokens = 0;
    mtp->one.n_tokens     = 1;
    mtp->one.logits[0]    = 1;

    llama_set_embeddings_nextn(target, true, /*masked*/ false);
    // Masked, a draft context hands out the rows of the *first* outputs tokens of a batch, whichever were
    // asked for (upstream's MTP graphs never gather them); the pairs that ride along make that the wrong row.
    llama_set_embeddings_nextn(draft, true, /*masked*/ false);
    return mtp;
}

void llt_mtp_free(llt_mtp * mtp) {
    if (mtp == nullptr) {
        return;
    }
    // llama_batch_free frees token and embd alike.
    llama_batch_free(mtp->verify);
    llama_batch_free(mtp->prompt);
    llama_batch_free(mtp->pending);
    llama_batch_free(mtp->one);
    delete mtp;
}

int32_t llt_mtp_prefill(llt_mtp * mtp, const llama_token * tokens, int32_t n, llama_pos pos0) {
    int32_t status = mtp->flush();
    if (status != 0) {
        return status;
    }
    llt_batch_fill_prompt(mtp->prompt, tokens, n, pos0);
    status = llama_decode(mtp->target, mtp->prompt);
    if (status != 0) {
        return status;
    }
    const float * rows = llama_get_embeddings_nextn(mtp->target);
    mtp->push(tokens[0], pos0, mtp->carried.data());
    for (int32_t i = 1; i < n; ++i) {
        mtp->push(tokens[i], pos0 + i, rows + (size_t) (i - 1) * mtp->n_embd);
    }
    std::memcpy(mtp->carried.data(), rows + (size_t) (n - 1) * mtp->n_embd, sizeof(float) * mtp->n_embd);
    return mtp->flush();
}

void llt_mtp_catch_up(llt_mtp * mtp, int32_t n) {
    mtp->n_catch_up = std::min(std::max(n, mtp->n_max + 1), INT32_MAX - 1);
}

void llt_mtp_sample(llt_mtp * mtp, llama_sampler * sampler) {
    mtp->choose.sampler = sampler;
}

void llt_mtp_reset(llt_mtp * mtp) {
    mtp->pending.n_tokens = 0;
    std::fill(mtp->carried.begin(), mtp->carried.end(), 0.0f);
}

llama_token llt_mtp_next(llt_mtp * mtp) {
    return mtp->choose(mtp->target, -1);
}

float * llt_mtp_carried(llt_mtp * mtp) {
    return mtp->carried.data();
}

void llt_mtp_bisect(llt_mtp * mtp, bool history, const float * trunk_factors, const float * block_factors) {
    const size_t n = (size_t) mtp->n_embd;
    mtp->history = history;
    mtp->trunk_factors.assign(trunk_factors, trunk_factors + (trunk_factors != nullptr ? n : 0));
    mtp->block_factors.assign(block_factors, block_factors + (block_factors != nullptr ? n : 0));
}

// Draft up to n_max tokens after `last`; the pair (carried, last) closes the pending batch.
static int32_t draft_tokens(llt_mtp * mtp, llama_token last, llama_pos pos, int32_t n_max, float p_min,
        llt_mtp_told * told) {
    if (mtp->full()) {
        const int32_t status = mtp->make_room();
        if (status != 0) {
            return status;
        }
    }
    if (!mtp->history) {
        mtp->pending.n_tokens = 0;
        llama_memory_seq_rm(llama_get_memory(mtp->draft), 0, -1, -1);
    }
    mtp->push(last, pos, mtp->carried.data());
    if (n_max == 0) {
        return 0;
    }
    mtp->pending.logits[mtp->pending.n_tokens - 1] = 1;

    // Unmasked rows lie in batch order: the newest pair's is the last one.
    const int32_t n_pairs = std::min(mtp->pending.n_tokens, mtp->n_catch_up + 1);
    int32_t newest = n_pairs - 1;
    int32_t status = mtp->flush_last(n_pairs);
    while (status == 0) {
        const float * logits = llama_get_logits_ith(mtp->draft, -1);
        const int32_t best   = llt_argmax(logits, mtp->choose.n_vocab, nullptr, 0);
        if (p_min > 0.0f && top_share(logits, mtp->choose.n_vocab, best) < p_min) {
            break;
        }
        mtp->drafted[told->n_drafted++] = best;
        if (told->n_drafted == n_max) {
            break;
        }
        mtp->one.token[0] = best;
        mtp->one.pos[0]   = pos + told->n_drafted;
        mtp->put_row(mtp->one.embd, llama_get_embeddings_nextn_ith(mtp->draft, newest), mtp->block_factors);
        status = llama_decode(mtp->draft, mtp->one);
        newest = 0;
    }
    return status;
}

// Verify the draft in one target batch, keep what agrees (or n_forced of it, if that is not negative), and queue the
// true pairs for the draft context.
static int32_t verify_draft(llt_mtp * mtp, llama_token last, llama_pos pos, int32_t n_forced, llama_token * out,
        llt_mtp_told * told) {
    llama_batch & batch = mtp->verify;
    batch.n_tokens = told->n_drafted + 1;
    batch.token[0] = last;
    batch.pos[0]   = pos;
    for (int32_t i = 0; i < told->n_drafted; ++i) {
        batch.token[i + 1] = mtp->drafted[i];
        batch.pos[i + 1]   = pos + 1 + i;
    }
    const int32_t status = llama_decode(mtp->target, batch);
    if (status != 0) {
        return status;
    }
    int32_t n = 0;
    for (;; ++n) {
        // Chosen also where the choice is not asked for, so that a forced step costs what a free one does.
        out[n] = mtp->choose(mtp->target, n);
        const bool agrees = n < told->n_drafted && (n_forced < 0 ? out[n] == mtp->drafted[n] : n < n_forced);
        // What was drafted after the token that ends a text is not part of it: both caches end before that token.
        if (!agrees || (n_forced < 0 && llama_vocab_is_eog(mtp->vocab, out[n]))) {
            break;
        }
        out[n] = mtp->drafted[n];
    }
    told->n_accepted = n;

    const float * rows = llama_get_embeddings_nextn(mtp->target);
    for (int32_t i = 0; i < n; ++i) {
        mtp->push(out[i], pos + 1 + i, rows + (size_t) i * mtp->n_embd);
    }
    std::memcpy(mtp->carried.data(), rows + (size_t) n * mtp->n_embd, sizeof(float) * mtp->n_embd);
    return 0;
}

int32_t llt_mtp_step(llt_mtp * mtp, llt_auto * control, llama_token last, llama_pos pos, int32_t n_max, float p_min,
        int32_t n_forced, llama_token * out, llt_mtp_told * told) {
    *told = {};
    if (control != nullptr) {
        n_max = std::min(n_max, llt_auto_choose(control));
        told->why = llt_auto_why(control);
        llt_mtp_catch_up(mtp, llt_auto_catch_up(control));
    }

    const bool    idle = n_max == 0 && !(mtp->full() && mtp->pending.n_tokens <= mtp->n_catch_up);
    const int64_t t0   = llt_now_ns();
    told->status_draft = draft_tokens(mtp, last, pos, std::min(n_max, mtp->n_max), p_min, told);
    const int64_t t1   = idle ? t0 : llt_now_ns();
    told->draft_ns = t1 - t0;
    if (told->status_draft != 0) {
        return told->status_draft;
    }

    told->status_target = verify_draft(mtp, last, pos, n_forced, out, told);
    if (told->status_target == 0) {
        // What was rejected leaves both caches. In the draft context also the accepted guesses go: they were
        // made from its own hidden rows, and the trunk's rows for them wait in `pending`.
        // Only where something was rejected or guessed: a cache looks through all its cells for what is to go.
        if (told->n_accepted < told->n_drafted &&
                !llama_memory_seq_rm(llama_get_memory(mtp->target), 0, pos + 1 + told->n_accepted, -1)) {
            told->status_target = -100;
        }
        if (told->n_drafted > 0) {
            llama_memory_seq_rm(llama_get_memory(mtp->draft), 0, pos + 1, -1);
        }
    }
    told->verify_ns = llt_now_ns() - t1;
    if (control != nullptr && told->status_target == 0) {
        llt_auto_told(control, told->n_drafted, told->n_accepted, told->draft_ns, told->verify_ns);
    }
    return told->status_target;
}

int32_t llt_mtp_watch(llt_mtp * mtp, llama_token last, llama_pos pos, int32_t n_draft, llama_token * drafted,
        llama_token * next, llt_mtp_told * told) {
    *told = {};

    const int64_t t0 = llt_now_ns();
    told->status_draft = draft_tokens(mtp, last, pos, std::min(n_draft, mtp->n_max), 0.0f, told);
    const int64_t t1 = llt_now_ns();
    told->draft_ns = t1 - t0;
    if (told->status_draft != 0) {
        return told->status_draft;
    }
    std::copy(mtp->drafted.begin(), mtp->drafted.begin() + told->n_drafted, drafted);
    // What the block guessed from its own rows goes before anything can be built on it.
    llama_memory_seq_rm(llama_get_memory(mtp->draft), 0, pos + 1, -1);

    // Verified is nothing: the target decodes `last` alone, as plain decode does.
    llt_mtp_told plain = {};
    told->status_target = verify_draft(mtp, last, pos, 0, next, &plain);
    told->verify_ns = llt_now_ns() - t1;
    return told->status_target;
}
