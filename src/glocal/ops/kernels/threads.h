// Loops over independent items, shared by several threads.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace glocal {

using Index = std::ptrdiff_t;

// Runs body(data) on `threads` threads at once, the calling thread included, and waits for all of
// them. There may be fewer threads, and at most `useful` are worth starting.
void run_on_threads(void (*body)(void*), void* data, Index threads, Index useful);

// Calls f(item, thread) for every item below n. Threads are numbered from 0 and take `chunk` items
// at a time, in any order. f must not throw unless `threads` is 1.
template <typename F>
void for_each(Index n, Index threads, Index chunk, F f) {
    if (threads == 1) {
        for (Index i = 0; i < n; i++) f(i, Index(0));
        return;
    }
    struct Loop {
        F& f;
        const Index n, chunk;
        std::atomic<Index> next{0}, threads{0};

        static void run(void* self) {
            Loop& loop = *static_cast<Loop*>(self);
            const Index thread = loop.threads++;
            for (Index begin; (begin = loop.next.fetch_add(loop.chunk)) < loop.n;) {
                const Index end = begin + loop.chunk < loop.n ? begin + loop.chunk : loop.n;
                for (Index i = begin; i < end; i++) loop.f(i, thread);
            }
        }
    } loop{f, n, chunk};
    run_on_threads(&Loop::run, &loop, threads, (n + chunk - 1) / chunk);
}

// The chunk that gives every thread one equal part of n items.
inline Index equal_parts(Index n, Index threads) {
    return std::max((n + threads - 1) / threads, Index(1));
}

}  // namespace glocal
