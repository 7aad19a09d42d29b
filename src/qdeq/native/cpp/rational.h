// Amplitude encoding after `bind`.
#pragma once

#include <algorithm>
#include <vector>

#include "operands.h"

namespace qdeq {

// f_k(m) = (c_k + b_k.m + m'Q_k m) / (s + g.m + m'G m); 0 where the denominator is not positive.
template <class T>
struct Rational {
  static constexpr size_t n_fixed = 3;  // s, g, G; then c, b, Q
  static bool is_parameter(size_t operand) { return operand == 2 || operand == 5; }

  const std::vector<Operand<T>>& operands;
  const int n, pairs;
  std::vector<T> quadratic;    // rows k, then the denominator: Q_ll and Q_lm + Q_ml for l < m
  std::vector<V<T>> constant;  // c, then s
  std::vector<V<T>> linear;    // b, then g
  std::vector<V<T>> products;  // m_l m_m
  std::vector<V<T>> slope;     // of the denominator
  std::vector<V<T>> pulled;    // cotangents of Q, summed over the groups

  Rational(const std::vector<Operand<T>>& operands, ffi::Span<const int64_t>, int n)
      : operands(operands), n(n), pairs(n * (n + 1) / 2), quadratic((n + 1) * pairs), constant(n + 1),
        linear((n + 1) * n), products(pairs), slope(n), pulled(n * n * n) {}

  int64_t cost() const { return (n + 1) * (n + pairs); }

  void prepare(int64_t outer) {
    T* packed = quadratic.data();
    const T* top = operands.size() > n_fixed ? operands[5].at(outer, 0) : nullptr;
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
    if (operands.size() == n_fixed) return;
    operands[3].load(outer, sample, l, constant.data());
    operands[4].load(outer, sample, l, linear.data());
  }

  void operator()(const V<T>* m, V<T>* value) {
    multiply(m);
    const V<T> inverse = inverse_denominator(m);
    for (int k = 0; k < n; ++k) value[k] = polynomial(k, m) * inverse;
  }

  void linearise(const V<T>* m, V<T>* value, V<T>* jacobian) {
    multiply(m);
    const V<T> inverse = inverse_denominator(m);
    gradient(n, m, slope.data());
    for (int k = 0; k < n; ++k) {
      value[k] = polynomial(k, m) * inverse;
      V<T>* row = jacobian + k * n;
      gradient(k, m, row);
      for (int l = 0; l < n; ++l) row[l] = (row[l] - value[k] * slope[l]) * inverse;
    }
  }

  void begin(int64_t) { std::fill(pulled.begin(), pulled.end(), V<T>{}); }

  // Lanes beyond the last sample have zero cotangents.
  void pull_back(const Group<T>& group, const V<T>* m, const V<T>* value_bar,
                 const V<T>* jacobian_bar, const std::vector<Operand<T>>& results) {
    multiply(m);
    const V<T> inverse = inverse_denominator(m);
    gradient(n, m, slope.data());
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
    results[0].add(group, c);
    results[1].add(group, b);
  }

  void end(int64_t outer, const std::vector<Operand<T>>& results) {
    T* into = results[2].at(outer, 0);
    for (int i = 0; i < n * n * n; ++i) into[i] += sum<T>(pulled[i]);
  }

 private:
  void multiply(const V<T>* m) {
    V<T>* product = products.data();
    for (int l = 0; l < n; ++l)
      for (int j = l; j < n; ++j) *product++ = m[l] * m[j];
  }
  V<T> polynomial(int k, const V<T>* m) const {
    V<T> one = constant[k], two{};
    for (int l = 0; l < n; ++l) one += linear[k * n + l] * m[l];
    const T* row = quadratic.data() + k * pairs;
    int p = 0;
    for (; p + 1 < pairs; p += 2) {
      one += row[p] * products[p];
      two += row[p + 1] * products[p + 1];
    }
    if (p < pairs) one += row[p] * products[p];
    return one + two;
  }
  V<T> inverse_denominator(const V<T>* m) const {
    const V<T> bottom = polynomial(n, m);
    return bottom > 0 ? 1 / bottom : V<T>{};
  }
  void gradient(int k, const V<T>* m, V<T>* into) const {
    for (int l = 0; l < n; ++l) into[l] = linear[k * n + l];
    const T* row = quadratic.data() + k * pairs;
    for (int l = 0; l < n; ++l) {
      into[l] += 2 * *row++ * m[l];
      for (int j = l + 1; j < n; ++j, ++row) {
        into[l] += *row * m[j];
        into[j] += *row * m[l];
      }
    }
  }
};

}  // namespace qdeq
