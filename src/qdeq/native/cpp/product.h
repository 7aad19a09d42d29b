// Angle encoding after `bind`.
#pragma once

#include <algorithm>
#include <vector>

#include "operands.h"

namespace qdeq {

// f_k(m) = sum_ab C_kab left_a right_b: Pauli coefficients on light cones against the Bloch vectors of
// a product state whose angles are offset + slope m. `plan` is what `simulation/lightcone.py` writes.
template <class T>
struct Product {
  static constexpr size_t n_fixed = 2;  // offset, slope; then the coefficients of every group of cones
  static bool is_parameter(size_t operand) { return operand != 0; }
  static size_t fixed(ffi::Span<const int64_t>) { return n_fixed; }
  static bool is_shared_result(size_t) { return true; }

  struct Class {
    std::vector<int64_t> axes, wires;
  };
  struct Cones {
    int64_t cones, observables, positions, split, left, right;
    std::vector<std::vector<int64_t>> columns;  // of every position: components, the constant first
    std::vector<int64_t> wires, order;
    const T* coefficients;
  };
  // One half of a cone: products of components, and their derivatives by every m_l.
  struct Half {
    std::vector<V<T>> value, slopes;
    int64_t length;
  };

  const std::vector<Operand<T>>& operands;
  const int n;
  int64_t n_angles, n_wires, n_cones = 0, total = 0, longest = 1;
  std::vector<Class> classes;
  std::vector<Cones> groups;
  const T* slope = nullptr;
  bool shared_offset = false;  // and its sines are known
  std::vector<int64_t> alike;  // for every angle the first one with the same slope
  std::vector<V<T>> sines, cosines;              // of the offsets
  std::vector<V<T>> turn_sines, turn_cosines;    // of slope m, where `alike` points
  std::vector<V<T>> components, turned;          // turned: derivatives of components, by m_l
  Half left, right;
  std::vector<V<T>> half;
  // For `pull_back`: per cone and group of samples the factors of the outer products.
  std::vector<std::vector<V<T>>> kept;

  Product(const std::vector<Operand<T>>& operands, ffi::Span<const int64_t> plan, int n)
      : operands(operands), n(n) {
    const int64_t* next = plan.begin();
    auto list = [&next] {
      std::vector<int64_t> found(next + 1, next + 1 + next[0]);
      next += 1 + next[0];
      return found;
    };
    n_angles = *next++;
    n_wires = *next++;
    classes.resize(*next++);
    for (Class& turns : classes) {
      turns.axes = list();
      turns.wires = list();
    }
    groups.resize(*next++);
    for (Cones& group : groups) {
      group.cones = *next++;
      group.observables = *next++;
      group.positions = *next++;
      group.split = *next++;
      group.left = group.right = 1;
      for (int64_t p = 0; p < group.positions; ++p) {
        group.columns.push_back(list());
        (p < group.split ? group.left : group.right) *= group.columns.back().size();
      }
      group.wires = list();
      group.order = list();
      n_cones += group.cones;
      longest = std::max({longest, group.left, group.right});
      total += group.cones * group.observables * group.left * group.right;
    }
    alike.resize(n_angles);
    for (auto* list : {&sines, &cosines, &turn_sines, &turn_cosines}) list->resize(n_angles);
    components.resize(4 * n_wires);
    turned.resize(4 * n_wires * n);
    for (Half* one : {&left, &right}) {
      one->value.resize(longest);
      one->slopes.resize(longest * n);
    }
    half.resize(longest);
  }

  int64_t cost() const { return total + 20 * n_angles; }

  void prepare(int64_t outer) {
    shared_offset = false;
    slope = operands[1].at(outer, 0);
    for (int64_t i = 0; i < n_angles; ++i) {
      alike[i] = 0;  // at the latest i itself, though NaN equals nothing
      while (alike[i] < i && !std::equal(slope + i * n, slope + (i + 1) * n, slope + alike[i] * n)) ++alike[i];
    }
    for (size_t g = 0; g < groups.size() && operands.size() > n_fixed; ++g)
      groups[g].coefficients = operands[2 + g].at(outer, 0);
  }

  void load(int64_t outer, int64_t sample, int l) {
    constexpr int W = Lanes<T>::width;
    if (shared_offset) return;
    const T* offsets = operands[0].at(outer, sample);
    for (int64_t first = 0; first < n_angles; first += W) {
      const int count = std::min<int64_t>(W, n_angles - first);
      V<T> angles{}, s, c;
      for (int i = 0; i < count; ++i) angles[i] = offsets[first + i];
      sine_cosine(angles, s, c);
      for (int i = 0; i < count; ++i) sines[first + i][l] = s[i], cosines[first + i][l] = c[i];
    }
    // One offset for all samples, as of cells in a network: its sines are those of every lane.
    shared_offset = operands[0].is_shared();
    for (int64_t i = 0; shared_offset && i < n_angles; ++i)
      sines[i] = splat<T>(sines[i][l]), cosines[i] = splat<T>(cosines[i][l]);
  }

  void operator()(const V<T>* m, V<T>* value) {
    encode(m, false);
    each_cone([&](const Cones& group, int64_t cone) {
      halves(group, cone, false);
      for (int64_t k = 0; k < group.observables; ++k) {
        const int64_t row = cone * group.observables + k;
        contract_right(group, row, right.value.data());
        value[group.order[row]] = against(left.value.data(), group.left);
      }
    });
  }

  void linearise(const V<T>* m, V<T>* value, V<T>* jacobian) {
    encode(m, true);
    each_cone([&](const Cones& group, int64_t cone) {
      halves(group, cone, true);
      for (int64_t k = 0; k < group.observables; ++k) {
        const int64_t row = cone * group.observables + k;
        contract_right(group, row, right.value.data());
        value[group.order[row]] = against(left.value.data(), group.left);
        V<T>* into = jacobian + group.order[row] * n;
        for (int l = 0; l < n; ++l) into[l] = against(&left.slopes[l * longest], group.left);
        contract_left(group, row, left.value.data());
        for (int l = 0; l < n; ++l) into[l] += against(&right.slopes[l * longest], group.right);
      }
    });
  }

  void begin(int64_t n_groups) { kept.assign(n_cones * n_groups, {}), taken = 0; }

  void pull_back(const Group<T>&, const V<T>* m, const V<T>* value_bar, const V<T>* jacobian_bar,
                 const std::vector<Operand<T>>&) {
    encode(m, jacobian_bar != nullptr);
    each_cone([&](const Cones& group, int64_t cone) {
      halves(group, cone, jacobian_bar != nullptr);
      std::vector<V<T>>& factors = kept[taken++];
      const int64_t A = group.left, B = group.right, K = group.observables;
      factors.resize((K + 1) * (A + B));
      std::copy_n(left.value.begin(), A, factors.begin());
      std::copy_n(right.value.begin(), B, factors.begin() + A);
      V<T>* into = factors.data() + A + B;
      for (int64_t k = 0; k < K; ++k, into += A + B) {
        const int64_t row = group.order[cone * K + k];
        for (int64_t a = 0; a < A; ++a) into[a] = value_bar[row] * left.value[a];
        for (int64_t b = 0; b < B; ++b) into[A + b] = V<T>{};
        for (int l = 0; jacobian_bar && l < n; ++l) {
          const V<T> weight = jacobian_bar[row * n + l];
          for (int64_t a = 0; a < A; ++a) into[a] += weight * left.slopes[l * longest + a];
          for (int64_t b = 0; b < B; ++b) into[A + b] += weight * right.slopes[l * longest + b];
        }
      }
    });
  }

  // C_kab = sum over samples of (v_k left + J_k left')_a right_b + left_a (J_k right')_b.
  void end(int64_t outer, const std::vector<Operand<T>>& results) {
    int64_t cone_index = 0;
    for (size_t g = 0; g < groups.size(); ++g) {
      const Cones& group = groups[g];
      const int64_t A = group.left, B = group.right, K = group.observables;
      T* into = results[g].at(outer, 0);
      for (int64_t cone = 0; cone < group.cones; ++cone, ++cone_index)
        for (int64_t k = 0; k < K; ++k, into += A * B)
          for (int64_t a = 0; a < A; a += 4)
            for (int64_t b = 0; b < B; b += 4)
              outer_products(cone_index, k, a, b, A, B, into);
    }
  }

 protected:
  template <class F>
  void each_cone(F f) {
    for (const Cones& group : groups)
      for (int64_t cone = 0; cone < group.cones; ++cone) f(group, cone);
  }

  // Sine and cosine of an angle, after `encode`.
  void turn(int64_t angle, V<T>& s, V<T>& c) const {
    const int64_t same = alike[angle];
    s = sines[angle] * turn_cosines[same] + cosines[angle] * turn_sines[same];
    c = cosines[angle] * turn_cosines[same] - sines[angle] * turn_sines[same];
  }

  // A tile of 4 x 4 entries, over all groups of samples.
  void outer_products(int64_t cone, int64_t k, int64_t a0, int64_t b0, int64_t A, int64_t B, T* into) {
    V<T> tile[4][4] = {};
    const int64_t na = std::min<int64_t>(4, A - a0), nb = std::min<int64_t>(4, B - b0);
    for (int64_t index = cone; index < taken; index += n_cones) {
      const V<T>* plain = kept[index].data();
      const V<T>* own = plain + (k + 1) * (A + B);
      if (na == 4 && nb == 4) {
#pragma GCC unroll 4
        for (int a = 0; a < 4; ++a)
#pragma GCC unroll 4
          for (int b = 0; b < 4; ++b)
            tile[a][b] += own[a0 + a] * plain[A + b0 + b] + plain[a0 + a] * own[A + b0 + b];
      } else {
        for (int64_t a = 0; a < na; ++a)
          for (int64_t b = 0; b < nb; ++b)
            tile[a][b] += own[a0 + a] * plain[A + b0 + b] + plain[a0 + a] * own[A + b0 + b];
      }
    }
    for (int64_t a = 0; a < na; ++a)
      for (int64_t b = 0; b < nb; ++b) into[(a0 + a) * B + b0 + b] += sum<T>(tile[a][b]);
  }

  void encode(const V<T>* m, bool slopes) {
    for (int64_t i = 0; i < n_angles; ++i) {
      if (alike[i] != i) continue;
      V<T> moved{};
      for (int l = 0; l < n; ++l) moved += slope[i * n + l] * m[l];
      sine_cosine(moved, turn_sines[i], turn_cosines[i]);
    }
    int64_t angle = 0;
    for (const Class& turns : classes) {
      for (int64_t wire : turns.wires) {
        V<T>* bloch = &components[4 * wire];
        bloch[0] = bloch[3] = splat<T>(1), bloch[1] = bloch[2] = V<T>{};
        if (slopes) std::fill_n(&turned[4 * n * wire], 4 * n, V<T>{});
      }
      for (int64_t axis : turns.axes) {
        const int64_t from = 1 + (axis + 1) % 3, to = 1 + (axis + 2) % 3;
        for (int64_t wire : turns.wires) {
          V<T> s, c;
          turn(angle, s, c);
          V<T>* bloch = &components[4 * wire];
          const V<T> b = bloch[from], a = bloch[to];
          bloch[from] = b * c - a * s;
          bloch[to] = b * s + a * c;
          for (int l = 0; slopes && l < n; ++l) {
            V<T>* d = &turned[4 * (n * wire + l)];
            const V<T> db = d[from], da = d[to];
            const T speed = slope[angle * n + l];
            d[from] = db * c - da * s - speed * bloch[to];
            d[to] = db * s + da * c + speed * bloch[from];
          }
          ++angle;
        }
      }
    }
  }

  void halves(const Cones& group, int64_t cone, bool slopes) {
    multiply(group, cone, 0, group.split, slopes, left);
    multiply(group, cone, group.split, group.positions, slopes, right);
  }

  void multiply(const Cones& group, int64_t cone, int64_t begin, int64_t end, bool slopes, Half& into) {
    int64_t length = 1;
    into.value[0] = splat<T>(1);
    for (int l = 0; slopes && l < n; ++l) into.slopes[l * longest] = V<T>{};
    for (int64_t p = begin; p < end; ++p) {
      const int64_t wire = group.wires[cone * group.positions + p];
      const V<T>* bloch = &components[4 * wire];
      const std::vector<int64_t>& columns = group.columns[p];
      const int64_t size = columns.size();
      for (int l = 0; slopes && l < n; ++l) {
        const V<T>* d = &turned[4 * (n * wire + l)];
        V<T>* slope = &into.slopes[l * longest];
        for (int64_t i = length; i-- > 0;) {  // backwards: entries are spread out in place
          const V<T> old = slope[i], value = into.value[i];
          for (int64_t c = size; c-- > 0;)
            slope[i * size + c] = old * bloch[columns[c]] + value * d[columns[c]];
        }
      }
      for (int64_t i = length; i-- > 0;) {
        const V<T> value = into.value[i];
        for (int64_t c = size; c-- > 0;) into.value[i * size + c] = value * bloch[columns[c]];
      }
      length *= size;
    }
  }

  V<T> against(const V<T>* one, int64_t length) const {
    V<T> s[4] = {};  // several sums: one would wait for itself
    int64_t i = 0;
    for (; i + 4 <= length; i += 4)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) s[j] += one[i + j] * half[i + j];
    for (; i < length; ++i) s[0] += one[i] * half[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
  }

  // half_a = sum_b C_ab values_b, eight rows at a time: every value is loaded once for them.
  void contract_right(const Cones& group, int64_t row, const V<T>* values) {
    const int64_t A = group.left, B = group.right;
    const T* c = group.coefficients + row * A * B;
    V<T>* into = half.data();
    int64_t a = 0;
    for (; a + kRows <= A; a += kRows, c += kRows * B) {
      V<T> s[kRows] = {};
      for (int64_t b = 0; b < B; ++b)
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) s[i] += c[i * B + b] * values[b];
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) into[a + i] = s[i];
    }
    for (; a < A; ++a, c += B) {
      V<T> s{};
      for (int64_t b = 0; b < B; ++b) s += c[b] * values[b];
      into[a] = s;
    }
  }

  // half_b = sum_a values_a C_ab, eight columns at a time.
  void contract_left(const Cones& group, int64_t row, const V<T>* values) {
    const int64_t A = group.left, B = group.right;
    const T* c = group.coefficients + row * A * B;
    V<T>* into = half.data();
    int64_t b = 0;
    for (; b + kRows <= B; b += kRows) {
      V<T> s[kRows] = {};
      for (int64_t a = 0; a < A; ++a)
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) s[i] += c[a * B + b + i] * values[a];
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) into[b + i] = s[i];
    }
    for (; b < B; ++b) {
      V<T> s{};
      for (int64_t a = 0; a < A; ++a) s += c[a * B + b] * values[a];
      into[b] = s;
    }
  }

  static constexpr int kRows = 8;  // as many sums as there are registers for

 private:
  int64_t taken = 0;
};

}  // namespace qdeq
