// What every solver keeps: the best point of each lane, and why the lane stopped.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "lanes.h"

namespace qdeq {

// Status of a sample; 0 while it runs, or where its steps ran out. These and the solvers' other
// numbers are those of `constants.py`.
static_assert(QDEQ_OUT_OF_STEPS == 0, "the solvers test for 0");
constexpr int kConverged = QDEQ_CONVERGED, kStalled = QDEQ_STALLED, kNonfinite = QDEQ_NONFINITE;

// |f(y) - y| <= atol + rtol |f(y)|, two-norms.
template <class T>
struct Tolerances {
  V<T> relative, absolute;
  Mask<T> met(V<T> residual, V<T> scale) const { return residual <= absolute + relative * scale; }
};

// The evaluated point with the smallest residual of every lane, and why the lane stopped.
template <class T>
struct Best {
  std::vector<V<T>> point;
  V<T> residual, scale;
  Mask<T> status;

  explicit Best(int n) : point(n) {}
  void note(Mask<T> active, const V<T>* y, V<T> now, V<T> now_scale, const Tolerances<T>& within) {
    const Mask<T> finite = (now - now) == 0;
    const Mask<T> converged = finite & within.met(now, now_scale);
    const Mask<T> better = active & ((now < residual) | converged);
    for (size_t i = 0; i < point.size(); ++i) point[i] = better ? y[i] : point[i];
    residual = better ? now : residual;
    scale = better ? now_scale : scale;
    Mask<T> found = finite ? status : Mask<T>{} + kNonfinite;
    found = converged ? Mask<T>{} + kConverged : found;
    status = active ? found : status;
  }
};

// What to multiply numbers with whose squares sum up to `total`, so that squares neither overflow
// nor underflow: 1 in the ordinary range, else a power of two, as `two_norm` in `equilibrium/_common.py`.
template <class T>
struct Range {
  using Limits = std::numeric_limits<T>;
  static constexpr T least = Limits::min() / Limits::epsilon(), most = Limits::max();
  static constexpr T up = sizeof(T) == 4 ? T(0x1p100) : T(0x1p700), down = 1 / up;
  static Mask<T> left(V<T> total) { return ~((total >= least) & (total <= most)); }
  static V<T> factor(V<T> total) {
    return left(total) ? (total < least ? splat(up) : splat(down)) : splat<T>(1);
  }
};

template <class T>
V<T> norm(const V<T>* x, int n) {
  V<T> total{};
  for (int i = 0; i < n; ++i) total += x[i] * x[i];
  if (!any(Range<T>::left(total))) return root<T>(total);
  const V<T> factor = Range<T>::factor(total);
  total = V<T>{};
  for (int i = 0; i < n; ++i) total += (x[i] * factor) * (x[i] * factor);
  return root<T>(total) / factor;
}

}  // namespace qdeq
