// Broyden's method for a batch of small model functions, without a call per operation.
//
// XLA runs a solver's loop on CPU as dozens of short loops per step, for the whole batch and until its
// slowest sample is done. Here a group of samples, one per lane of a 64-byte vector, walks through all
// of its steps in registers and first-level cache, and stops when its own samples have stopped.
// The arithmetic is that of `equilibrium/broyden.py` and `equilibrium/_solve.py`.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Real = QDEQ_REAL;  // float or double: a library for each, built when it is needed
using Reals = ffi::Buffer<std::is_same_v<Real, float> ? ffi::F32 : ffi::F64>;
using Integers = ffi::Buffer<ffi::S32>;

// ---------------------------------------------------------------------------------------------
// Lanes: one sample per lane; GCC and Clang turn arithmetic on such vectors into what the CPU has.

template <class T>
struct Lanes {
  static constexpr int width = 64 / sizeof(T);
  typedef T V __attribute__((vector_size(64)));
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

template <class M>
bool any(M mask) {
  auto total = mask[0];
  for (size_t l = 1; l < sizeof(M) / sizeof(mask[0]); ++l) total |= mask[l];
  return total != 0;
}

inline void sine_cosine(V<double> x, V<double>& sine, V<double>& cosine) {
  for (int l = 0; l < Lanes<double>::width; ++l) {
    sine[l] = std::sin(x[l]);
    cosine[l] = std::cos(x[l]);
  }
}

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
}

// ---------------------------------------------------------------------------------------------
// Operands: `jax.vmap` gives every buffer the same leading axes, of length 1 where it is shared.

// The samples of a call. Those along the last leading axis have the same parameters and are taken
// together, lane by lane; where parameters differ by sample, each is taken on its own.
struct Batch {
  size_t rank;
  std::vector<int64_t> outer;
  int64_t inner = 1, n_outer = 1;

  Batch(ffi::Span<const int64_t> leading, bool together) : rank(leading.size()) {
    outer.assign(leading.begin(), leading.end());
    if (together && rank > 0) {
      inner = outer.back();
      outer.pop_back();
    }
    for (int64_t size : outer) n_outer *= size;
  }
};

// Samples that share their parameters, one per lane; the last one fills up.
template <class T>
struct Group {
  int64_t outer;
  int lanes;
  int64_t samples[Lanes<T>::width];

  static Group from(int64_t outer, int64_t first, int64_t inner) {
    Group group{outer, int(std::min<int64_t>(Lanes<T>::width, inner - first)), {}};
    for (int l = 0; l < Lanes<T>::width; ++l) group.samples[l] = std::min(first + l, inner - 1);
    return group;
  }
};

template <class T>
class Operand {
 public:
  Operand(const ffi::AnyBuffer& buffer, const Batch& batch)
      : data_(static_cast<T*>(buffer.untyped_data())), batch_(&batch), strides_(batch.rank) {
    auto dims = buffer.dimensions();
    for (size_t axis = batch.rank; axis < dims.size(); ++axis) core_ *= dims[axis];
    int64_t stride = core_;
    for (size_t axis = batch.rank; axis-- > 0; stride *= dims[axis])
      strides_[axis] = dims[axis] == 1 ? 0 : stride;
    if (batch.outer.size() < batch.rank) inner_stride_ = strides_.back();
  }
  int64_t size() const { return core_; }
  bool is_shared() const { return inner_stride_ == 0; }
  T* at(int64_t outer, int64_t inner) const {
    int64_t offset = inner * inner_stride_;
    for (size_t axis = batch_->outer.size(); axis-- > 0;) {
      offset += (outer % batch_->outer[axis]) * strides_[axis];
      outer /= batch_->outer[axis];
    }
    return data_ + offset;
  }
  // Entry i of lane l becomes entry i of the sample.
  void load(int64_t outer, int64_t sample, int l, V<T>* into) const {
    const T* from = at(outer, sample);
    for (int64_t i = 0; i < core_; ++i) into[i][l] = from[i];
  }
  void load(const Group<T>& group, V<T>* into) const {
    for (int l = 0; l < Lanes<T>::width; ++l) load(group.outer, group.samples[l], l, into);
  }
  void store(const Group<T>& group, const V<T>* from) const {
    for (int l = 0; l < group.lanes; ++l) {
      T* into = at(group.outer, group.samples[l]);
      for (int64_t i = 0; i < core_; ++i) into[i] = from[i][l];
    }
  }
  // Adds the lanes to their samples' entries, which are one and the same where they are shared.
  void add(const Group<T>& group, const V<T>* from) const {
    for (int l = 0; l < group.lanes; ++l) {
      T* into = at(group.outer, group.samples[l]);
      for (int64_t i = 0; i < core_; ++i) into[i] += from[i][l];
    }
  }

 private:
  T* data_;
  const Batch* batch_;
  std::vector<int64_t> strides_;
  int64_t core_ = 1, inner_stride_ = 0;
};

// ---------------------------------------------------------------------------------------------
// Model functions. Operands are first fixed ones, then those in which the function is linear; the
// latter are missing where only the former matter. `prepare` once per value of the parameters, `load`
// once per sample and lane, then the value, the value with its Jacobian (row k, column l), or what cotangents
// of both give for the linear operands.

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

// f_k(m) = sum_ab C_kab left_a right_b: Pauli coefficients on light cones against the Bloch vectors of
// a product state whose angles are offset + slope m. `plan` is what `simulation/lightcone.py` writes.
template <class T>
struct Product {
  static constexpr size_t n_fixed = 2;  // offset, slope; then the coefficients of every group of cones
  static bool is_parameter(size_t operand) { return operand != 0; }

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
    slope = operands[1].at(outer, 0);
    for (int64_t i = 0; i < n_angles; ++i) {
      alike[i] = 0;
      while (!std::equal(slope + i * n, slope + (i + 1) * n, slope + alike[i] * n)) ++alike[i];
    }
    for (size_t g = 0; g < groups.size() && operands.size() > n_fixed; ++g)
      groups[g].coefficients = operands[2 + g].at(outer, 0);
  }

  void load(int64_t outer, int64_t sample, int l) {
    constexpr int W = Lanes<T>::width;
    const T* offsets = operands[0].at(outer, sample);
    for (int64_t first = 0; first < n_angles; first += W) {
      const int count = std::min<int64_t>(W, n_angles - first);
      V<T> angles{}, s, c;
      for (int i = 0; i < count; ++i) angles[i] = offsets[first + i];
      sine_cosine(angles, s, c);
      for (int i = 0; i < count; ++i) sines[first + i][l] = s[i], cosines[first + i][l] = c[i];
    }
  }

  void operator()(const V<T>* m, V<T>* value) {
    encode(m, false);
    each_cone([&](const Cones& group, int64_t cone) {
      halves(group, cone, false);
      for (int64_t k = 0; k < group.observables; ++k) {
        const int64_t row = cone * group.observables + k;
        contract_right(group, row);
        V<T> total{};
        for (int64_t a = 0; a < group.left; ++a) total += left.value[a] * half[a];
        value[group.order[row]] = total;
      }
    });
  }

  void linearise(const V<T>* m, V<T>* value, V<T>* jacobian) {
    encode(m, true);
    each_cone([&](const Cones& group, int64_t cone) {
      halves(group, cone, true);
      for (int64_t k = 0; k < group.observables; ++k) {
        const int64_t row = cone * group.observables + k;
        contract_right(group, row);
        V<T> total{};
        for (int64_t a = 0; a < group.left; ++a) total += left.value[a] * half[a];
        value[group.order[row]] = total;
        V<T>* into = jacobian + group.order[row] * n;
        for (int l = 0; l < n; ++l) into[l] = along(left, l, group.left);
        contract_left(group, row);
        for (int l = 0; l < n; ++l) into[l] += along(right, l, group.right);
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

 private:
  int64_t taken = 0;

  template <class F>
  void each_cone(F f) {
    for (const Cones& group : groups)
      for (int64_t cone = 0; cone < group.cones; ++cone) f(group, cone);
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
      V<T> turn{};
      for (int l = 0; l < n; ++l) turn += slope[i * n + l] * m[l];
      sine_cosine(turn, turn_sines[i], turn_cosines[i]);
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
          const int64_t same = alike[angle];
          const V<T> s = sines[angle] * turn_cosines[same] + cosines[angle] * turn_sines[same];
          const V<T> c = cosines[angle] * turn_cosines[same] - sines[angle] * turn_sines[same];
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

  V<T> along(const Half& one, int l, int64_t length) const {
    V<T> total{};
    for (int64_t i = 0; i < length; ++i) total += one.slopes[l * longest + i] * half[i];
    return total;
  }

  // half_a = sum_b C_ab right_b, eight rows at a time: every right_b is loaded once for them.
  void contract_right(const Cones& group, int64_t row) {
    const int64_t A = group.left, B = group.right;
    const T* c = group.coefficients + row * A * B;
    const V<T>* values = right.value.data();
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

  // half_b = sum_a left_a C_ab, eight columns at a time.
  void contract_left(const Cones& group, int64_t row) {
    const int64_t A = group.left, B = group.right;
    const T* c = group.coefficients + row * A * B;
    const V<T>* values = left.value.data();
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
};

// ---------------------------------------------------------------------------------------------
// The solver.

template <class T>
struct Outputs {
  T *point, *residual, *scale, *last, *trace, *secant;
  int32_t *steps, *status, *more;  // `more`: steps of the fallback
};

// Status of a sample; 0 while it runs, or where its steps ran out.
constexpr int kConverged = 1, kStalled = 2, kNonfinite = 3;

constexpr double kFloor = 0.1;     // Moré and Trangenstein's sigma
constexpr double kProgress = 0.9;  // what the residual has to fall to

// The numbers of `equilibrium/homotopy.py`, which says what they are.
constexpr double kFirstStep = 0.2, kLargestStep = 1, kSmallestStep = 1e-3, kNear = 0.05;
constexpr double kCorrections = 3, kContraction = 0.7, kFarthest = 1, kShrink = 3, kGrow = 2;

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
    const Mask<T> converged = within.met(now, now_scale);
    const Mask<T> better = active & ((now < residual) | converged);
    for (size_t i = 0; i < point.size(); ++i) point[i] = better ? y[i] : point[i];
    residual = better ? now : residual;
    scale = better ? now_scale : scale;
    Mask<T> found = (now - now) == 0 ? status : Mask<T>{} + kNonfinite;
    found = converged ? Mask<T>{} + kConverged : found;
    status = active ? found : status;
  }
};

template <class T>
V<T> norm(const V<T>* x, int n) {
  V<T> total{};
  for (int i = 0; i < n; ++i) total += x[i] * x[i];
  return root<T>(total);
}

// A lane that is done takes the next sample of the queue: none waits for a slow neighbour.
template <class T>
struct Broyden {
  using Vec = V<T>;
  using M = Mask<T>;
  static constexpr int W = Lanes<T>::width;
  const int n, max_steps, stall_steps;
  Tolerances<T> within;
  Best<T> best;
  std::vector<Vec> y, out, g, move, old, change, inverse, row;
  std::vector<Vec> relative;  // residuals of all iterations so far
  Vec steps, budget, reference, waiting;
  int64_t sample[W];
  size_t begun[W];  // the lane's first iteration

  Broyden(int n, int max_steps, int stall_steps)
      : n(n), max_steps(max_steps), stall_steps(stall_steps), within{}, best(n), y(n), out(n), g(n),
        move(n), old(n), change(n), inverse(n * n), row(n) {}

  // Samples `first` to `end - 1`: `fetch(sample, lane)` gets one ready, `finish(sample, lane)` keeps
  // what came out.
  template <class Map, class Fetch, class Finish>
  void run(Map& map, int64_t first, int64_t end, Fetch fetch, Finish finish) {
    const T tiny = std::numeric_limits<T>::min();
    relative.clear();
    best.status = M{} + kConverged;
    std::fill(sample, sample + W, -1);
    steps = budget = reference = waiting = Vec{};
    within.relative = within.absolute = Vec{};
    int64_t next = first;
    while (true) {
      M active = (best.status == 0) & (steps < budget);
      if (any(~active)) {
        for (int l = 0; l < W; ++l) {
          if (active[l]) continue;
          if (sample[l] >= 0) finish(sample[l], l);
          sample[l] = -1;
          if (next == end) continue;
          begin(l);
          fetch(sample[l] = next++, l);
        }
        active = (best.status == 0) & (steps < budget);
        if (!any(active)) {
          if (std::none_of(sample, sample + W, [](int64_t s) { return s >= 0; })) return;
          continue;  // samples without a budget
        }
      }
      map(y.data(), out.data());
      for (int i = 0; i < n; ++i) g[i] = out[i] - y[i];
      const Vec residual = norm<T>(g.data(), n), scale = norm<T>(out.data(), n);
      relative.push_back(residual / (scale > tiny ? scale : splat(tiny)));
      if (stall_steps > 0) {
        const M fell = residual < T(kProgress) * reference;
        reference = active & fell ? residual : reference;
        waiting = active ? (fell ? Vec{} : waiting + 1) : waiting;
        best.status = active & (waiting >= T(stall_steps)) ? M{} + kStalled : best.status;
      }
      best.note(active, y.data(), residual, scale, within);
      learn_and_move(active);
      steps += active ? splat<T>(1) : Vec{};
    }
  }

 private:
  void begin(int l) {
    begun[l] = relative.size();
    steps[l] = waiting[l] = 0;
    reference[l] = best.residual[l] = best.scale[l] = std::numeric_limits<T>::infinity();
    best.status[l] = 0;
    for (int i = 0; i < n; ++i) {
      move[i][l] = 0;
      for (int j = 0; j < n; ++j) inverse[i * n + j][l] = i == j ? -1 : 0;
    }
  }

  // Learns from the last move what it did to g, and moves by -H g.
  void learn_and_move(M active) {
    Vec size{}, along{}, overlap{};
    for (int i = 0; i < n; ++i) {
      Vec sum{};
      for (int j = 0; j < n; ++j) sum += inverse[i * n + j] * g[j];
      old[i] = sum;
      change[i] = sum + move[i];
      size += move[i] * move[i];
      along += move[i] * change[i];
      overlap += move[i] * sum;
    }
    const M known = size > 0;
    const Vec safe = known ? size : splat<T>(1);
    const Vec ratio = along / safe;
    const Vec floor = ratio < 0 ? splat<T>(-kFloor) : splat<T>(kFloor);
    const M damped = (ratio < 0 ? -ratio : ratio) < T(kFloor);
    const Vec theta = damped ? (1 - floor) / (1 - (damped ? ratio : Vec{})) : splat<T>(1);
    Vec gain = theta / ((damped ? floor : ratio) * safe);
    gain = known & active ? gain : Vec{};
    for (int j = 0; j < n; ++j) {
      Vec sum{};
      for (int i = 0; i < n; ++i) sum += move[i] * inverse[i * n + j];
      row[j] = sum;
    }
    for (int i = 0; i < n; ++i) {
      // Where nothing was learnt u is zero, whatever the difference holds.
      const Vec u = gain != 0 ? gain * (move[i] - change[i]) : Vec{};
      for (int j = 0; j < n; ++j)
        inverse[i * n + j] = active ? inverse[i * n + j] + u * row[j] : inverse[i * n + j];
      change[i] = -(old[i] + u * overlap);
    }
    for (int i = 0; i < n; ++i) {
      move[i] = active ? change[i] : move[i];
      y[i] = active ? y[i] + change[i] : y[i];
    }
  }
};

// Brings the largest entry of column k, from row k down, into row k of a (n x n) and b (n x m).
template <class T>
void pivot(V<T>* a, V<T>* b, int n, int m, int k) {
  V<T> largest = a[k * n + k] < 0 ? -a[k * n + k] : a[k * n + k];
  Mask<T> chosen = Mask<T>{} + k;
  for (int i = k + 1; i < n; ++i) {
    const V<T> size = a[i * n + k] < 0 ? -a[i * n + k] : a[i * n + k];
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

// Solves a x = b for every lane, by elimination with partial pivoting; a and b are overwritten.
template <class T>
void eliminate(V<T>* a, V<T>* b, int n) {
  for (int k = 0; k < n; ++k) {
    pivot<T>(a, b, n, 1, k);
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
}

// The curve y - a = s (f(y) - a), followed from s = 0 to s = 1.
template <class T>
struct Homotopy {
  using Vec = V<T>;
  using M = Mask<T>;
  const int n;
  std::vector<Vec> start, trial, base, tangent, out, g, jacobian, system, move;
  Vec length, corrections, distance, steps;
  M final, first;

  explicit Homotopy(int n)
      : n(n), start(n), trial(n + 1), base(n + 1), tangent(n + 1), out(n), g(n), jacobian(n * n),
        system((n + 1) * (n + 1)), move(n + 1) {}

  template <class Map>
  void run(Map& map, const Vec* from, const Tolerances<T>& within, int max_steps, Best<T>& best) {
    steps = Vec{};
    for (int i = 0; i < n; ++i) base[i] = from[i];
    begin(M{} - 1);
    for (int step = 0; step < max_steps; ++step) {
      const M active = best.status == 0;
      if (!any(active)) break;
      map.linearise(trial.data(), out.data(), jacobian.data());
      for (int i = 0; i < n; ++i) g[i] = out[i] - trial[i];
      best.note(active, trial.data(), norm<T>(g.data(), n), norm<T>(out.data(), n), within);
      advance();
      steps += active ? splat<T>(1) : Vec{};
    }
  }

 private:
  // A new curve from the lane's last point.
  void begin(M lanes) {
    for (int i = 0; i <= n; ++i) {
      if (i < n) start[i] = lanes ? base[i] : start[i];
      base[i] = lanes & (i == n ? M{} - 1 : M{}) ? Vec{} : base[i];
      trial[i] = lanes ? base[i] : trial[i];
      tangent[i] = lanes ? splat<T>(i == n) : tangent[i];
    }
    length = lanes ? splat<T>(kFirstStep) : length;
    corrections = lanes ? Vec{} : corrections;
    distance = lanes ? splat(std::numeric_limits<T>::infinity()) : distance;
    final = lanes ? M{} : final;
    first = lanes ? M{} - 1 : first;
  }

  void advance() {
    const Vec s = trial[n];
    Vec off{};
    for (int i = 0; i < n; ++i) {
      const Vec reach = out[i] - start[i];
      move[i] = trial[i] - start[i] - s * reach;
      off += move[i] * move[i];
      for (int j = 0; j < n; ++j)
        system[i * (n + 1) + j] = splat<T>(i == j) - s * jacobian[i * n + j];
      system[i * (n + 1) + n] = -reach;
    }
    off = root<T>(off);
    const M accepted = ~final & (first | (off < T(kNear) * length));
    for (int j = 0; j <= n; ++j)
      system[n * (n + 1) + j] = final ? splat<T>(j == n) : tangent[j];
    for (int i = 0; i < n; ++i) move[i] = accepted ? Vec{} : -move[i];
    move[n] = accepted ? splat<T>(1) : Vec{};
    eliminate<T>(system.data(), move.data(), n + 1);
    const Vec size = norm<T>(move.data(), n + 1);
    const M corrected = ~accepted & (corrections < T(kCorrections)) &
                        (off < T(kContraction) * distance) & (size < T(kFarthest));
    const Vec grown = (corrections <= T(1)) & ~first ? length * T(kGrow) : length;
    const Vec limited = grown < T(kLargestStep) ? grown : splat<T>(kLargestStep);
    length = accepted ? limited : (corrected ? length : length / T(kShrink));
    for (int i = 0; i <= n; ++i) {
      base[i] = accepted ? trial[i] : base[i];
      tangent[i] = accepted ? move[i] / size : tangent[i];
    }
    const M arrives = (tangent[n] > 0) & (base[n] + length * tangent[n] >= 1);
    const Vec onwards = arrives ? (1 - base[n]) / (arrives ? tangent[n] : splat<T>(1)) : length;
    for (int i = 0; i <= n; ++i)
      trial[i] = corrected ? trial[i] + move[i] : base[i] + onwards * tangent[i];
    corrections = corrected ? corrections + 1 : Vec{};
    distance = corrected ? off : splat(std::numeric_limits<T>::infinity());
    final = corrected ? final : arrives;
    first = M{};
    begin(~corrected & (length < T(kSmallestStep)));
  }
};

// Tasks 0 ... n_tasks - 1 on the pool's threads and this one. `make()` gives each thread its worker.
template <class Make>
void spread(ffi::ThreadPool& pool, int64_t n_tasks, bool worthwhile, Make make) {
  const int64_t helpers =
      worthwhile ? std::min<int64_t>(pool.num_threads() - 1, n_tasks - 1) : 0;
  if (helpers <= 0) {
    auto worker = make();
    for (int64_t task = 0; task < n_tasks; ++task) worker(task);
    return;
  }
  struct Counters {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto counters = std::make_shared<Counters>();
  // A helper that starts late finds no task left and touches nothing of this call's.
  auto work = [counters, n_tasks, &make] {
    int64_t task = counters->next++;
    if (task >= n_tasks) return;
    auto worker = make();
    for (; task < n_tasks; task = counters->next++) {
      worker(task);
      ++counters->done;
    }
  };
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(work)(work));
  work();
  while (counters->done < n_tasks) std::this_thread::yield();
}

// Multiplications below which starting another thread takes longer than it saves.
constexpr int64_t kWorthwhile = 1 << 19;
constexpr int64_t kTypicalSteps = 8;

template <class T, class Map>
void load_all(Map& map, const Group<T>& group) {
  for (int l = 0; l < Lanes<T>::width; ++l) map.load(group.outer, group.samples[l], l);
}

template <class T>
std::vector<Operand<T>> operands_of(ffi::RemainingArgs arguments, size_t begin, size_t end,
                                    const Batch& batch) {
  std::vector<Operand<T>> operands;
  for (size_t i = begin; i < end; ++i)
    operands.emplace_back(arguments.get<ffi::AnyBuffer>(i).value(), batch);
  return operands;
}

// Whether samples along the last leading axis share the parameters of the first `count` operands.
template <class Map>
bool together(ffi::RemainingArgs arguments, size_t count, size_t rank) {
  for (size_t i = 0; rank > 0 && i < count; ++i)
    if (Map::is_parameter(i) &&
        arguments.get<ffi::AnyBuffer>(i).value().dimensions()[rank - 1] != 1)
      return false;
  return true;
}

template <class T, template <class> class Map>
ffi::Error solve(ffi::ThreadPool& pool, ffi::RemainingArgs arguments, ffi::Span<const int64_t> plan,
                 int64_t max_steps, int64_t stall_steps, int64_t fallback_steps,
                 const Outputs<T>& out, ffi::Span<const int64_t> point_dims) {
  constexpr int W = Lanes<T>::width;
  const size_t n_map = arguments.size() - 3;  // then start, tolerances, limit
  const int n = point_dims.back();
  const auto leading = point_dims.first(point_dims.size() - 1);
  const Batch batch(leading, together<Map<T>>(arguments, n_map, leading.size()));
  const auto operands = operands_of<T>(arguments, 0, n_map, batch);
  const auto settings = operands_of<T>(arguments, n_map, n_map + 2, batch);
  const Operand<int32_t> limits(arguments.get<ffi::AnyBuffer>(n_map + 2).value(), batch);
  const int64_t total = batch.n_outer * batch.inner;
  std::fill(out.trace, out.trace + total * max_steps, std::numeric_limits<T>::quiet_NaN());
  std::fill(out.more, out.more + total, 0);
  const int64_t work = total * kTypicalSteps * Map<T>(operands, plan, n).cost();
  const bool worthwhile = work > kWorthwhile;
  // Large enough for lanes to take many samples, and several to share among threads.
  const int64_t chunk = worthwhile ? 4 * W : batch.inner;
  const int64_t chunks = (batch.inner + chunk - 1) / chunk;
  spread(pool, batch.n_outer * chunks, worthwhile, [&] {
    struct Worker {
      Map<T> map;
      Broyden<T> broyden;
      std::vector<V<T>> tolerances;
      int64_t prepared;
    };
    auto own = std::make_shared<Worker>(Worker{Map<T>(operands, plan, n),
                                               Broyden<T>(n, max_steps, stall_steps),
                                               std::vector<V<T>>(2), -1});
    return [&, own](int64_t task) {
      const int64_t outer = task / chunks, first = (task % chunks) * chunk;
      Broyden<T>& solver = own->broyden;
      if (own->prepared != outer) own->map.prepare(own->prepared = outer);
      auto fetch = [&](int64_t sample, int l) {
        own->map.load(outer, sample, l);
        settings[0].load(outer, sample, l, solver.y.data());
        for (int i = 0; i < n; ++i) solver.best.point[i][l] = solver.y[i][l];
        settings[1].load(outer, sample, l, own->tolerances.data());
        solver.within.relative[l] = own->tolerances[0][l];
        solver.within.absolute[l] = own->tolerances[1][l];
        solver.budget[l] = std::min<int64_t>(*limits.at(outer, sample), max_steps);
      };
      auto finish = [&](int64_t sample, int l) {
        const int64_t s = outer * batch.inner + sample;
        for (int i = 0; i < n; ++i) out.point[s * n + i] = solver.best.point[i][l];
        for (int i = 0; i < n; ++i) out.last[s * n + i] = solver.y[i][l];
        for (int i = 0; i < n * n; ++i) out.secant[s * n * n + i] = solver.inverse[i][l];
        out.residual[s] = solver.best.residual[l];
        out.scale[s] = solver.best.scale[l];
        out.status[s] = int32_t(solver.best.status[l]);
        out.steps[s] = int32_t(solver.steps[l]);
        for (int i = 0; i < out.steps[s]; ++i)
          out.trace[s * max_steps + i] = solver.relative[solver.begun[l] + i][l];
      };
      solver.run(own->map, first, std::min(first + chunk, batch.inner), fetch, finish);
    };
  });
  if (fallback_steps == 0) return ffi::Error::Success();

  std::vector<Group<T>> left;  // who is left over, of one value of the parameters per group
  for (int64_t outer = 0; outer < batch.n_outer; ++outer) {
    Group<T> group{outer, 0, {}};
    for (int64_t i = 0; i < batch.inner; ++i) {
      if (out.status[outer * batch.inner + i] == kConverged) continue;
      for (int l = group.lanes; l < W; ++l) group.samples[l] = i;
      if (++group.lanes == W) left.push_back(group), group.lanes = 0;
    }
    if (group.lanes > 0) left.push_back(group);
  }
  spread(pool, left.size(), true, [&] {
    struct Worker {
      Map<T> map;
      Homotopy<T> homotopy;
      Best<T> best;
      std::vector<V<T>> start, tolerances;
    };
    auto own = std::make_shared<Worker>(Worker{Map<T>(operands, plan, n), Homotopy<T>(n), Best<T>(n),
                                               std::vector<V<T>>(n), std::vector<V<T>>(2)});
    return [&, own](int64_t task) {
      const Group<T>& group = left[task];
      Best<T>& best = own->best;
      own->map.prepare(group.outer);
      load_all(own->map, group);
      settings[0].load(group, own->start.data());
      settings[1].load(group, own->tolerances.data());
      best.status = Mask<T>{};
      for (int l = 0; l < W; ++l) {
        const int64_t s = group.outer * batch.inner + group.samples[l];
        for (int i = 0; i < n; ++i) best.point[i][l] = out.point[s * n + i];
        best.residual[l] = out.residual[s];
        best.scale[l] = out.scale[s];
        if (l >= group.lanes) best.status[l] = kConverged;
      }
      own->homotopy.run(own->map, own->start.data(), {own->tolerances[0], own->tolerances[1]},
                        fallback_steps, best);
      for (int l = 0; l < group.lanes; ++l) {
        const int64_t s = group.outer * batch.inner + group.samples[l];
        for (int i = 0; i < n; ++i) out.point[s * n + i] = best.point[i][l];
        out.residual[s] = best.residual[l];
        out.scale[s] = best.scale[l];
        out.status[s] = int32_t(best.status[l]);
        out.more[s] = int32_t(own->homotopy.steps[l]);
      }
    };
  });
  return ffi::Error::Success();
}

// Value, or value and Jacobian, at the points that follow the operands.
template <class T, template <class> class Map>
ffi::Error evaluate(ffi::ThreadPool& pool, ffi::RemainingArgs arguments, ffi::RemainingRets results,
                    ffi::Span<const int64_t> plan) {
  constexpr int W = Lanes<T>::width;
  const size_t n_map = arguments.size() - 1;
  const ffi::AnyBuffer value = *results.get<ffi::AnyBuffer>(0).value();
  const auto dims = value.dimensions();
  const int n = dims.back();
  const auto leading = dims.first(dims.size() - 1);
  const Batch batch(leading, together<Map<T>>(arguments, n_map, leading.size()));
  const auto operands = operands_of<T>(arguments, 0, n_map, batch);
  const auto points = operands_of<T>(arguments, n_map, n_map + 1, batch);
  std::vector<Operand<T>> outputs;
  for (size_t i = 0; i < results.size(); ++i)
    outputs.emplace_back(*results.get<ffi::AnyBuffer>(i).value(), batch);
  const int64_t groups = (batch.inner + W - 1) / W, tasks = batch.n_outer * groups;
  struct Worker {
    Map<T> map;
    std::vector<V<T>> m, value, jacobian;
    int64_t prepared;
  };
  auto make = [&] {
    auto own = std::make_shared<Worker>(Worker{Map<T>(operands, plan, n), std::vector<V<T>>(n),
                                               std::vector<V<T>>(n), std::vector<V<T>>(n * n), -1});
    return [&, own](int64_t task) {
      const auto group = Group<T>::from(task / groups, (task % groups) * W, batch.inner);
      if (own->prepared != group.outer) own->map.prepare(own->prepared = group.outer);
      load_all(own->map, group);
      points[0].load(group, own->m.data());
      if (outputs.size() > 1) {
        own->map.linearise(own->m.data(), own->value.data(), own->jacobian.data());
        outputs[1].store(group, own->jacobian.data());
      } else {
        own->map(own->m.data(), own->value.data());
      }
      outputs[0].store(group, own->value.data());
    };
  };
  const int64_t work = tasks * W * (outputs.size() > 1 ? 3 : 1) * Map<T>(operands, plan, n).cost();
  spread(pool, tasks, work > kWorthwhile, make);
  return ffi::Error::Success();
}

// What cotangents of value (and Jacobian) are for the linear operands: arguments are the fixed
// operands, the points and the cotangents; `leading` the sizes of the leading axes.
template <class T, template <class> class Map>
ffi::Error pull_back(ffi::RemainingArgs arguments, ffi::RemainingRets results,
                     ffi::Span<const int64_t> plan, ffi::Span<const int64_t> leading) {
  constexpr int W = Lanes<T>::width;
  constexpr size_t n_fixed = Map<T>::n_fixed;
  bool shared = together<Map<T>>(arguments, n_fixed, leading.size());
  for (size_t i = 0; i < results.size() && leading.size() > 0; ++i)
    shared &= !Map<T>::is_parameter(n_fixed + i) ||
              (*results.get<ffi::AnyBuffer>(i).value()).dimensions()[leading.size() - 1] == 1;
  const Batch batch(leading, shared);
  const auto operands = operands_of<T>(arguments, 0, n_fixed, batch);
  const auto others = operands_of<T>(arguments, n_fixed, arguments.size(), batch);
  const int n = others[0].size();
  std::vector<Operand<T>> outputs;
  for (size_t i = 0; i < results.size(); ++i) {
    ffi::AnyBuffer buffer = *results.get<ffi::AnyBuffer>(i).value();
    std::memset(buffer.untyped_data(), 0, buffer.size_bytes());
    outputs.emplace_back(buffer, batch);
  }
  Map<T> map(operands, plan, n);
  std::vector<V<T>> m(n), value_bar(n), jacobian_bar(others.size() > 2 ? n * n : 0);
  for (int64_t outer = 0; outer < batch.n_outer; ++outer) {
    map.prepare(outer);
    map.begin((batch.inner + W - 1) / W);
    for (int64_t first = 0; first < batch.inner; first += W) {
      const auto group = Group<T>::from(outer, first, batch.inner);
      load_all(map, group);
      others[0].load(group, m.data());
      others[1].load(group, value_bar.data());
      if (!jacobian_bar.empty()) others[2].load(group, jacobian_bar.data());
      for (int64_t l = group.lanes; l < W; ++l) {
        for (V<T>& entry : value_bar) entry[l] = 0;
        for (V<T>& entry : jacobian_bar) entry[l] = 0;
      }
      map.pull_back(group, m.data(), value_bar.data(),
                    jacobian_bar.empty() ? nullptr : jacobian_bar.data(), outputs);
    }
    map.end(outer, outputs);
  }
  return ffi::Error::Success();
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
      const V<T> size = a[i] < 0 ? -a[i] : a[i];
      largest = size > largest ? size : largest;
      b[i] = splat<T>(i % (n + 1) == 0);
    }
    for (int k = 0; k < n; ++k) {
      pivot<T>(a.data(), b.data(), n, n, k);
      const V<T> size = a[k * n + k] < 0 ? -a[k * n + k] : a[k * n + k];
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
    Mask<T> good = smallest > n * std::numeric_limits<T>::epsilon() * largest;
    for (const V<T>& entry : b) good &= (entry - entry) == 0;
    for (int l = 0; l < lanes; ++l) {
      for (int i = 0; i < n * n; ++i) to[(first + l) * n * n + i] = b[i][l];
      regular[first + l] = good[l] != 0;
    }
  }
  return ffi::Error::Success();
}

template <template <class> class Map>
ffi::Error solve_real(ffi::ThreadPool pool, ffi::RemainingArgs arguments,
                      ffi::Result<Reals> point, ffi::Result<Reals> residual,
                      ffi::Result<Reals> scale, ffi::Result<Reals> last, ffi::Result<Reals> trace,
                      ffi::Result<Reals> secant, ffi::Result<Integers> steps,
                      ffi::Result<Integers> status, ffi::Result<Integers> more,
                      ffi::Span<const int64_t> plan, int64_t max_steps, int64_t stall_steps,
                      int64_t fallback_steps) {
  const Outputs<Real> out{point->typed_data(),  residual->typed_data(), scale->typed_data(),
                          last->typed_data(),   trace->typed_data(),    secant->typed_data(),
                          steps->typed_data(),  status->typed_data(),   more->typed_data()};
  return solve<Real, Map>(pool, arguments, plan, max_steps, stall_steps, fallback_steps, out,
                          point->dimensions());
}

template <template <class> class Map>
ffi::Error evaluate_real(ffi::ThreadPool pool, ffi::RemainingArgs arguments,
                         ffi::RemainingRets results, ffi::Span<const int64_t> plan) {
  return evaluate<Real, Map>(pool, arguments, results, plan);
}

template <template <class> class Map>
ffi::Error pull_back_real(ffi::RemainingArgs arguments, ffi::RemainingRets results,
                          ffi::Span<const int64_t> plan, ffi::Span<const int64_t> leading) {
  return pull_back<Real, Map>(arguments, results, plan, leading);
}

ffi::Error invert_real(Reals matrices, ffi::Result<Reals> inverses,
                       ffi::Result<ffi::Buffer<ffi::PRED>> regular) {
  return invert<Real>(matrices.dimensions(), matrices.typed_data(), inverses->typed_data(),
                      regular->typed_data());
}

}  // namespace

#define QDEQ_KERNELS(kind, Map)                                             \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(qdeq_broyden_##kind, solve_real<Map>,       \
                                ffi::Ffi::Bind()                            \
                                    .Ctx<ffi::ThreadPool>()                 \
                                    .RemainingArgs()                        \
                                    .Ret<Reals>()                           \
                                    .Ret<Reals>()                           \
                                    .Ret<Reals>()                           \
                                    .Ret<Reals>()                           \
                                    .Ret<Reals>()                           \
                                    .Ret<Reals>()                           \
                                    .Ret<Integers>()                        \
                                    .Ret<Integers>()                        \
                                    .Ret<Integers>()                        \
                                    .Attr<ffi::Span<const int64_t>>("plan") \
                                    .Attr<int64_t>("max_steps")             \
                                    .Attr<int64_t>("stall_steps")           \
                                    .Attr<int64_t>("fallback_steps"));      \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(qdeq_evaluate_##kind, evaluate_real<Map>,   \
                                ffi::Ffi::Bind()                            \
                                    .Ctx<ffi::ThreadPool>()                 \
                                    .RemainingArgs()                        \
                                    .RemainingRets()                        \
                                    .Attr<ffi::Span<const int64_t>>("plan")); \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(qdeq_pull_back_##kind, pull_back_real<Map>, \
                                ffi::Ffi::Bind()                            \
                                    .RemainingArgs()                        \
                                    .RemainingRets()                        \
                                    .Attr<ffi::Span<const int64_t>>("plan") \
                                    .Attr<ffi::Span<const int64_t>>("leading"))

QDEQ_KERNELS(rational, Rational);
QDEQ_KERNELS(product, Product);
XLA_FFI_DEFINE_HANDLER_SYMBOL(qdeq_invert, invert_real,
                              ffi::Ffi::Bind().Arg<Reals>().Ret<Reals>().Ret<ffi::Buffer<ffi::PRED>>());
