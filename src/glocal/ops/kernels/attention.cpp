// Products of transposed attention over rectangles of float32 maps on a CPU.
//
// A map is (batch, heads, c, h, w). Either the channels of a pixel lie together, or the pixels of a
// row do. Rectangles are taken a few hundred pixels at a time: these are packed side by side, as a
// matrix product wants them, and are still in the cache when they are multiplied.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace {

using Index = std::ptrdiff_t;

constexpr Index WIDTH = 8;   // of a vector
constexpr Index DOWN = 6;    // a tile of a product is DOWN × ALONG: what the registers hold
constexpr Index ALONG = 16;
constexpr Index PIXELS = 192;  // of a block, about

typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float)), aligned(4), may_alias));

constexpr Index up(Index n, Index multiple) { return (n + multiple - 1) / multiple * multiple; }

inline Vector load(const float* x) { return *reinterpret_cast<const Vector*>(x); }

// The map of one image and head, in floats from one channel, row and pixel to the next.
struct Map {
    float* x;
    Index channel, row, pixel;
};

struct Place {
    Index top, bottom, left, right;

    Index width() const { return right - left; }
};

// Calls f(block) for blocks of whole rows, or of parts of a row where it is long.
template <typename F>
void for_blocks(const Place& place, F f) {
    const Index rows = std::max(PIXELS / place.width(), Index(1));
    for (Index y = place.top; y < place.bottom; y += rows)
        for (Index x = place.left; x < place.right; x += 2 * PIXELS)
            f(Place{y, std::min(y + rows, place.bottom), x, std::min(x + 2 * PIXELS, place.right)});
}

// The pixels of a block side by side: (pixels, c) where channels are last, else (c, pixels).
struct Packed {
    const Index c, step;
    const bool last;
    Index pixels = 0;
    std::vector<float> values;   // with room for the tiles that reach beyond
    std::vector<float> squares;  // of each channel

    Packed(Index c, bool channels_last)
        : c(c), step(channels_last ? up(c, ALONG) : 2 * PIXELS + ALONG), last(channels_last),
          values(channels_last ? (2 * PIXELS + ALONG) * step : up(c, DOWN) * step), squares(c) {}

    float* data() { return values.data(); }

    void pack(const Map& map, const Place& block) {
        for_runs(map, block, [](const float* there, float* here, Index n) {
            std::memcpy(here, there, n * sizeof(float));
        });
    }

    void unpack(const Map& map, const Place& block) {
        for_runs(map, block, [](float* there, const float* here, Index n) {
            std::memcpy(there, here, n * sizeof(float));
        });
    }

    // (pixels, c) of a map whose channels are not last: a few pixels at a time, whose lines of
    // memory stay in the cache from one channel to the next.
    void pack_turned(const Map& map, const Place& block) {
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
    // Calls f(in the map, packed, floats) for everything that lies together in both.
    template <typename F>
    void for_runs(const Map& map, const Place& block, F f) {
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

// out[i, j] of one tile, plus what was there if `adds`: sums of a[k, i] b[k, j] over n values of k.
template <bool adds>
void outer(const float* a, Index a_k, Index a_i, const float* b, Index b_k, Index n, float* out,
           Index step) {
    Vector sums[DOWN][2] = {};
    for (Index k = 0; k < n; k++) {
        const Vector left = load(b + k * b_k), right = load(b + k * b_k + WIDTH);
        for (Index i = 0; i < DOWN; i++) {
            const float factor = a[k * a_k + i * a_i];
            sums[i][0] += factor * left;
            sums[i][1] += factor * right;
        }
    }
    for (Index i = 0; i < DOWN; i++)
        for (Index j = 0; j < 2; j++) {
            Vector* to = reinterpret_cast<Vector*>(out + i * step + j * WIDTH);
            *to = adds ? *to + sums[i][j] : sums[i][j];
        }
}

// Adds the sums of a block's squares, of each channel.
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

// What a thread needs for products, and for what is made of them: kept from item to item.
struct Products {
    const Index c, step;
    const bool last;
    Packed a, b;
    std::vector<float> sums;

    Products(Index c, bool last)
        : c(c), step(up(c, ALONG)), last(last), a(c, last), b(c, true), sums(up(c, DOWN) * step) {}

    // gram (c, c), squares of q and k (c): sums over the pixels of a place.
    void operator()(const Map& q, const Map& k, const Place& place, float* gram, float* squares_q,
                    float* squares_k) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for_blocks(place, [&](const Place& block) {
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

struct Application {
    const Index c, step;
    const bool last;
    Packed x, made;
    std::vector<float> m;  // (k, i) where channels are last, else (i, k)

    Application(Index c, bool last)
        : c(c), step(last ? up(c, ALONG) : c), last(last), x(c, last), made(c, last),
          m(up(c, DOWN) * step) {}

    // The pixels of a place times a matrix (c, c).
    void operator()(const Map& v, const Map& out, const Place& place, const float* matrix) {
        for (Index i = 0; i < c; i++)
            for (Index k = 0; k < c; k++) m[last ? k * step + i : i * step + k] = matrix[i * c + k];
        for_blocks(place, [&](const Place& block) {
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

// Calls f(work, image, head, place, number of the item), `work` of the thread's own; 1 if memory is
// short.
template <typename Work, typename F>
int for_items(Index batch, Index heads, Index c, bool last, const Index* places, Index count,
              Index threads, F f) {
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        std::unique_ptr<Work> work;
        try {
            work = std::make_unique<Work>(c, last);
        } catch (const std::bad_alloc&) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic)
        for (Index item = 0; item < count * batch * heads; item++) {
            const Index* p = places + 4 * (item / (batch * heads));
            if (work)
                f(*work, item / heads % batch, item % heads, Place{p[0], p[1], p[2], p[3]}, item);
        }
    }
    return failed;
}

}  // namespace

extern "C" {

// Strides are in floats; places are `count` × (top, bottom, left, right).
// gram: (count, batch, heads, c, c), q kᵀ; squares: (count, batch, heads, c), 0 before.
int glocal_products(const float* q, const Index* strides_q, const float* k, const Index* strides_k,
                    Index batch, Index heads, Index c, Index last, const Index* places, Index count,
                    Index threads, float* gram, float* squares_q, float* squares_k) {
    return for_items<Products>(
        batch, heads, c, last, places, count, threads,
        [=](Products& work, Index image, Index head, const Place& place, Index item) {
            work(map_of(const_cast<float*>(q), strides_q, image, head),
                 map_of(const_cast<float*>(k), strides_k, image, head), place, gram + item * c * c,
                 squares_q + item * c, squares_k + item * c);
        });
}

// out, over each place: its matrix (count, batch, heads, c, c) times the channels of v's pixels.
int glocal_apply(const float* v, const Index* strides_v, float* out, const Index* strides_out,
                 Index batch, Index heads, Index c, Index last, const Index* places, Index count,
                 Index threads, const float* matrices) {
    return for_items<Application>(
        batch, heads, c, last, places, count, threads,
        [=](Application& work, Index image, Index head, const Place& place, Index item) {
            work(map_of(const_cast<float*>(v), strides_v, image, head),
                 map_of(out, strides_out, image, head), place, matrices + item * c * c);
        });
}
}
