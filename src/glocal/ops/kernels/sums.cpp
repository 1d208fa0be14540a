// Window sums and block sums of float32 maps.

#include "export.h"
#include "sums.h"

#include <vector>

using namespace glocal;

namespace {

const auto itself = [](Index, float x) { return x; };

void window_sums(const Map& map, const float* x, float* out, float scale, Index threads) {
    using Sums = Blocks<float, decltype(itself)>;
    Sums blocks(map, x, itself, threads);
    std::vector<Sums::Rows> rows;
    std::vector<Along<float>> along;
    for (Index thread = 0; thread < threads; thread++) {
        rows.emplace_back(map);
        along.emplace_back(map);
    }
    for_each(map.blocks(), threads, 1, [&](Index b, Index thread) {
        const float* sums = blocks(b, rows[thread]);
        for (Index r = 0; r < blocks.size(b); r++) {
            const float* from = along[thread](map, sums + r * map.values());
            float* to = out + (b * map.block + r) * map.columns() * map.c;
            for_row(map, map.columns(), [=](Index i, Index j) { to[j] = from[i] * scale; });
        }
    });
}

// Sums of a row of `along` blocks of kh × kw pixels; x is the first pixel of the first block.
void block_sums(const Map& map, const float* x, float* out, Index along) {
    const Index m = along * map.kw * map.c;
    std::vector<float> total(x, x + m);
    for (Index r = 1; r < map.kh; r++) add(total.data(), x + r * map.w * map.c, m);
    for (Index i = 0; i < along; i++) {
        const float* from = &total[i * map.kw * map.c];
        float* to = out + i * map.c;
        std::copy(from, from + map.c, to);
        if (map.c == 1)  // faster than loops over one channel
            for (Index p = 1; p < map.kw; p++) *to += from[p];
        else
            for (Index p = 1; p < map.kw; p++) add(to, from + p * map.c, map.c);
    }
}

}  // namespace

extern "C" {

// out: (outer, h - kh + 1, w - kw + 1, c), the sums times `scale`. Images of one channel are shared
// among the threads if there are enough of them; otherwise the threads share each image.
EXPORT int glocal_window_sums(const float* x, float* out, Index outer, Index h, Index w, Index c,
                              Index kh, Index kw, Index block, Index threads, float scale) {
    const Index inside = c > 1 || outer < threads ? threads : 1;
    return for_items({h, w, c, kh, kw, block}, outer, c, threads / inside,
                     [=](const Map& map, Index image, Index first) {
                         window_sums(map, x + image * h * w * c + first,
                                     out + image * map.rows() * map.columns() * c + first, scale,
                                     inside);
                     });
}

// out: (outer, down, along, c), the sums of adjacent blocks of kh × kw pixels, starting at x.
EXPORT int glocal_block_sums(const float* x, float* out, Index outer, Index h, Index w, Index c,
                             Index kh, Index kw, Index down, Index along, Index threads) {
    const Index items = outer * down;
    std::atomic<int> failed{0};
    for_each(items, threads, equal_parts(items, threads), [&](Index item, Index) {
        const Index image = item / down, number = item % down;
        try {
            block_sums({h, w, c, kh, kw, 0, c}, x + (image * h + number * kh) * w * c,
                       out + item * along * c, along);
        } catch (const std::bad_alloc&) {
            failed = 1;
        }
    });
    return failed;
}
}
