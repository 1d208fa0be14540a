// Sums, moments and instance norm by windows of float32 maps on a CPU.
//
// A map is `outer` images of h rows of w pixels of c channels, a pixel's channels together
// (channels last), or as many images of one channel. An item of work is one image and at most
// `lanes` of its channels; inside, values of a row lie as in a map of that many channels.
//
// A window of kh rows is the end of one block of rows, whole blocks, and the beginning of another.
// Ends grow upwards and beginnings downwards, a row at a time, so that a row is read three times
// whatever the window. Along a row, runs of 1, 4, 16, ... neighbours are added as the digits of kw
// to the base 4 say. Nothing is subtracted: no sum holds a term from outside of its window.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num() { return 0; }
#endif

namespace {

using Index = std::ptrdiff_t;

struct Map {
    Index h, w, c, kh, kw, block;  // `block` rows are a block; kh is at least two of them
    Index lanes = 1;               // channels of the item that is worked on

    Index values() const { return w * lanes; }
    Index rows() const { return h - kh + 1; }
    Index columns() const { return w - kw + 1; }
    Index whole() const { return kh / block; }
    Index blocks() const { return (rows() + block - 1) / block; }
};

// Calls f(i, number of the thread) for every i below n. One thread means the thread of the caller,
// which may be one of several.
template <typename F>
void share(Index n, Index threads, F f) {
    if (threads == 1) {
        for (Index i = 0; i < n; i++) f(i, Index(0));
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (Index i = 0; i < n; i++) f(i, Index(omp_get_thread_num()));
}

// Memory for n values, none of them set: setting what is large takes as long as summing it.
template <typename T>
std::unique_ptr<T[]> memory(Index n) {
    return std::unique_ptr<T[]>(new T[n]);
}

template <typename T>
void add(T* __restrict to, const T* __restrict x, Index n) {
    for (Index i = 0; i < n; i++) to[i] += x[i];
}

// Sums of 1 to 4 neighbours, `apart` values from each other.
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

// Sums of every `length` neighbours, `apart` values from each other, among n values at x.
template <typename T>
void slide(T* __restrict to, const T* x, Index n, Index apart, Index length, T* spare, T* other) {
    const Index valid = n - (length - 1) * apart;
    Index done = 0;
    for (Index run = 1; length > 0; run *= 4, length /= 4) {
        const Index digit = length % 4;
        if (digit > 0 && done == 0)
            few(x, valid, run * apart, digit, [to](Index i, T sum) { to[i] = sum; });
        else if (digit > 0)
            few(x + done * apart, valid, run * apart, digit, [to](Index i, T sum) { to[i] += sum; });
        done += digit * run;
        if (length < 4) return;
        n -= 3 * run * apart;
        few(x, n, run * apart, 4, [spare](Index i, T sum) { spare[i] = sum; });
        x = spare;
        std::swap(spare, other);
    }
}

// f(i, j) for the values of a row: i where they lie as in a map of the item's channels alone, j
// where they lie in the map.
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

// Values of a row that are worked on together: few enough for the nearest cache.
constexpr Index STRIP = 4096;

// Sums of all windows' rows, block by block, of `value(i, x)` of the values x of a row. i counts
// from any pixel on: what is taken by it is one value of each channel, once for each pixel.
template <typename T, typename Value>
class Blocks {
  public:
    Blocks(const Map& map, const float* x, Value value, Index threads)
        : map(map), x(x), value(value), m(map.values()),
          width(std::min(map.w, std::max(Index(1), STRIP / map.lanes))),
          middles(memory<T>(map.blocks() * m)) {
        const Index count = map.blocks() + map.whole() - 2, most = count * width * map.lanes;
        const auto work = memory<T>(threads * 3 * most);
        share((map.w + width - 1) / width, threads, [&](Index number, Index thread) {
            T* totals = &work[thread * 3 * most];
            const Index p = number * width, n = strip(p) * map.lanes;
            std::fill_n(totals, count * n, T(0));
            for (Index r = 0; r < count * map.block; r++)
                add_row(totals + r / map.block * n, r + map.block, p);
            slide(middle(0, p), totals, count * n, n, map.whole() - 1, totals + most,
                  totals + 2 * most);
        });
    }

    // How many rows of sums a block has.
    Index size(Index number) const {
        return std::min(map.block, map.rows() - number * map.block);
    }

    // Memory for those rows, and for one more.
    struct Rows {
        std::unique_ptr<T[]> sums, begun;
        explicit Rows(const Map& map)
            : sums(memory<T>(map.block * map.values())), begun(memory<T>(map.values())) {}
    };

    // Those rows, one after another.
    const T* operator()(Index number, Rows& rows) {
        for (Index p = 0; p < map.w; p += width)
            compute(number, p, &rows.sums[p * map.lanes], rows.begun.get());
        return rows.sums.get();
    }

  private:
    // Pixels of the strip that begins at the pixel p.
    Index strip(Index p) const { return std::min(width, map.w - p); }

    // The whole blocks of a block's windows, in the strip that begins at the pixel p.
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

    // A strip of the row r, added to sums or to others before it.
    void add_row(T* to, Index r, Index p) const { sum_row(to, to, r, p); }

    void sum_row(T* to, const T* a, Index r, Index p) const {
        const float* from = x + (r * map.w + p) * map.c;
        for_row(map, strip(p),
                [this, to, a, from](Index i, Index j) { to[i] = a[i] + value(i, from[j]); });
    }

    const Map& map;
    const float* x;
    const Value value;
    const Index m, width;  // values of a row, pixels of a strip
    std::unique_ptr<T[]> middles;  // strip by strip
};

const auto itself = [](Index, float x) { return x; };

// Sums along a row, of the sums of its columns.
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

void window_sums(const Map& map, const float* x, float* out, float scale, Index threads) {
    using Sums = Blocks<float, decltype(itself)>;
    Sums blocks(map, x, itself, threads);
    std::vector<Sums::Rows> rows;
    std::vector<Along<float>> along;
    for (Index thread = 0; thread < threads; thread++) {
        rows.emplace_back(map);
        along.emplace_back(map);
    }
    share(map.blocks(), threads, [&](Index b, Index thread) {
        const float* sums = blocks(b, rows[thread]);
        for (Index r = 0; r < blocks.size(b); r++) {
            const float* from = along[thread](map, sums + r * map.values());
            float* to = out + (b * map.block + r) * map.columns() * map.c;
            for_row(map, map.columns(), [=](Index i, Index j) { to[j] = from[i] * scale; });
        }
    });
}

// The mean of each channel, once for each pixel of a row. Whatever is taken off before squaring
// comes out exactly; the mean leaves least to cancel.
std::vector<float> centres(const Map& map, const float* x) {
    const Index m = map.values();
    std::vector<double> total(m);
    double* to = total.data();
    for (Index r = 0; r < map.h; r++) {
        const float* from = x + r * map.w * map.c;
        for_row(map, map.w, [=](Index i, Index j) { to[i] += from[j]; });
    }
    std::vector<float> centre(m);
    for (Index l = 0; l < map.lanes; l++) {
        double mean = 0;
        for (Index i = l; i < m; i += map.lanes) mean += total[i];
        mean /= double(map.h) * map.w;
        for (Index i = l; i < m; i += map.lanes) centre[i] = float(mean);
    }
    return centre;
}

// A value of each channel, once for each pixel of a row.
std::vector<float> repeated(const float* values, const Map& map, float otherwise) {
    std::vector<float> row(map.values(), otherwise);
    for (Index i = 0; values && i < map.values(); i++) row[i] = values[i % map.lanes];
    return row;
}

// A row of windows' values to a row of pixels', each of the nearest window.
void spread(std::vector<float>& row, const float* values, const Map& map) {
    const Index before = (map.kw - 1) / 2, columns = map.columns(), lanes = map.lanes;
    for (Index p = 0; p < before; p++) std::copy(values, values + lanes, &row[p * lanes]);
    std::copy(values, values + columns * lanes, &row[before * lanes]);
    const float* last = values + (columns - 1) * lanes;
    for (Index p = before + columns; p < map.w; p++) std::copy(last, last + lanes, &row[p * lanes]);
}

// Calls f(row, means, variances) for every row of windows; c[i] is still to be added to a mean.
template <typename F>
void for_moments(const Map& map, const float* x, const float* c, F f) {
    const Index m = map.values(), valid = map.columns() * map.lanes;
    const double pixels = double(map.kh) * map.kw;
    const auto deviation = [c](Index i, float v) { return double(v) - c[i]; };
    const auto square = [c](Index i, float v) {
        const double d = double(v) - c[i];
        return d * d;
    };
    Blocks<double, decltype(deviation)> firsts(map, x, deviation, 1);
    Blocks<double, decltype(square)> seconds(map, x, square, 1);
    typename Blocks<double, decltype(deviation)>::Rows sums(map);
    typename Blocks<double, decltype(square)>::Rows squares(map);
    Along<double> along_sums(map), along_squares(map);
    for (Index b = 0; b < map.blocks(); b++) {
        const double *s = firsts(b, sums), *q = seconds(b, squares);
        for (Index r = 0; r < firsts.size(b); r++) {
            double *first = along_sums(map, s + r * m), *second = along_squares(map, q + r * m);
            for (Index i = 0; i < valid; i++) {
                first[i] /= pixels;
                second[i] = std::max(second[i] / pixels - first[i] * first[i], 0.0);
            }
            f(b * map.block + r, first, second);
        }
    }
}

void moments(const Map& map, const float* x, double* means, double* variances) {
    const std::vector<float> centre = centres(map, x);
    const float* c = centre.data();
    for_moments(map, x, c, [&](Index r, const double* first, const double* second) {
        const Index at = r * map.columns() * map.c;
        double *mean = means + at, *variance = variances + at;
        for_row(map, map.columns(), [=](Index i, Index j) {
            mean[j] = first[i] + c[i];
            variance[j] = second[i];
        });
    });
}

void instance_norm(const Map& map, const float* x, const float* weight, const float* bias,
                   float* out, double eps) {
    const Index m = map.values(), valid = map.columns() * map.lanes;
    const std::vector<float> centre = centres(map, x);
    const float* c = centre.data();
    std::vector<float> shifts(map.rows() * valid), scales(map.rows() * valid);
    for_moments(map, x, c, [&](Index r, const double* mean, const double* variance) {
        float *shift = &shifts[r * valid], *scale = &scales[r * valid];
        for (Index i = 0; i < valid; i++) {
            shift[i] = float(mean[i]);
            scale[i] = float(1 / std::sqrt(variance[i] + eps));
        }
    });
    const std::vector<float> gain = repeated(weight, map, 1), offset = repeated(bias, map, 0);
    std::vector<float> shift(m), scale(m);
    const float *s = shift.data(), *f = scale.data(), *g = gain.data(), *o = offset.data();
    for (Index y = 0; y < map.h; y++) {
        const Index at = std::min(std::max(y - (map.kh - 1) / 2, Index(0)), map.rows() - 1);
        spread(shift, &shifts[at * valid], map);
        spread(scale, &scales[at * valid], map);
        const float* from = x + y * map.w * map.c;
        float* to = out + y * map.w * map.c;
        for_row(map, map.w, [=](Index i, Index j) {
            to[j] = (from[j] - c[i] - s[i]) * f[i] * g[i] + o[i];
        });
    }
}

// Sums of `along` blocks of kh × kw pixels side by side, of which the first begins at `x`.
void block_sums(const Map& map, const float* x, float* out, Index along) {
    const Index m = along * map.kw * map.c;
    std::vector<float> total(x, x + m);
    for (Index r = 1; r < map.kh; r++) add(total.data(), x + r * map.w * map.c, m);
    for (Index i = 0; i < along; i++) {
        const float* from = &total[i * map.kw * map.c];
        float* to = out + i * map.c;
        std::copy(from, from + map.c, to);
        for (Index p = 1; p < map.kw; p++) add(to, from + p * map.c, map.c);
    }
}

// Which windows the pixels along an axis have: `count` of them, the first that of the pixel
// `before`, each `step` pixels after the last; values between are interpolated.
struct Axis {
    Index count, before, step;

    Index window(Index pixel) const {
        return std::min(std::max(pixel - before, Index(0)) / step, count - 1);
    }
    float share(Index pixel) const {  // of the next window's value
        const Index past = std::max(pixel - before, Index(0)) - window(pixel) * step;
        return window(pixel) == count - 1 ? 0.0f : float(past) / float(step);
    }
};

// The same for all pixels of a row: the window of each, the next one, and the share of that.
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

// A row of pixels times the values of their windows; `made` has memory for a row of values.
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

// Calls f(map, number of the image, first channel) for every item; 1 if memory is short.
template <typename F>
int for_items(const Map& map, Index outer, Index lanes, Index threads, F f) {
    const Index groups = (map.c + lanes - 1) / lanes;
    int failed = 0;
    share(outer * groups, threads, [&](Index item, Index) {
        Map mine = map;
        const Index first = item % groups * lanes;
        mine.lanes = std::min(lanes, map.c - first);
        try {
            f(mine, item / groups, first);
        } catch (const std::bad_alloc&) {
#pragma omp atomic write
            failed = 1;
        }
    });
    return failed;
}

}  // namespace

extern "C" {

// out: (outer, h - kh + 1, w - kw + 1, c), the sums times `scale`. Threads take images of one
// channel in turn, where there are enough of them; else they share each.
int glocal_window_sums(const float* x, float* out, Index outer, Index h, Index w, Index c, Index kh,
                       Index kw, Index block, Index threads, float scale) {
    const Index inside = c > 1 || outer < threads ? threads : 1;
    return for_items({h, w, c, kh, kw, block}, outer, c, threads / inside,
                     [=](const Map& map, Index image, Index first) {
                         window_sums(map, x + image * h * w * c + first,
                                     out + image * map.rows() * map.columns() * c + first, scale,
                                     inside);
                     });
}

// Both results: (outer, h - kh + 1, w - kw + 1, c).
int glocal_moments(const float* x, double* mean, double* variance, Index outer, Index h, Index w,
                   Index c, Index kh, Index kw, Index block, Index lanes, Index threads) {
    return for_items({h, w, c, kh, kw, block}, outer, lanes, threads,
                     [=](const Map& map, Index image, Index first) {
                         const Index at = image * map.rows() * map.columns() * c + first;
                         moments(map, x + image * h * w * c + first, mean + at, variance + at);
                     });
}

// out: (outer, down, along, c), the sums of blocks of kh × kw pixels side by side, from x on.
int glocal_block_sums(const float* x, float* out, Index outer, Index h, Index w, Index c, Index kh,
                      Index kw, Index down, Index along, Index threads) {
    const Index items = outer * down;
    int failed = 0;
#pragma omp parallel for num_threads(threads)
    for (Index item = 0; item < items; item++) {
        const Index image = item / down, number = item % down;
        try {
            block_sums({h, w, c, kh, kw, 0, c}, x + (image * h + number * kh) * w * c,
                       out + item * along * c, along);
        } catch (const std::bad_alloc&) {
#pragma omp atomic write
            failed = 1;
        }
    }
    return failed;
}

// out: (outer, h, w, c), x times the values (outer, windows down, windows along, c) of its windows.
int glocal_multiply(const float* x, const float* values, float* out, Index outer, Index h, Index w,
                    Index c, Index down, Index top, Index step_down, Index along, Index left,
                    Index step_along, Index threads) {
    try {
        const Axis rows{down, top, step_down};
        const Row row({along, left, step_along}, w);
        std::vector<float> made(threads * along * c);
#pragma omp parallel for num_threads(threads)
        for (Index item = 0; item < outer * h; item++)
            multiply_row(x + item * w * c, values + item / h * down * along * c,
                         out + item * w * c, item % h, c, rows, along, row,
                         &made[omp_get_thread_num() * along * c]);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// out: (outer, h, w, c). Weight and bias are by channel, or both null. With c = 1, images take
// turns in `channels` channels.
int glocal_instance_norm(const float* x, const float* weight, const float* bias, float* out,
                         Index outer, Index h, Index w, Index c, Index kh, Index kw, Index block,
                         Index lanes, Index threads, Index channels, double eps) {
    return for_items({h, w, c, kh, kw, block}, outer, lanes, threads,
                     [=](const Map& map, Index image, Index first) {
                         const Index at = c == channels ? first : image % channels;
                         instance_norm(map, x + image * h * w * c + first,
                                       weight ? weight + at : nullptr, bias ? bias + at : nullptr,
                                       out + image * h * w * c + first, eps);
                     });
}
}
