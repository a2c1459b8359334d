// Preloaded into upstream's test-arg-parser, whose last part fetches two pages of ggml.ai: sends whoever asks for
// that host to the server on this machine whose port LLT_GGML_AI_PORT names.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

typedef int (*lookup)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char * node, const char * service, const struct addrinfo * hints, struct addrinfo ** found) {
    const lookup next = (lookup) dlsym(RTLD_NEXT, "getaddrinfo");
    if (node != NULL && strcmp(node, "ggml.ai") == 0) {
        return next("127.0.0.1", getenv("LLT_GGML_AI_PORT"), hints, found);
    }
    return next(node, service, hints, found);
}
