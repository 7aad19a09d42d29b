// Vectors with a sample per lane: GCC and Clang turn arithmetic on them into what the CPU has.
#pragma once

#include <cmath>
#include <cstddef>

namespace qdeq {

// As wide as the CPU's registers: wider vectors compile too, but to code that is several times slower.
#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <class T>
struct Lanes {
  static constexpr int width = kBytes / sizeof(T);
  typedef T V __attribute__((vector_size(kBytes)));
};
template <class T>
using V = typename Lanes<T>::V;
template <class T>
using Mask = decltype(V<T>{} < V<T>{});

template <class T>
V<T> splat(T value) {
  return V<T>{} + value;
}

template <class T>
V<T> root(V<T> value) {
  V<T> result;
  for (int l = 0; l < Lanes<T>::width; ++l) result[l] = std::sqrt(value[l]);
  return result;
}

template <class T>
T sum(V<T> value) {
  for (int half = Lanes<T>::width / 2; half > 0; half /= 2)
    for (int l = 0; l < half; ++l) value[l] += value[l + half];
  return value[0];
}

typedef long long Words __attribute__((vector_size(kBytes)));

template <class M>
bool any(M mask) {
  const Words words = (Words)mask;
  long long total = words[0];
#pragma GCC unroll 8
  for (int i = 1; i < int(kBytes / sizeof(total)); ++i) total |= words[i];
  return total != 0;
}

inline void sine_cosine(V<double> x, V<double>& sine, V<double>& cosine) {
  for (int l = 0; l < Lanes<double>::width; ++l) {
    sine[l] = std::sin(x[l]);
    cosine[l] = std::cos(x[l]);
  }
}

// libm's, for some of the lanes.
__attribute__((noinline)) inline void sine_cosine_of(Mask<float> lanes, V<float> x, V<float>& sine,
                                                     V<float>& cosine) {
  for (int l = 0; l < Lanes<float>::width; ++l) {
    if (!lanes[l]) continue;
    sine[l] = float(std::sin(double(x[l])));
    cosine[l] = float(std::cos(double(x[l])));
  }
}

// Up to here the products with pi/2 below are exact enough, with and without fused multiply-add:
// the error is 9e-8; it is 3e-7 (without) beyond 8,192, 2e-3 at 1e7, and 1e14 at 1e9.
constexpr float kFarthestAngle = 8192;

// Cody and Waite's reduction to [-pi/4, pi/4], then the polynomials of Moshier's Cephes library.
inline void sine_cosine(V<float> x, V<float>& sine, V<float>& cosine) {
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  V<float> turns = (x * 0.636619772f + shift) - shift;
  auto quadrant = __builtin_convertvector(turns, Mask<float>);
  V<float> r = ((x - turns * 1.5703125f) - turns * 4.83751296997e-4f) - turns * 7.54953362e-8f;
  V<float> s = r * r;
  V<float> odd = ((-1.9515295891e-4f * s + 8.3321608736e-3f) * s - 1.6666654611e-1f) * s * r + r;
  V<float> even =
      ((2.443315711809948e-5f * s - 1.388731625493765e-3f) * s + 4.166664568298827e-2f) * s * s -
      0.5f * s + 1.0f;
  auto swap = (quadrant & 1) != 0;
  V<float> a = swap ? even : odd, b = swap ? odd : even;
  sine = (quadrant & 2) != 0 ? -a : a;
  cosine = ((quadrant + 1) & 2) != 0 ? -b : b;
  const Mask<float> near = (x <= kFarthestAngle) & (x >= -kFarthestAngle);
  if (any(~near)) sine_cosine_of(~near, x, sine, cosine);
}

}  // namespace qdeq
