// The draft length that steers itself, by the very rules that the patched server has.

#include "llt_shim.h"

// The patch spec-draft-auto brings it; a tree without it has no rules, and cmake says which it is: of a header that the
// preprocessor looked for in vain ccache knows nothing, so it would hand a stock build's object to a patched one.
#ifdef LLT_AUTO_RULES
#    include "llt_clock.h"
#    include "speculative-auto.h"

struct llt_auto {
    common_speculative_auto rules;
    int64_t                 own_ns = 0;
};

namespace {

// Adds the time of its scope to what the rules have taken.
struct llt_own_time {
    llt_auto *    control;
    const int64_t begun = llt_now_ns();

    explicit llt_own_time(llt_auto * control) : control(control) {}
    ~llt_own_time() { control->own_ns += llt_now_ns() - begun; }
};

} // namespace

llt_auto * llt_auto_new(int32_t limit, bool gaps) {
    return new llt_auto { common_speculative_auto(limit, gaps) };
}

void llt_auto_free(llt_auto * control) {
    delete control;
}

void llt_auto_begin(llt_auto * control) {
    control->rules.begin();
}

int32_t llt_auto_choose(llt_auto * control) {
    const llt_own_time time(control);
    return control->rules.choose();
}

int32_t llt_auto_why(const llt_auto * control) {
    return control->rules.why;
}

int32_t llt_auto_catch_up(const llt_auto * control) {
    return control->rules.n_catch_up();
}

void llt_auto_told(llt_auto * control, int32_t drafted, int32_t accepted, int64_t draft_ns, int64_t verify_ns) {
    const llt_own_time time(control);
    control->rules.told({{drafted, accepted}}, draft_ns, verify_ns);
}

int64_t llt_auto_own_ns(const llt_auto * control) {
    return control->own_ns;
}

#else

llt_auto * llt_auto_new(int32_t, bool) {
    return nullptr;
}

void    llt_auto_free  (llt_auto *) {}
void    llt_auto_begin (llt_auto *) {}
int32_t llt_auto_choose(llt_auto *) { return 0; }
int32_t llt_auto_why   (const llt_auto *) { return 0; }
int32_t llt_auto_catch_up(const llt_auto *) { return 0; }
void    llt_auto_told  (llt_auto *, int32_t, int32_t, int64_t, int64_t) {}
int64_t llt_auto_own_ns(const llt_auto *) { return 0; }

#endif
