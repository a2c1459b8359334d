// Batches of one sequence, filled once where they never change.
#pragma once

#include "llama.h"

// Every entry belongs to sequence 0.
inline void llt_batch_use_sequence_0(llama_batch & batch, int32_t n_tokens) {
    for (int32_t i = 0; i < n_tokens; ++i) {
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
    }
}

// n prompt tokens at positions pos0.., logits for the last one only.
inline void llt_batch_fill_prompt(llama_batch & batch, const llama_token * tokens, int32_t n, llama_pos pos0) {
    batch.n_tokens = n;
    for (int32_t i = 0; i < n; ++i) {
        batch.token[i]  = tokens[i];
        batch.pos[i]    = pos0 + i;
        batch.logits[i] = i == n - 1;
    }
}
