// What the Python side needs of libllama that is C++ only, or that must not cost a Python call per token.
// Plain C, so that the same preprocessor run that reads llama.h reads this.
#pragma once

#include "llama.h"

#if defined(_WIN32)
#    define LLT_API __declspec(dllexport)
#else
#    define LLT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Bytes that a context holds for its memory (KV cells and recurrent state) and for compute buffers.
LLT_API void llt_context_bytes(const struct llama_context * ctx, uint64_t * memory, uint64_t * compute);

// Where a loaded model's tensors lie: their number, and of each its name and device; NULL for memory that the CPU reads
// in place. The name is the model's.
LLT_API int32_t            llt_tensor_count (const struct llama_model * model);
LLT_API const char *       llt_tensor_name  (const struct llama_model * model, int32_t index);
LLT_API ggml_backend_dev_t llt_tensor_device(const struct llama_model * model, int32_t index);

// Index of the largest of n values; the first one on a tie, as llama's greedy sampler does. The n_banned
// indices in `banned` are never chosen (end-of-generation tokens, when they are to be ignored).
LLT_API int32_t llt_argmax(const float * values, int32_t n, const llama_token * banned, int32_t n_banned);

// Ctrl-C. Between watch and unwatch SIGINT ends a decode of a context that heeds it (llama_decode's status 2, on the
// CPU) and then goes to the handler that was there. Watch says whether it watches now: not where another call does
// already, nor where nobody handles the signal. Call both from the thread that installs signal handlers.
LLT_API bool llt_watch_interrupt(void);
LLT_API void llt_unwatch_interrupt(void);
LLT_API void llt_heed_interrupt(struct llama_context * ctx);

// Plain decode, greedy or sampled. `banned` is copied.
struct llt_plain;

LLT_API struct llt_plain * llt_plain_new(struct llama_context * ctx, int32_t n_batch,
        const llama_token * banned, int32_t n_banned);
LLT_API void               llt_plain_free(struct llt_plain * plain);

// Choose tokens with a sampler chain, which stays the caller's; NULL for the most likely one. `banned` is for greedy
// choice alone: a chain bans with a sampler of its own.
LLT_API void llt_plain_sample(struct llt_plain * plain, struct llama_sampler * sampler);

// Decode n tokens at positions pos0.. (n <= n_batch); logits are kept for the last one only.
// Returns llama_decode's status.
LLT_API int32_t llt_plain_prefill(struct llt_plain * plain, const llama_token * tokens, int32_t n, llama_pos pos0);

// Decode one token at pos and return in *next the token chosen after it.
LLT_API int32_t llt_plain_step(struct llt_plain * plain, llama_token token, llama_pos pos, llama_token * next);

// The token chosen after the last prefill.
LLT_API llama_token llt_plain_next(struct llt_plain * plain);

// Whether another token was as likely as the one that the last step chose: its logit not below that one's by more than
// `within`. Several rows are added up in another order than one, so there a verification may choose the other token and
// be right. False with a sampler.
LLT_API bool llt_plain_tied(const struct llt_plain * plain, float within);

// MTP draft and verify, one sequence, drafts greedy. The target context must have been made with n_rs_seq >= n_max,
// the draft context with ctx_type MTP on the same model.
struct llt_mtp;
struct llt_auto;

struct llt_mtp_told {
    int32_t n_drafted;    // tokens that the MTP block proposed
    int32_t n_accepted;   // of these, how many the target agreed with
    int32_t status_draft; // llama_decode's status in the draft context, 0 if all went well
    int32_t status_target;
    int64_t draft_ns;     // time spent drafting; without a draft 0, or what catching up took as no more could wait
    int64_t verify_ns;    // time spent in the target's verification
    int32_t why;          // why the draft was to be so long, if a controller said so (llt_auto_why)
};

// n_batch: the largest prefill chunk; n_max: the largest draft; `banned` is copied.
LLT_API struct llt_mtp * llt_mtp_new(struct llama_context * target, struct llama_context * draft,
        int32_t n_batch, int32_t n_max, const llama_token * banned, int32_t n_banned);
LLT_API void             llt_mtp_free(struct llt_mtp * mtp);

// As llt_plain_sample: how the target's tokens are chosen, which a drafted one must equal to be accepted.
LLT_API void llt_mtp_sample(struct llt_mtp * mtp, struct llama_sampler * sampler);

// Decode n prompt tokens at positions pos0.. in both contexts. Returns llama_decode's status.
LLT_API int32_t llt_mtp_prefill(struct llt_mtp * mtp, const llama_token * tokens, int32_t n, llama_pos pos0);

// Forget the sequence: what is queued for the draft context and the carried hidden row.
LLT_API void llt_mtp_reset(struct llt_mtp * mtp);

// The token chosen after the last prefill.
LLT_API llama_token llt_mtp_next(struct llt_mtp * mtp);

// The trunk's hidden row at the last decoded position, n_embd floats: with the state of both contexts, all that a
// prefill leaves behind. May be written to, after llt_mtp_reset, to go on from a state that was kept.
LLT_API float * llt_mtp_carried(struct llt_mtp * mtp);

// One step: draft up to n_max tokens after `last` (which stands at pos), verify them, roll back the rest.
// out receives n_accepted + 1 tokens: the accepted ones and the target's own next one.
// A token that ends the text is the step's last one and counts as the target's own, also where it was drafted, and more
// after it.
// n_forced >= 0: accept that many drafted tokens (at most all) whatever the target says; the text means nothing then,
// and what a step costs can be measured for any acceptance.
// With a control, which stays the caller's, it says how many to draft, at most n_max, and is told what came of it: in the
// same call, as a caller's own code between two decodes is run with cold caches. NULL for n_max each time.
LLT_API int32_t llt_mtp_step(struct llt_mtp * mtp, struct llt_auto * control, llama_token last, llama_pos pos,
        int32_t n_max, float p_min, int32_t n_forced, llama_token * out, struct llt_mtp_told * told);

// Watch without stepping in: draft n_draft tokens after `last` (which stands at pos) into `drafted`, forget them, and
// have the target decode `last` alone; *next is the token chosen after it. The text is that of plain decode.
LLT_API int32_t llt_mtp_watch(struct llt_mtp * mtp, llama_token last, llama_pos pos, int32_t n_draft,
        llama_token * drafted, llama_token * next, struct llt_mtp_told * told);

// While nothing is drafted the draft context sees no token; the next draft begins by decoding those that it missed, but for
// all that are older than the last n (a step's own are never left out): positions may be left out with M-RoPE alone. All
// by default. A step with a control asks llt_auto_catch_up instead.
LLT_API void llt_mtp_catch_up(struct llt_mtp * mtp, int32_t n);

// To bisect a fault. Without history each draft begins with an empty cache of the MTP block and sees its own pair alone.
// The factors (n_embd each, NULL for none, copied) scale the hidden rows of the trunk, and the block's own on their way
// to its next draft. Call it before a prefill.
LLT_API void llt_mtp_bisect(struct llt_mtp * mtp, bool history, const float * trunk_factors,
        const float * block_factors);

// The length of the next draft, by the rules of `--spec-draft-auto` in the server of the same build. New gives NULL where
// the tree has no such rules; gaps says whether positions may be left out. Ask choose, then say told, once a step; why tells
// the reason of the last choice, catch_up how many tokens the next draft catches up with, at most.
LLT_API struct llt_auto * llt_auto_new   (int32_t limit, bool gaps);
LLT_API void              llt_auto_free  (struct llt_auto * control);
LLT_API void              llt_auto_begin (struct llt_auto * control);
LLT_API int32_t           llt_auto_choose(struct llt_auto * control);
LLT_API int32_t           llt_auto_why   (const struct llt_auto * control);
LLT_API int32_t           llt_auto_catch_up(const struct llt_auto * control);
LLT_API void              llt_auto_told  (struct llt_auto * control, int32_t drafted, int32_t accepted,
        int64_t draft_ns, int64_t verify_ns);

// Time that choose and told have taken since it was made.
LLT_API int64_t           llt_auto_own_ns(const struct llt_auto * control);

#ifdef __cplusplus
}
#endif
