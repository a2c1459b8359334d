// The steered server's rules on made-up costs, where the number of requests that decode together changes.
//
//     changing_requests known SEED    one request for 600 steps, then two for 40
//     changing_requests anew SEED     the same with a controller for two that knows nothing of one's
//     changing_requests returns SEED  one for 1500 steps in which hardly a draft survives, then 600 in which they do, and
//                                     with each step there is another number of requests: one, two, one, ...
//     changing_requests joins SEED    two for three steps, one for a single step, and so on, 600 steps; drafts survive
//
// Prints a line for each of the last steps: how many requests, tokens drafted, why.

#include "speculative-auto.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

// As the server has it: a controller for each number of requests, which goes on from the one before.
struct server {
    static constexpr int LIMIT = 5, MOST = 2;

    std::mt19937 chance;
    std::vector<common_speculative_auto> rules = std::vector<common_speculative_auto>(MOST, { LIMIT, true });

    bool anew; // a controller knows nothing where the number changes

    int before  = 0;
    int waiting = 0; // tokens that were decoded without a draft since the last one

    server(int seed, bool anew) : chance(seed), anew(anew) {}

    // One step of so many requests, of whose drafted tokens each survives with this chance; right after a step without
    // a draft with a third of it, as the block has yet to catch up.
    void step(int requests, double survives, bool show = false) {
        auto & own = rules[requests - 1];
        if (before > 0 && before != requests && !anew) {
            own.go_on_from(rules[before - 1], waiting);
        }
        before = requests;

        const int length = own.choose();
        if (show) {
            printf("%d %d %d\n", requests, length, (int) own.why);
        }

        std::bernoulli_distribution accepts(waiting > 0 ? survives/3 : survives);
        std::vector<std::pair<int, int>> outcomes;
        for (int i = 0; i < requests; ++i) {
            int accepted = 0;
            while (accepted < length && accepts(chance)) {
                accepted++;
            }
            outcomes.emplace_back(length, accepted);
        }
        // Two requests take 1.6 times as long as one, a draft of three and its check as long as a plain step.
        const double plain = (requests == 1 ? 1e6 : 1.6e6)*std::lognormal_distribution<double>(0.0, 0.03)(chance);
        const int    late  = length > 0 ? std::min(waiting, own.n_catch_up()) : 0;
        own.told(outcomes, (int64_t) ((0.13*length + 0.03*late)*plain), (int64_t) ((1 + 0.2*length)*plain));
        waiting = length > 0 ? 0 : waiting + 1;
    }
};

int main(int argc, char ** argv) {
    if (argc != 3) {
        return 2;
    }
    const bool anew = strcmp(argv[1], "anew") == 0;
    server     all(atoi(argv[2]), anew);

    if (anew || strcmp(argv[1], "known") == 0) {
        for (int i = 0; i < 600; ++i) {
            all.step(1, 0.9);
        }
        for (int i = 0; i < 40; ++i) {
            all.step(2, 0.9, true);
        }
    } else if (strcmp(argv[1], "returns") == 0) {
        for (int i = 0; i < 1500; ++i) {
            all.step(1, 0.1);
        }
        for (int i = 0; i < 600; ++i) {
            all.step(1 + i % 2, 0.95, true);
        }
    } else if (strcmp(argv[1], "joins") == 0) {
        for (int i = 0; i < 600; ++i) {
            all.step(i % 4 == 3 ? 1 : 2, 0.9, true);
        }
    } else {
        return 2;
    }
    return 0;
}
