// Exact powers of two, also of denormal numbers, which the threads that run kernels take for zero.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace qdeq {

template <class T>
struct Bits {
  using Word = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  static constexpr int fraction = std::numeric_limits<T>::digits - 1;
  static constexpr int bias = std::numeric_limits<T>::max_exponent - 1;
  static constexpr Word exponents = 2 * Word(bias) + 1;

  static Word of(T value) {
    Word word;
    std::memcpy(&word, &value, sizeof(T));
    return word;
  }
};

// e with 2^e <= |value| < 2^(e + 1); below that of every normal number for smaller ones, above for
// what is not a number.
template <class T>
int exponent_of(T value) {
  return int((Bits<T>::of(value) >> Bits<T>::fraction) & Bits<T>::exponents) - Bits<T>::bias;
}

template <class T>
T times_power(T value, int power) {
  using B = Bits<T>;
  if (exponent_of(value) == -B::bias) {
    const typename B::Word word = B::of(value), low = word & ((typename B::Word(1) << B::fraction) - 1);
    value = T(word < 0 ? -low : low);
    power += std::numeric_limits<T>::min_exponent - 1 - B::fraction;
  }
  const int most = 2 * (B::bias - 1);
  power = power < -most ? -most : power > most ? most : power;
  const int half = power >> 1;
  return value * std::ldexp(T(1), half) * std::ldexp(T(1), power - half);
}

}  // namespace qdeq
