// Ctrl-C during a decode. The interpreter sees a signal only once the call into the library is over, which may be
// minutes; so while somebody watches, a handler of ours raises a flag that the CPU backend asks for between two
// nodes of a graph, and then does what the interpreter's own handler does.

#include "llt_shim.h"

#include <atomic>
#include <csignal>

namespace {

std::atomic<bool> asked{false};

bool is_asked(void *) {
    return asked.load(std::memory_order_relaxed);
}

} // namespace

void llt_heed_interrupt(llama_context * ctx) {
    llama_set_abort_callback(ctx, is_asked, nullptr);
}

#if defined(_WIN32)

bool llt_watch_interrupt(void) {
    return false;
}

void llt_unwatch_interrupt(void) {}

#else

namespace {

struct sigaction theirs;
bool             watching = false;

void on_interrupt(int number) {
    asked.store(true, std::memory_order_relaxed);
    theirs.sa_handler(number);
}

} // namespace

bool llt_watch_interrupt(void) {
    asked.store(false, std::memory_order_relaxed);
    if (watching || sigaction(SIGINT, nullptr, &theirs) != 0) {
        return false;
    }
    // Where nobody handles the signal, it ends the process or is ignored, and both need no help.
    if ((theirs.sa_flags & SA_SIGINFO) != 0 || theirs.sa_handler == SIG_DFL || theirs.sa_handler == SIG_IGN) {
        return false;
    }
    struct sigaction ours = theirs;
    ours.sa_handler = on_interrupt;
    watching = sigaction(SIGINT, &ours, nullptr) == 0;
    return watching;
}

void llt_unwatch_interrupt(void) {
    if (watching) {
        sigaction(SIGINT, &theirs, nullptr);
        watching = false;
    }
    asked.store(false, std::memory_order_relaxed);
}

#endif
