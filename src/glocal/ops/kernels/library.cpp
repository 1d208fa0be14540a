// What the loader asks of a library, and the threads that all kernels share.
//
// Nothing here links to an OpenMP runtime. torch brings one, and a second one in the process would
// have its own pool of threads, which competes with torch's for the cores. The loader passes
// torch's GOMP_parallel, which GNU's, LLVM's and Intel's runtimes all export; without it, threads
// are started anew for each call.

#include "export.h"
#include "threads.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace {

using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

Parallel openmp = nullptr;

#if defined(__x86_64__)
unsigned long long enabled_registers() {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}
#endif

}  // namespace

namespace glocal {

void run_on_threads(void (*body)(void*), void* data, Index threads, Index useful) {
    if (openmp) {
        // always the same number: the runtime ends threads when a team is smaller than the last
        openmp(body, data, unsigned(threads), 0);
        return;
    }
    std::vector<std::thread> others;
    try {
        const Index count = std::min(threads, useful);
        others.reserve(std::max(count, Index(1)) - 1);
        while (Index(others.size()) + 1 < count) others.emplace_back(body, data);
    } catch (const std::exception&) {
        // no memory or no threads left: the ones that run take all items
    }
    body(data);
    for (std::thread& other : others) other.join();
}

}  // namespace glocal

extern "C" {

// Takes a runtime's GOMP_parallel, or null to start threads anew for each call.
EXPORT void glocal_use_openmp(Parallel parallel) { openmp = parallel; }

// What the processor and the operating system support, of what the variants need; bit i belongs to
// name i of the loader's FEATURES.
EXPORT unsigned glocal_features() {
    unsigned features = 0;
#if defined(__x86_64__)
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;
    const bool fma = c >> 12 & 1, avx = c >> 28 & 1;
    const unsigned long long enabled = enabled_registers();
    if (!avx || (enabled & 0x6) != 0x6) return 0;  // 256-bit registers
    if (fma) features |= 1;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
    if (b >> 5 & 1) features |= 1 << 1;
    if ((enabled & 0xe6) != 0xe6) return features;  // 512-bit and mask registers
    if (b >> 16 & 1) features |= 1 << 2;
    if (b >> 17 & 1) features |= 1 << 3;
    if (b >> 30 & 1) features |= 1 << 4;
    if (b >> 31 & 1) features |= 1 << 5;
#endif
    return features;
}
}
