// Vectors with a sample per lane: GCC and Clang turn arithmetic on them into what the CPU has.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

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

// One stage of a transposition: exchanges the entries of a whose index has the bit `half` for those
// of b whose index has not.
#if defined(__clang__) || __GNUC__ >= 12
template <class T, int half, size_t... l>
void exchange(V<T>& a, V<T>& b, std::index_sequence<l...>) {
  constexpr int W = sizeof...(l);
  const V<T> one = __builtin_shufflevector(a, b, (l & half ? W + int(l) - half : int(l))...);
  b = __builtin_shufflevector(a, b, (l & half ? W + int(l) : int(l) + half)...);
  a = one;
}
#else
template <class T, int half, size_t... l>
void exchange(V<T>& a, V<T>& b, std::index_sequence<l...>) {
  const V<T> one = a, other = b;
  for (int i : {int(l)...}) a[i] = i & half ? other[i - half] : one[i];
  for (int i : {int(l)...}) b[i] = i & half ? other[i] : one[i + half];
}
#endif

// Entry l of row k <-> entry k of row l.
template <class T, int half = Lanes<T>::width / 2>
void transpose(V<T>* rows) {
  constexpr int W = Lanes<T>::width;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i)
    if (!(i & half)) exchange<T, half>(rows[i], rows[i + half], std::make_index_sequence<W>());
  if constexpr (half > 1) transpose<T, half / 2>(rows);
}

// Moves `size` numbers of each lane: `put(i, v)` gets the i-th of all lanes. Together, since one by one
// costs as much as the arithmetic of a small circuit.
template <class T, class Put>
void from_lanes(const T* const* from, int64_t size, Put put) {
  constexpr int W = Lanes<T>::width;
  for (int64_t first = 0; size >= W; first = first + 2 * W <= size ? first + W : size - W) {
    V<T> rows[W];
    for (int l = 0; l < W; ++l) std::memcpy(&rows[l], from[l] + first, sizeof(V<T>));
    transpose<T>(rows);
    for (int k = 0; k < W; ++k) put(first + k, rows[k]);
    if (first + W == size) return;
  }
  for (int64_t i = 0; i < size; ++i) {
    V<T> v;
    for (int l = 0; l < W; ++l) v[l] = from[l][i];
    put(i, v);
  }
}

// And back, for the first `lanes` of them.
template <class T>
void to_lanes(const V<T>* from, int64_t size, T* const* into, int lanes) {
  constexpr int W = Lanes<T>::width;
  for (int64_t first = 0; size >= W; first = first + 2 * W <= size ? first + W : size - W) {
    V<T> rows[W];
    for (int k = 0; k < W; ++k) rows[k] = from[first + k];
    transpose<T>(rows);
    for (int l = 0; l < lanes; ++l) std::memcpy(into[l] + first, &rows[l], sizeof(V<T>));
    if (first + W == size) return;
  }
  for (int l = 0; l < lanes; ++l)
    for (int64_t i = 0; i < size; ++i) into[l][i] = from[i][l];
}

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
