// The matrix products of transposed attention, over rectangles of float32 maps.
//
// A map is (batch, heads, c, h, w), contiguous either along channels (channels last) or along rows.
// A rectangle is processed in blocks of a few hundred pixels: a block is packed into a contiguous
// matrix and is still in the cache when it is multiplied.

#include "export.h"
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

using namespace glocal;

namespace {

// Floats in a vector: what the processor has. Wider ones are split by way of memory, many times
// slower; AVX-512's own are no faster here.
#if defined(__AVX__)
constexpr Index WIDTH = 8;
#else
constexpr Index WIDTH = 4;
#endif

// A product is computed in tiles of DOWN × ALONG. Their vectors, with three for the factors, fit
// into the registers: 32 on 64-bit Arm, else 16.
#if defined(__aarch64__)
constexpr Index VECTORS = 4;
#else
constexpr Index VECTORS = 2;
#endif
constexpr Index DOWN = 6;
constexpr Index ALONG = VECTORS * WIDTH;

constexpr Index PIXELS = 192;  // approximate size of a block

typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));

constexpr Index up(Index n, Index multiple) { return (n + multiple - 1) / multiple * multiple; }

inline Vector load(const float* x) { return *reinterpret_cast<const Vector*>(x); }

// The map of one image and head; `channel`, `row` and `pixel` are strides in floats.
struct Map {
    float* x;
    Index channel, row, pixel;
};

struct Rect {
    Index top, bottom, left, right;

    Index width() const { return right - left; }
};

// Calls f(block) for each block of a rectangle: some whole rows, or a part of a long row.
template <typename F>
void for_blocks(const Rect& rect, F f) {
    const Index rows = std::max(PIXELS / rect.width(), Index(1));
    for (Index y = rect.top; y < rect.bottom; y += rows)
        for (Index x = rect.left; x < rect.right; x += 2 * PIXELS)
            f(Rect{y, std::min(y + rows, rect.bottom), x, std::min(x + 2 * PIXELS, rect.right)});
}

// The pixels of a block as a matrix: (pixels, c) for channels last, else (c, pixels).
struct Packed {
    const Index c, step;
    const bool last;
    Index pixels = 0;
    std::vector<float> values;   // padded to whole tiles
    std::vector<float> squares;  // one sum per channel

    Packed(Index c, bool channels_last)
        : c(c), step(channels_last ? up(c, ALONG) : 2 * PIXELS + ALONG), last(channels_last),
          values(channels_last ? (2 * PIXELS + ALONG) * step : up(c, DOWN) * step), squares(c) {}

    float* data() { return values.data(); }

    void pack(const Map& map, const Rect& block) {
        for_runs(map, block, [](const float* there, float* here, Index n) {
            std::memcpy(here, there, n * sizeof(float));
        });
    }

    void unpack(const Map& map, const Rect& block) {
        for_runs(map, block, [](float* there, const float* here, Index n) {
            std::memcpy(there, here, n * sizeof(float));
        });
    }

    // Packs a map in rows as (pixels, c), a few pixels at a time so that their cache lines are
    // reused from one channel to the next.
    void pack_turned(const Map& map, const Rect& block) {
        const Index width = block.width();
        pixels = (block.bottom - block.top) * width;
        for (Index y = 0; y < block.bottom - block.top; y++) {
            const float* row = map.x + (block.top + y) * map.row + block.left;
            Index x = 0;
            for (; x + WIDTH <= width; x += WIDTH) turn(map, row + x, y * width + x, WIDTH);
            turn(map, row + x, y * width + x, width - x);
        }
    }

  private:
    // Calls f(pointer into the map, pointer into the matrix, floats) for each contiguous run.
    template <typename F>
    void for_runs(const Map& map, const Rect& block, F f) {
        const Index width = block.width();
        pixels = (block.bottom - block.top) * width;
        float* begin = map.x + block.top * map.row + block.left * map.pixel;
        for (Index y = 0; y < block.bottom - block.top; y++) {
            if (last)
                for (Index x = 0; x < width; x++)
                    f(begin + y * map.row + x * map.pixel, &values[(y * width + x) * step], c);
            else
                for (Index l = 0; l < c; l++)
                    f(begin + y * map.row + l * map.channel, &values[l * step + y * width], width);
        }
    }

    inline void turn(const Map& map, const float* from, Index pixel, Index n) {
        float* to = &values[pixel * step];
        for (Index l = 0; l < c; l++)
            for (Index p = 0; p < n; p++) to[p * step + l] = from[l * map.channel + p];
    }
};

// Computes one tile out[i, j], the sum of a[k, i] b[k, j] over k < n; adds it to `out` if `adds`.
template <bool adds>
void outer(const float* a, Index a_k, Index a_i, const float* b, Index b_k, Index n, float* out,
           Index step) {
    Vector sums[DOWN][VECTORS] = {};
    for (Index k = 0; k < n; k++) {
        Vector row[VECTORS];
        for (Index j = 0; j < VECTORS; j++) row[j] = load(b + k * b_k + j * WIDTH);
        for (Index i = 0; i < DOWN; i++) {
            const float factor = a[k * a_k + i * a_i];
            for (Index j = 0; j < VECTORS; j++) sums[i][j] += factor * row[j];
        }
    }
    for (Index i = 0; i < DOWN; i++)
        for (Index j = 0; j < VECTORS; j++) {
            Vector* to = reinterpret_cast<Vector*>(out + i * step + j * WIDTH);
            *to = adds ? *to + sums[i][j] : sums[i][j];
        }
}

// Adds each channel's sum of squares over a block to `sums`.
void add_squares(Packed& x, float* sums) {
    std::vector<float>& block = x.squares;
    std::fill(block.begin(), block.end(), 0.0f);
    if (x.last) {
        for (Index p = 0; p < x.pixels; p++)
            for (Index l = 0; l < x.c; l++) {
                const float value = x.values[p * x.step + l];
                block[l] += value * value;
            }
    } else {
        for (Index l = 0; l < x.c; l++) {
            const float* values = &x.values[l * x.step];
            Vector sum = {};
            Index p = 0;
            for (; p + WIDTH <= x.pixels; p += WIDTH) sum += load(values + p) * load(values + p);
            for (; p < x.pixels; p++) block[l] += values[p] * values[p];
            for (Index i = 0; i < WIDTH; i++) block[l] += sum[i];
        }
    }
    for (Index l = 0; l < x.c; l++) sums[l] += block[l];
}

// The buffers and the computation of products, reused by a thread from item to item.
struct Products {
    const Index c, step;
    const bool last;
    Packed a, b;
    std::vector<float> sums;

    Products(Index c, bool last)
        : c(c), step(up(c, ALONG)), last(last), a(c, last), b(c, true), sums(up(c, DOWN) * step) {}

    // Sums over the pixels of a rectangle: gram (c, c), squares of q and of k (c).
    void operator()(const Map& q, const Map& k, const Rect& rect, float* gram, float* squares_q,
                    float* squares_k) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for_blocks(rect, [&](const Rect& block) {
            a.pack(q, block);
            if (last) b.pack(k, block);
            else b.pack_turned(k, block);
            const Index along = last ? a.step : 1, down = last ? 1 : a.step;
            for (Index j = 0; j < c; j += ALONG)
                for (Index i = 0; i < c; i += DOWN)
                    outer<true>(a.data() + i * down, along, down, b.data() + j, b.step, a.pixels,
                                &sums[i * step + j], step);
            add_squares(a, squares_q);
            add_squares(b, squares_k);
        });
        for (Index i = 0; i < c; i++)
            std::copy(&sums[i * step], &sums[i * step] + c, gram + i * c);
    }
};

// The buffers and the computation of matrix times pixels, reused by a thread from item to item.
struct Application {
    const Index c, step;
    const bool last;
    Packed x, made;
    std::vector<float> m;  // (k, i) for channels last, else (i, k)

    Application(Index c, bool last)
        : c(c), step(last ? up(c, ALONG) : c), last(last), x(c, last), made(c, last),
          m(up(c, DOWN) * step) {}

    // Multiplies the pixels of a rectangle by a matrix (c, c).
    void operator()(const Map& v, const Map& out, const Rect& rect, const float* matrix) {
        for (Index i = 0; i < c; i++)
            for (Index k = 0; k < c; k++) m[last ? k * step + i : i * step + k] = matrix[i * c + k];
        for_blocks(rect, [&](const Rect& block) {
            x.pack(v, block);
            if (last) {
                for (Index j = 0; j < c; j += ALONG)
                    for (Index p = 0; p < x.pixels; p += DOWN)
                        outer<false>(x.data() + p * x.step, 1, x.step, &m[j], step, c,
                                     made.data() + p * made.step + j, made.step);
            } else {
                for (Index p = 0; p < x.pixels; p += ALONG)
                    for (Index i = 0; i < c; i += DOWN)
                        outer<false>(&m[i * step], 1, step, x.data() + p, x.step, c,
                                     made.data() + i * made.step + p, made.step);
            }
            made.unpack(out, block);
        });
    }
};

Map map_of(float* x, const Index* strides, Index image, Index head) {
    return {x + image * strides[0] + head * strides[1], strides[2], strides[3], strides[4]};
}

// Calls f(work, image, head, rectangle, item) for every item; each thread has a `work` to itself.
// Returns 1 if memory runs out.
template <typename Work, typename F>
int for_items(Index batch, Index heads, Index c, bool last, const Index* rects, Index count,
              Index threads, F f) {
    std::atomic<int> failed{0};
    try {
        std::vector<std::unique_ptr<Work>> works(threads);
        for_each(count * batch * heads, threads, 1, [&](Index item, Index thread) {
            std::unique_ptr<Work>& work = works[thread];
            const Index* p = rects + 4 * (item / (batch * heads));
            try {
                if (!work) work = std::make_unique<Work>(c, last);
                f(*work, item / heads % batch, item % heads, Rect{p[0], p[1], p[2], p[3]}, item);
            } catch (const std::bad_alloc&) {
                failed = 1;
            }
        });
    } catch (const std::bad_alloc&) {
        failed = 1;
    }
    return failed;
}

}  // namespace

extern "C" {

// Strides are in floats; rects: (count, 4), each top, bottom, left, right. gram: q kᵀ, with shape
// (count, batch, heads, c, c); squares_q and squares_k: (count, batch, heads, c), zeros on entry.
EXPORT int glocal_products(const float* q, const Index* strides_q, const float* k,
                           const Index* strides_k, Index batch, Index heads, Index c, Index last,
                           const Index* rects, Index count, Index threads, float* gram,
                           float* squares_q, float* squares_k) {
    return for_items<Products>(
        batch, heads, c, last, rects, count, threads,
        [=](Products& work, Index image, Index head, const Rect& rect, Index item) {
            work(map_of(const_cast<float*>(q), strides_q, image, head),
                 map_of(const_cast<float*>(k), strides_k, image, head), rect, gram + item * c * c,
                 squares_q + item * c, squares_k + item * c);
        });
}

// Writes to each rectangle of `out` its matrix (count, batch, heads, c, c) times the channels of v.
EXPORT int glocal_apply(const float* v, const Index* strides_v, float* out,
                        const Index* strides_out, Index batch, Index heads, Index c, Index last,
                        const Index* rects, Index count, Index threads, const float* matrices) {
    return for_items<Application>(
        batch, heads, c, last, rects, count, threads,
        [=](Application& work, Index image, Index head, const Rect& rect, Index item) {
            work(map_of(const_cast<float*>(v), strides_v, image, head),
                 map_of(out, strides_out, image, head), rect, matrices + item * c * c);
        });
}
}
