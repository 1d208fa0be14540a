// Sums over sliding windows of float32 maps: the algorithm that all window statistics share.
//
// A map holds `outer` images of h rows, w pixels and c channels, channels last; a map in rows is
// treated as more images of one channel. A work item is one image and up to `lanes` of its
// channels. Inside an item, a row is stored as if the map had only those channels.
//
// Rows are summed in blocks. A window of kh rows consists of the end of one block, whole blocks,
// and the beginning of another. Sums of ends grow upwards and sums of beginnings grow downwards,
// one row at a time, so each row is read three times whatever the window size. Along a row, sums of
// 1, 4, 16, ... neighbours are added according to the base-4 digits of kw. Nothing is subtracted:
// no sum contains a term from outside its window.

#pragma once

#include "threads.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <utility>

namespace glocal {

struct Map {
    Index h, w, c, kh, kw, block;  // a block has `block` rows; kh is at least two blocks
    Index lanes = 1;               // channels of the current work item

    Index values() const { return w * lanes; }
    Index rows() const { return h - kh + 1; }
    Index columns() const { return w - kw + 1; }
    Index whole() const { return kh / block; }
    Index blocks() const { return (rows() + block - 1) / block; }
};

// Uninitialised memory for n values: clearing a large buffer takes as long as summing it.
template <typename T>
std::unique_ptr<T[]> memory(Index n) {
    return std::unique_ptr<T[]>(new T[n]);
}

template <typename T>
void add(T* __restrict to, const T* __restrict x, Index n) {
    for (Index i = 0; i < n; i++) to[i] += x[i];
}

// Sums of `count` neighbours, 1 to 4, at a distance of `apart` values.
template <typename T, typename Put>
void few(const T* __restrict x, Index n, Index apart, Index count, Put put) {
    const T *a = x, *b = a + apart, *c = b + apart, *d = c + apart;
    if (count == 1)
        for (Index i = 0; i < n; i++) put(i, a[i]);
    else if (count == 2)
        for (Index i = 0; i < n; i++) put(i, a[i] + b[i]);
    else if (count == 3)
        for (Index i = 0; i < n; i++) put(i, a[i] + b[i] + c[i]);
    else
        for (Index i = 0; i < n; i++) put(i, (a[i] + b[i]) + (c[i] + d[i]));
}

// Sums of `length` neighbours at a distance of `apart` values, over the n values at x.
template <typename T>
void slide(T* __restrict to, const T* x, Index n, Index apart, Index length, T* spare, T* other) {
    const Index valid = n - (length - 1) * apart;
    Index done = 0;
    for (Index run = 1; length > 0; run *= 4, length /= 4) {
        const Index digit = length % 4;
        if (digit > 0 && done == 0)
            few(x, valid, run * apart, digit, [to](Index i, T sum) { to[i] = sum; });
        else if (digit > 0)
            few(x + done * apart, valid, run * apart, digit,
                [to](Index i, T sum) { to[i] += sum; });
        done += digit * run;
        if (length < 4) return;
        n -= 3 * run * apart;
        few(x, n, run * apart, 4, [spare](Index i, T sum) { spare[i] = sum; });
        x = spare;
        std::swap(spare, other);
    }
}

// Calls f(i, j) for each value of a row: i is its index among the item's channels, j its index in
// the map.
template <int Lanes, typename F>
inline void for_pixels(Index pixels, Index lanes, Index c, F f) {
    for (Index p = 0; p < pixels; p++) {
        const Index count = Lanes ? Lanes : lanes;
#pragma omp simd
        for (Index l = 0; l < count; l++) f(p * count + l, p * c + l);
    }
}

template <typename F>
inline void for_row(const Map& map, Index pixels, F f) {
    if (map.lanes == map.c) {
#pragma omp simd
        for (Index i = 0; i < pixels * map.c; i++) f(i, i);
    } else if (map.lanes == 16) for_pixels<16>(pixels, 16, map.c, f);
    else if (map.lanes == 8) for_pixels<8>(pixels, 8, map.c, f);
    else for_pixels<0>(pixels, map.lanes, map.c, f);
}

// Values of a row that are processed together: few enough for the first-level cache.
constexpr Index STRIP = 4096;

// Sums over the rows of every window, block by block, of value(i, x) for each value x of a row. i
// starts at 0 in every strip, so `value` may only use it to index a row that repeats one value per
// channel.
template <typename T, typename Value>
class Blocks {
  public:
    Blocks(const Map& map, const float* x, Value value, Index threads)
        : map(map), x(x), value(value), m(map.values()),
          width(std::min(map.w, std::max(Index(1), STRIP / map.lanes))),
          middles(memory<T>(map.blocks() * m)) {
        const Index count = map.blocks() + map.whole() - 2, most = count * width * map.lanes;
        const auto work = memory<T>(threads * 3 * most);
        for_each((map.w + width - 1) / width, threads, 1, [&](Index number, Index thread) {
            T* totals = &work[thread * 3 * most];
            const Index p = number * width, n = strip(p) * map.lanes;
            std::fill_n(totals, count * n, T(0));
            for (Index r = 0; r < count * map.block; r++)
                add_row(totals + r / map.block * n, r + map.block, p);
            slide(middle(0, p), totals, count * n, n, map.whole() - 1, totals + most,
                  totals + 2 * most);
        });
    }

    // The number of rows of sums in a block.
    Index size(Index number) const {
        return std::min(map.block, map.rows() - number * map.block);
    }

    // Buffers for the sums of one block and for one more row.
    struct Rows {
        std::unique_ptr<T[]> sums, begun;
        explicit Rows(const Map& map)
            : sums(memory<T>(map.block * map.values())), begun(memory<T>(map.values())) {}
    };

    // The rows of sums of a block, one after another.
    const T* operator()(Index number, Rows& rows) {
        for (Index p = 0; p < map.w; p += width)
            compute(number, p, &rows.sums[p * map.lanes], rows.begun.get());
        return rows.sums.get();
    }

  private:
    // The width of the strip that begins at pixel p.
    Index strip(Index p) const { return std::min(width, map.w - p); }

    // The sums of the whole blocks inside a block's windows, for the strip that begins at pixel p.
    T* middle(Index number, Index p) {
        return &middles[(map.blocks() * p + number * strip(p)) * map.lanes];
    }

    void compute(Index number, Index p, T* sums, T* begun) {
        const Index first = number * map.block, n = size(number), count = strip(p) * map.lanes;
        T* last = sums + (n - 1) * m;
        std::fill_n(last, count, T(0));
        for (Index r = first + map.block - 1; r >= first + n - 1; r--) add_row(last, r, p);
        for (Index r = n - 2; r >= 0; r--) sum_row(sums + r * m, sums + (r + 1) * m, first + r, p);
        std::copy_n(middle(number, p), count, begun);
        for (Index r = first + map.whole() * map.block; r < first + map.kh; r++)
            add_row(begun, r, p);
        add(sums, begun, count);
        for (Index r = 1; r < n; r++) {
            add_row(begun, first + r + map.kh - 1, p);
            add(sums + r * m, begun, count);
        }
    }

    // Adds a strip of row r to the sums in `to`.
    void add_row(T* to, Index r, Index p) const { sum_row(to, to, r, p); }

    // Writes the sum of `a` and a strip of row r.
    void sum_row(T* to, const T* a, Index r, Index p) const {
        const float* from = x + (r * map.w + p) * map.c;
        for_row(map, strip(p),
                [this, to, a, from](Index i, Index j) { to[i] = a[i] + value(i, from[j]); });
    }

    const Map& map;
    const float* x;
    const Value value;
    const Index m, width;  // values of a row, pixels of a strip
    std::unique_ptr<T[]> middles;  // ordered by strip
};

// Sums along a row of column sums.
template <typename T>
class Along {
  public:
    explicit Along(const Map& map)
        : made(memory<T>(map.values())), spare(memory<T>(map.values())),
          other(memory<T>(map.values())) {}

    T* operator()(const Map& map, const T* columns) {
        slide(made.get(), columns, map.values(), map.lanes, map.kw, spare.get(), other.get());
        return made.get();
    }

  private:
    std::unique_ptr<T[]> made, spare, other;
};

// Calls f(map, image, first channel) for every work item; returns 1 if memory runs out.
template <typename F>
int for_items(const Map& map, Index outer, Index lanes, Index threads, F f) {
    const Index groups = (map.c + lanes - 1) / lanes;
    std::atomic<int> failed{0};
    for_each(outer * groups, threads, 1, [&](Index item, Index) {
        Map mine = map;
        const Index first = item % groups * lanes;
        mine.lanes = std::min(lanes, map.c - first);
        try {
            f(mine, item / groups, first);
        } catch (const std::bad_alloc&) {
            failed = 1;
        }
    });
    return failed;
}

}  // namespace glocal
