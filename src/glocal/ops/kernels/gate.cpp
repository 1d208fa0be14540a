// Multiplies a float32 map by one value per window: the gate of channel attention.

#include "export.h"
#include "threads.h"

#include <algorithm>
#include <new>
#include <vector>

using namespace glocal;

namespace {

// The windows of the pixels along one axis. Pixel `before` has the first of `count` windows, and
// each further window belongs to the pixel `step` later; pixels between them interpolate.
struct Axis {
    Index count, before, step;

    Index window(Index pixel) const {
        return std::min(std::max(pixel - before, Index(0)) / step, count - 1);
    }
    float share(Index pixel) const {  // the weight of the next window
        const Index past = std::max(pixel - before, Index(0)) - window(pixel) * step;
        return window(pixel) == count - 1 ? 0.0f : float(past) / float(step);
    }
};

// For each pixel of a row: its window, the next window, and the weight of the next window.
struct Row {
    std::vector<Index> here, next;
    std::vector<float> share;

    Row(const Axis& axis, Index pixels) : here(pixels), next(pixels), share(pixels) {
        for (Index p = 0; p < pixels; p++) {
            here[p] = axis.window(p);
            share[p] = axis.share(p);
            next[p] = here[p] + (share[p] > 0);
        }
    }
};

// Multiplies a row of pixels by the values of their windows; `made` is a buffer for one row.
void multiply_row(const float* x, const float* values, float* out, Index y, Index c,
                  const Axis& rows, Index along, const Row& row, float* __restrict made) {
    const Index m = along * c;
    const float* at = values + rows.window(y) * m;
    const float share = rows.share(y);
    if (share > 0) {
        for (Index i = 0; i < m; i++) made[i] = at[i] + share * (at[i + m] - at[i]);
        at = made;
    }
    const Index w = row.here.size();
    if (c == 1) {
#pragma omp simd
        for (Index p = 0; p < w; p++) {
            const float here = at[row.here[p]], next = at[row.next[p]];
            out[p] = x[p] * (here + row.share[p] * (next - here));
        }
        return;
    }
    for (Index p = 0; p < w; p++) {
        const float *here = at + row.here[p] * c, *next = at + row.next[p] * c;
        const float part = row.share[p];
#pragma omp simd
        for (Index l = 0; l < c; l++)
            out[p * c + l] = x[p * c + l] * (here[l] + part * (next[l] - here[l]));
    }
}

}  // namespace

extern "C" {

// out: (outer, h, w, c), x times the values (outer, windows down, windows along, c) of its windows.
EXPORT int glocal_multiply(const float* x, const float* values, float* out, Index outer, Index h,
                           Index w, Index c, Index down, Index top, Index step_down, Index along,
                           Index left, Index step_along, Index threads) {
    try {
        const Axis rows{down, top, step_down};
        const Row row({along, left, step_along}, w);
        std::vector<float> made(threads * along * c);
        const Index items = outer * h;
        for_each(items, threads, equal_parts(items, threads), [&](Index item, Index thread) {
            multiply_row(x + item * w * c, values + item / h * down * along * c,
                         out + item * w * c, item % h, c, rows, along, row,
                         &made[thread * along * c]);
        });
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
}
