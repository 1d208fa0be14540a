// Meets float32 maps with one value per window, or crop: the gate of channel attention, and the
// normalisation by statistics of crops. Values are interpolated between windows.

#include "export.h"
#include "threads.h"

#include <new>
#include <vector>

using namespace glocal;

namespace {

// The windows of the pixels along one axis: for each pixel its window and the weight of the next.
struct Axis {
    const Index* window;
    const float* share;
};

// One row of values (along, c), interpolated down the columns; `made` is a buffer for one row.
const float* row_of(const float* values, const Axis& rows, Index y, Index m, float* __restrict made) {
    const float* at = values + rows.window[y] * m;
    const float share = rows.share[y];
    if (share == 0) return at;
    for (Index i = 0; i < m; i++) made[i] = at[i] + share * (at[i + m] - at[i]);
    return made;
}

// Calls f(pixel, channel, here, next, share) for the values of a row: pixel by pixel, with the
// places of the two windows in a row of values.
template <typename F> void for_pixels(const Axis& columns, Index w, Index c, F f) {
    if (c == 1) {
#pragma omp simd
        for (Index p = 0; p < w; p++) {
            const Index here = columns.window[p];
            f(p, 0, here, here + (columns.share[p] > 0), columns.share[p]);
        }
        return;
    }
    for (Index p = 0; p < w; p++) {
        const Index here = columns.window[p] * c;
        const float share = columns.share[p];
        const Index next = here + (share > 0 ? c : 0);
#pragma omp simd
        for (Index l = 0; l < c; l++) f(p * c + l, l, here + l, next + l, share);
    }
}

}  // namespace

extern "C" {

// out: (outer, h, w, c), x times the values (outer, windows down, windows along, c) of its windows.
EXPORT int glocal_multiply(const float* x, const float* values, float* out, Index outer, Index h,
                           Index w, Index c, Index down, Index along, const Index* row_windows,
                           const float* row_shares, const Index* column_windows,
                           const float* column_shares, Index threads) {
    try {
        const Axis rows{row_windows, row_shares}, columns{column_windows, column_shares};
        const Index m = along * c, items = outer * h;
        std::vector<float> made(threads * m);
        for_each(items, threads, equal_parts(items, threads), [&](Index item, Index thread) {
            const float* at = row_of(values + item / h * down * m, rows, item % h, m, &made[thread * m]);
            const float* from = x + item * w * c;
            float* to = out + item * w * c;
            for_pixels(columns, w, c, [=](Index i, Index, Index here, Index next, float share) {
                to[i] = from[i] * (at[here] + share * (at[next] - at[here]));
            });
        });
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// out: (outer, h, w, c), (x - mean) * scale * weight + bias, with means and scales (outer, windows
// down, windows along, c), and weight and bias of each of the `channels`, or both null. Planes
// (c = 1) take the channels in turn.
EXPORT int glocal_normalise(const float* x, const float* means, const float* scales,
                            const float* weight, const float* bias, float* out, Index outer,
                            Index h, Index w, Index c, Index down, Index along,
                            const Index* row_windows, const float* row_shares,
                            const Index* column_windows, const float* column_shares,
                            Index channels, Index threads) {
    try {
        const Axis rows{row_windows, row_shares}, columns{column_windows, column_shares};
        const Index m = along * c, items = outer * h;
        std::vector<float> made(threads * 2 * m);
        const std::vector<float> ones(channels, 1.0f), zeros(channels, 0.0f);
        for_each(items, threads, equal_parts(items, threads), [&](Index item, Index thread) {
            const Index image = item / h, first = c == 1 ? image % channels : 0;
            float* buffer = &made[thread * 2 * m];
            const float* mean = row_of(means + image * down * m, rows, item % h, m, buffer);
            const float* scale = row_of(scales + image * down * m, rows, item % h, m, buffer + m);
            const float* gain = (weight ? weight : ones.data()) + first;
            const float* shift = (bias ? bias : zeros.data()) + first;
            const float* from = x + item * w * c;
            float* to = out + item * w * c;
            for_pixels(columns, w, c, [=](Index i, Index l, Index here, Index next, float share) {
                const float centre = mean[here] + share * (mean[next] - mean[here]);
                const float factor = scale[here] + share * (scale[next] - scale[here]);
                to[i] = (from[i] - centre) * factor * gain[l] + shift[l];
            });
        });
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
}
