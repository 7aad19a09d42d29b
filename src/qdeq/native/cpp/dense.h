// Small linear systems and inverses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "operands.h"

namespace qdeq {

template <class T>
V<T> magnitude(V<T> value) {
  return value < 0 ? -value : value;
}

// Brings the largest entry of column k, from row k down, into row k of a (n x n) and b (n x m).
template <class T>
void pivot(V<T>* a, V<T>* b, int n, int m, int k) {
  V<T> largest = magnitude<T>(a[k * n + k]);
  Mask<T> chosen = Mask<T>{} + k;
  for (int i = k + 1; i < n; ++i) {
    const V<T> size = magnitude<T>(a[i * n + k]);
    chosen = size > largest ? Mask<T>{} + i : chosen;
    largest = size > largest ? size : largest;
  }
  auto exchange = [](Mask<T> lanes, V<T>& one, V<T>& other) {
    const V<T> held = one;
    one = lanes ? other : held;
    other = lanes ? held : other;
  };
  for (int i = k + 1; i < n; ++i) {
    const Mask<T> lanes = chosen == i;
    if (!any(lanes)) continue;
    for (int j = k; j < n; ++j) exchange(lanes, a[k * n + j], a[i * n + j]);
    for (int j = 0; j < m; ++j) exchange(lanes, b[k * m + j], b[i * m + j]);
  }
}

// Whether matrices with this largest entry and this smallest pivot are regular to working precision.
template <class T>
Mask<T> are_regular(V<T> smallest, V<T> largest, int n) {
  return smallest > n * std::numeric_limits<T>::epsilon() * largest;
}

// Solves a x = b for every lane, by elimination with partial pivoting; a and b are overwritten. Says
// where a is regular; elsewhere what is in b means nothing.
template <class T>
Mask<T> eliminate(V<T>* a, V<T>* b, int n) {
  V<T> largest{}, smallest = splat(std::numeric_limits<T>::infinity());
  for (int i = 0; i < n * n; ++i) {
    const V<T> size = magnitude<T>(a[i]);
    largest = size > largest ? size : largest;
  }
  for (int k = 0; k < n; ++k) {
    pivot<T>(a, b, n, 1, k);
    const V<T> size = magnitude<T>(a[k * n + k]);
    smallest = size < smallest ? size : smallest;
    const V<T> reciprocal = 1 / a[k * n + k];
    for (int i = k + 1; i < n; ++i) {
      const V<T> factor = a[i * n + k] * reciprocal;
      for (int j = k + 1; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
      b[i] -= factor * b[k];
    }
  }
  for (int k = n; k-- > 0;) {
    for (int j = k + 1; j < n; ++j) b[k] -= a[k * n + j] * b[j];
    b[k] /= a[k * n + k];
  }
  Mask<T> regular = are_regular<T>(smallest, largest, n);
  for (int k = 0; k < n; ++k) regular &= (b[k] - b[k]) == 0;
  return regular;
}

// The same for b of m columns, by reciprocals of pivots; says where a is regular, whatever b is.
template <class T>
Mask<T> eliminate_columns(V<T>* a, V<T>* b, int n, int m) {
  V<T> largest{}, smallest = splat(std::numeric_limits<T>::infinity());
  for (int i = 0; i < n * n; ++i) {
    const V<T> size = magnitude<T>(a[i]);
    largest = size > largest ? size : largest;
  }
  for (int k = 0; k < n; ++k) {
    pivot<T>(a, b, n, m, k);
    const V<T> size = magnitude<T>(a[k * n + k]);
    smallest = size < smallest ? size : smallest;
    const V<T> reciprocal = a[k * n + k] = 1 / a[k * n + k];
    for (int i = k + 1; i < n; ++i) {
      const V<T> factor = a[i * n + k] * reciprocal;
      for (int j = k + 1; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
      for (int j = 0; j < m; ++j) b[i * m + j] -= factor * b[k * m + j];
    }
  }
  for (int k = n; k-- > 0;)
    for (int j = 0; j < m; ++j) {
      V<T> rest = b[k * m + j];
      for (int i = k + 1; i < n; ++i) rest -= a[k * n + i] * b[i * m + j];
      b[k * m + j] = rest * a[k * n + k];
    }
  return are_regular<T>(smallest, largest, n);
}

// x = B b with the regularised inverse B of `equilibrium/dense.py`: Schulz' iteration, stopped early;
// the identity where a is not finite. For singular matrices, so rarely; b has m columns.
template <class T>
void regularise(const V<T>* a, V<T>* b, int n, int m = 1) {
  constexpr int steps = std::numeric_limits<T>::digits / 2;
  std::vector<V<T>> scaled(n * n), x(n * n), image(n * n), next(n * n);
  V<T> largest{}, total{};
  Mask<T> finite = Mask<T>{} - 1;
  for (int i = 0; i < n * n; ++i) {
    const V<T> size = magnitude<T>(a[i]);
    largest = size > largest ? size : largest;
    finite &= (a[i] - a[i]) == 0;
  }
  const V<T> size = finite & (largest > 0) ? largest : splat<T>(1);
  for (int i = 0; i < n * n; ++i) {
    scaled[i] = finite ? a[i] / size : splat<T>(i % (n + 1) == 0);
    total += scaled[i] * scaled[i];
  }
  total = total > 1 ? total : splat<T>(1);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) x[i * n + j] = scaled[j * n + i] / total;
  auto multiply = [n](const std::vector<V<T>>& one, const std::vector<V<T>>& other, auto& into) {
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) {
        V<T> sum{};
        for (int k = 0; k < n; ++k) sum += one[i * n + k] * other[k * n + j];
        into[i * n + j] = sum;
      }
  };
  for (int step = 0; step < steps; ++step) {
    multiply(x, scaled, image);
    multiply(image, x, next);
    for (int i = 0; i < n * n; ++i) x[i] = 2 * x[i] - next[i];
  }
  std::vector<V<T>> result(n * m);
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < m; ++c) {
      V<T>& entry = result[i * m + c];
      for (int j = 0; j < n; ++j) entry += x[i * n + j] / size * b[j * m + c];
      entry = finite ? entry : b[i * m + c];
    }
  std::copy(result.begin(), result.end(), b);
}

// Inverses of matrices, and whether each is regular, by Gauss-Jordan elimination with pivoting.
template <class T>
ffi::Error invert(ffi::Span<const int64_t> dims, const T* from, T* to, bool* regular) {
  constexpr int W = Lanes<T>::width;
  const int n = dims.back();
  int64_t total = 1;
  for (size_t axis = 0; axis + 2 < dims.size(); ++axis) total *= dims[axis];
  std::vector<V<T>> a(n * n), b(n * n);
  for (int64_t first = 0; first < total; first += W) {
    const int lanes = std::min<int64_t>(W, total - first);
    for (int l = 0; l < W; ++l) {
      const T* matrix = from + (first + std::min(l, lanes - 1)) * n * n;
      for (int i = 0; i < n * n; ++i) a[i][l] = matrix[i];
    }
    V<T> largest{}, smallest = splat(std::numeric_limits<T>::infinity());
    for (int i = 0; i < n * n; ++i) {
      const V<T> size = magnitude<T>(a[i]);
      largest = size > largest ? size : largest;
      b[i] = splat<T>(i % (n + 1) == 0);
    }
    for (int k = 0; k < n; ++k) {
      pivot<T>(a.data(), b.data(), n, n, k);
      const V<T> size = magnitude<T>(a[k * n + k]);
      smallest = size < smallest ? size : smallest;
      const V<T> reciprocal = 1 / a[k * n + k];
      for (int j = k + 1; j < n; ++j) a[k * n + j] *= reciprocal;
      for (int j = 0; j < n; ++j) b[k * n + j] *= reciprocal;
      for (int i = 0; i < n; ++i) {
        if (i == k) continue;
        const V<T> factor = a[i * n + k];
        for (int j = k + 1; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
        for (int j = 0; j < n; ++j) b[i * n + j] -= factor * b[k * n + j];
      }
    }
    Mask<T> good = are_regular<T>(smallest, largest, n);
    for (const V<T>& entry : b) good &= (entry - entry) == 0;
    for (int l = 0; l < lanes; ++l) {
      for (int i = 0; i < n * n; ++i) to[(first + l) * n * n + i] = b[i][l];
      regular[first + l] = good[l] != 0;
    }
  }
  return ffi::Error::Success();
}

}  // namespace qdeq
