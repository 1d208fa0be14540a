// Window moments and local instance norm of float32 maps, computed in float64.

#include "export.h"
#include "sums.h"

#include <cmath>
#include <vector>

using namespace glocal;

namespace {

// The mean of each channel, repeated for each pixel of a row. It is subtracted before squaring:
// any centre gives the same variance, and the mean loses least to cancellation.
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
        if (!std::isfinite(mean)) mean = 0;  // would spoil the windows without such a value
        for (Index i = l; i < m; i += map.lanes) centre[i] = float(mean);
    }
    return centre;
}

// One value per channel, repeated for each pixel of a row; `otherwise` if there are no values.
std::vector<float> repeated(const float* values, const Map& map, float otherwise) {
    std::vector<float> row(map.values(), otherwise);
    for (Index i = 0; values && i < map.values(); i++) row[i] = values[i % map.lanes];
    return row;
}

// Copies the values of a row of windows to the pixels of a row: each gets its nearest window's.
void spread(std::vector<float>& row, const float* values, const Map& map) {
    const Index before = (map.kw - 1) / 2, columns = map.columns(), lanes = map.lanes;
    for (Index p = 0; p < before; p++) std::copy(values, values + lanes, &row[p * lanes]);
    std::copy(values, values + columns * lanes, &row[before * lanes]);
    const float* last = values + (columns - 1) * lanes;
    for (Index p = before + columns; p < map.w; p++) std::copy(last, last + lanes, &row[p * lanes]);
}

// Calls f(row, means, variances) for every row of windows. The means are those of x - c.
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

}  // namespace

extern "C" {

// Both results: (outer, h - kh + 1, w - kw + 1, c).
EXPORT int glocal_moments(const float* x, double* mean, double* variance, Index outer, Index h,
                          Index w, Index c, Index kh, Index kw, Index block, Index lanes,
                          Index threads) {
    return for_items({h, w, c, kh, kw, block}, outer, lanes, threads,
                     [=](const Map& map, Index image, Index first) {
                         const Index at = image * map.rows() * map.columns() * c + first;
                         moments(map, x + image * h * w * c + first, mean + at, variance + at);
                     });
}

// out: (outer, h, w, c). Weight and bias have one value per channel, or both are null. With c = 1,
// image i belongs to channel i % channels.
EXPORT int glocal_instance_norm(const float* x, const float* weight, const float* bias, float* out,
                                Index outer, Index h, Index w, Index c, Index kh, Index kw,
                                Index block, Index lanes, Index threads, Index channels,
                                double eps) {
    return for_items({h, w, c, kh, kw, block}, outer, lanes, threads,
                     [=](const Map& map, Index image, Index first) {
                         const Index at = c == channels ? first : image % channels;
                         instance_norm(map, x + image * h * w * c + first,
                                       weight ? weight + at : nullptr, bias ? bias + at : nullptr,
                                       out + image * h * w * c + first, eps);
                     });
}
}
