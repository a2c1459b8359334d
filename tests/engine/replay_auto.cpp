// Drives the patch's controller with a recorded trace: `llamacpp_tools.engine.control` must have chosen the same.
//
// Of each line of stdin: `new LIMIT`, `begin`, or `step DRAFTED ACCEPTED DRAFT_NS VERIFY_NS`. For each step it prints
// what was chosen before it was told, and why.

#include "speculative-auto.h"

#include <iostream>
#include <memory>
#include <string>

int main() {
    std::unique_ptr<common_speculative_auto> control;
    std::string word;
    while (std::cin >> word) {
        if (word == "new") {
            int limit = 0;
            std::cin >> limit;
            control.reset(new common_speculative_auto(limit));
        } else if (word == "begin") {
            control->begin();
        } else {
            int drafted = 0;
            int accepted = 0;
            int64_t draft_ns = 0;
            int64_t verify_ns = 0;
            std::cin >> drafted >> accepted >> draft_ns >> verify_ns;
            const int chosen = control->choose();
            std::cout << chosen << " " << control->why << "\n";
            control->told({{drafted, accepted}}, draft_ns, verify_ns);
        }
    }
    return 0;
}
