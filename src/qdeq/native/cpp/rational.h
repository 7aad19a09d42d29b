// Amplitude encoding after `bind`.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "operands.h"
#include "powers.h"

namespace qdeq {

// f_k(m) = (c_k + b_k.m + m'Q_k m) / (s + g.m + m'G m); 0 where the denominator is not positive.
// With exponents e of the sample and r_l of the columns of R other than 0 the numbers are those of x
// and R over powers of two: then, and where squares are about to leave the type, m_l is multiplied by
// 2^(r_l - p) first, b and g by 2^(e - p) and c and s by its square, where 2^p is about the largest
// entry of x and of the R_l m_l (`_scale.py`). Only ratios count, so nothing else changes.
template <class T>
struct Rational {
  static constexpr size_t n_fixed = 5;  // s, g, G, e, r; then c, b, Q
  static bool is_parameter(size_t operand) { return operand == 2 || operand == 4 || operand == 7; }
  static size_t fixed(ffi::Span<const int64_t>) { return n_fixed; }
  static bool is_shared_result(size_t result) { return is_parameter(n_fixed + result); }

  const std::vector<Operand<T>>& operands;
  const int n, pairs;
  std::vector<T> quadratic;    // rows k, then the denominator: Q_ll and Q_lm + Q_ml for l < m
  std::vector<V<T>> constant;  // c, then s
  std::vector<V<T>> linear;    // b, then g
  std::vector<V<T>> products;  // m_l m_m
  std::vector<V<T>> slope;     // of the denominator
  std::vector<V<T>> pulled;    // cotangents of Q, summed over the groups
  V<T> exponent{};             // e
  const T* columns = nullptr;  // r
  bool columns_ordinary = true;
  // Where m is multiplied: the products, the numbers of the sample for them, and by what.
  bool turned = false;
  std::vector<V<T>> turned_m, turned_constant, turned_linear, turned_bar, turn;
  V<T> weight;

  Rational(const std::vector<Operand<T>>& operands, ffi::Span<const int64_t>, int n)
      : operands(operands), n(n), pairs(n * (n + 1) / 2), quadratic((n + 1) * pairs), constant(n + 1),
        linear((n + 1) * n), products(pairs), slope(n), pulled(n * n * n), turned_m(n),
        turned_constant(n + 1), turned_linear((n + 1) * n), turned_bar(n * n), turn(n) {
    constant[n] = splat<T>(1);  // lanes that get no sample have an ordinary denominator
  }

  int64_t cost() const { return (n + 1) * (n + pairs); }

  void prepare(int64_t outer) {
    T* packed = quadratic.data();
    const T* top = operands.size() > n_fixed ? operands[7].at(outer, 0) : nullptr;
    columns = operands[4].at(outer, 0);
    columns_ordinary = std::all_of(columns, columns + n, [](T r) { return r == 0 || r == kAbsent; });
    for (int k = 0; k <= n; ++k) {
      const T* full = k < n ? top + k * n * n : operands[2].at(outer, 0);
      if (k < n && !top) {
        packed += pairs;
        continue;
      }
      for (int l = 0; l < n; ++l) {
        *packed++ = full[l * n + l];
        for (int m = l + 1; m < n; ++m) *packed++ = full[l * n + m] + full[m * n + l];
      }
    }
  }

  void load(int64_t outer, int64_t sample, int l) {
    operands[0].load(outer, sample, l, constant.data() + n);
    operands[1].load(outer, sample, l, linear.data() + n * n);
    operands[3].load(outer, sample, l, &exponent);
    if (operands.size() == n_fixed) return;
    operands[5].load(outer, sample, l, constant.data());
    operands[6].load(outer, sample, l, linear.data());
  }

  void operator()(const V<T>* m, V<T>* value) {
    const V<T> inverse = inverse_denominator(m);
    for (int k = 0; k < n; ++k) value[k] = polynomial(k) * inverse;
  }

  void linearise(const V<T>* m, V<T>* value, V<T>* jacobian) {
    const V<T> inverse = inverse_denominator(m);
    gradient(n, slope.data());
    for (int k = 0; k < n; ++k) {
      value[k] = polynomial(k) * inverse;
      V<T>* row = jacobian + k * n;
      gradient(k, row);
      for (int l = 0; l < n; ++l) row[l] = (row[l] - value[k] * slope[l]) * inverse;
      for (int l = 0; turned && l < n; ++l) row[l] *= turn[l];
    }
  }

  void begin(int64_t) { std::fill(pulled.begin(), pulled.end(), V<T>{}); }

  // Lanes beyond the last sample have zero cotangents.
  void pull_back(const Group<T>& group, const V<T>* m, const V<T>* value_bar,
                 const V<T>* jacobian_bar, const std::vector<Operand<T>>& results) {
    const V<T> inverse = inverse_denominator(m);
    gradient(n, slope.data());
    if (turned) {
      for (int k = 0; jacobian_bar && k < n; ++k)
        for (int l = 0; l < n; ++l) turned_bar[k * n + l] = jacobian_bar[k * n + l] * turn[l];
      m = turned_m.data();
      jacobian_bar = jacobian_bar ? turned_bar.data() : nullptr;
    }
    V<T>*c = constant.data(), *b = linear.data();
    for (int k = 0; k < n; ++k) {
      V<T> top = value_bar[k];
      for (int l = 0; jacobian_bar && l < n; ++l)
        top -= jacobian_bar[k * n + l] * inverse * slope[l];
      c[k] = top = top * inverse;
      for (int l = 0; l < n; ++l) {
        const V<T> edge = jacobian_bar ? jacobian_bar[k * n + l] * inverse : V<T>{};
        b[k * n + l] = top * m[l] + edge;
        V<T>* row = pulled.data() + (k * n + l) * n;
        for (int j = 0; j < n; ++j) {
          row[j] += b[k * n + l] * m[j];
          if (jacobian_bar) row[j] += jacobian_bar[k * n + j] * inverse * m[l];
        }
      }
    }
    if (turned) {
      for (int k = 0; k < n; ++k) c[k] = c[k] * weight * weight;
      for (int i = 0; i < n * n; ++i) b[i] *= weight;
    }
    results[0].add(group, c);
    results[1].add(group, b);
  }

  void end(int64_t outer, const std::vector<Operand<T>>& results) {
    T* into = results[2].at(outer, 0);
    for (int i = 0; i < n * n * n; ++i) into[i] += sum<T>(pulled[i]);
  }

 private:
  // The numbers of `_scale.py`, which says what they are.
  static constexpr T kAbsent = -(1 << 20);
  static constexpr int kLargest = std::numeric_limits<T>::max_exponent * 25 / 32;
  static constexpr int kOrdinary = std::numeric_limits<T>::max_exponent * 5 / 16;
  const T large = std::ldexp(T(1), kLargest), small = 1 / large;
  const V<T>*constants = nullptr, *linears = nullptr, *point = nullptr;  // what is evaluated

  // Gets everything ready for `polynomial` and `gradient` at m.
  V<T> inverse_denominator(const V<T>* m) {
    constants = constant.data(), linears = linear.data(), point = m;
    turned = false;
    V<T> bottom = denominator();
    if (!columns_ordinary || any(~((exponent == 0) & (bottom > small) & (bottom < large)))) {
      turned = true;
      take_powers(m);
      constants = turned_constant.data(), linears = turned_linear.data(), point = turned_m.data();
      bottom = denominator();
    }
    return bottom <= 0 ? V<T>{} : 1 / bottom;  // what is not a number stays so
  }
  V<T> denominator() {
    V<T>* product = products.data();
    for (int l = 0; l < n; ++l)
      for (int j = l; j < n; ++j) *product++ = point[l] * point[j];
    return polynomial(n);
  }
  void take_powers(const V<T>* m) {
    for (int l = 0; l < Lanes<T>::width; ++l) {
      int power = exponent[l];
      auto size = [&](int i) { return std::max(exponent_of(m[i][l]), -kLargest); };
      for (int i = 0; i < n; ++i) power = std::max(power, size(i) + int(columns[i]));
      weight[l] = times_power<T>(1, exponent[l] - power);
      for (int i = 0; i < n; ++i) {
        const int idle = std::max(power, std::max(size(i), 0) - kOrdinary);
        const int by = columns[i] == kAbsent ? -idle : int(columns[i]) - power;
        turn[i][l] = times_power<T>(1, by);
        turned_m[i][l] = times_power<T>(m[i][l], by);
      }
    }
    for (int k = 0; k <= n; ++k) turned_constant[k] = constant[k] * weight * weight;
    for (int i = 0; i < (n + 1) * n; ++i) turned_linear[i] = linear[i] * weight;
  }
  V<T> polynomial(int k) const {
    V<T> one = constants[k], two{};
    for (int l = 0; l < n; ++l) one += linears[k * n + l] * point[l];
    const T* row = quadratic.data() + k * pairs;
    int p = 0;
    for (; p + 1 < pairs; p += 2) {
      one += row[p] * products[p];
      two += row[p + 1] * products[p + 1];
    }
    if (p < pairs) one += row[p] * products[p];
    return one + two;
  }
  void gradient(int k, V<T>* into) const {
    for (int l = 0; l < n; ++l) into[l] = linears[k * n + l];
    const T* row = quadratic.data() + k * pairs;
    for (int l = 0; l < n; ++l) {
      into[l] += 2 * *row++ * point[l];
      for (int j = l + 1; j < n; ++j, ++row) {
        into[l] += *row * point[j];
        into[j] += *row * point[l];
      }
    }
  }
};

}  // namespace qdeq
