// The clock that steps are timed with.
#pragma once

#include <chrono>
#include <cstdint>

inline int64_t llt_now_ns() {
    using namespace std::chrono;
    return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}
