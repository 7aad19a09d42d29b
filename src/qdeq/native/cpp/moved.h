// Angle encoding after `bind`, differentiated by its angles: what a learned injection asks for.
#pragma once

#include "product.h"

namespace qdeq {

// The derivative of `Product` along a change of offset and slope. All operands of that map are fixed
// here, and the two changes are what it is linear in; `plan` begins with the number of the former.
template <class T>
struct ProductMoved : Product<T> {
  using Base = Product<T>;
  static size_t fixed(ffi::Span<const int64_t> plan) { return plan[0]; }
  static bool is_shared_result(size_t result) { return result != 0; }

  using Base::n;
  using Base::n_angles;

  ProductMoved(const std::vector<Operand<T>>& operands, ffi::Span<const int64_t> plan, int n)
      : Base(operands, ffi::Span<const int64_t>(plan.begin() + 1, plan.size() - 1), n) {
    components_bar.resize(Base::components.size());
    turned_bar.resize(Base::turned.size());
    offset_bar.resize(n_angles);
    slope_bar.resize(n_angles * n);
    own.resize(Base::longest);
    for (Bar* bar : {&left_bar, &right_bar}) {
      bar->value.resize(Base::longest);
      bar->slopes.resize(Base::longest * n);
    }
  }

  void begin(int64_t) {}
  void end(int64_t, const std::vector<Operand<T>>&) {}

  // With P_k = v_k left + sum_l J_kl left'_l and Q_k = sum_l J_kl right'_l the cotangents v and J
  // belong to the sum over k of P_k' C_k right + left' C_k Q_k. Backwards through that, then through
  // the products of components, then through the rotations.
  void pull_back(const Group<T>& group, const V<T>* m, const V<T>* value_bar,
                 const V<T>* jacobian_bar, const std::vector<Operand<T>>& results) {
    with_slopes = jacobian_bar != nullptr;
    Base::encode(m, with_slopes);
    for (auto* list : {&components_bar, &turned_bar, &slope_bar})
      std::fill(list->begin(), list->end(), V<T>{});
    Base::each_cone([&](const auto& cones, int64_t cone) {
      Base::halves(cones, cone, with_slopes);
      for (Bar* bar : {&left_bar, &right_bar}) {
        std::fill(bar->value.begin(), bar->value.end(), V<T>{});
        std::fill(bar->slopes.begin(), bar->slopes.end(), V<T>{});
      }
      for (int64_t k = 0; k < cones.observables; ++k) {
        const int64_t row = cone * cones.observables + k, at = cones.order[row];
        contractions(cones, row, value_bar[at], with_slopes ? jacobian_bar + at * n : nullptr);
      }
      unmultiply(cones, cone, 0, cones.split, left_bar);
      unmultiply(cones, cone, cones.split, cones.positions, right_bar);
    });
    unrotate(m);
    results[0].add(group, offset_bar.data());
    results[1].add(group, slope_bar.data());
  }

 private:
  using Half = typename Base::Half;
  using Cones = typename Base::Cones;
  // Cotangents of a half.
  struct Bar {
    std::vector<V<T>> value, slopes;
  };

  bool with_slopes = false;
  std::vector<V<T>> components_bar, turned_bar, offset_bar, slope_bar, own;
  Bar left_bar, right_bar;
  // Of a half the products of its first components, and their derivatives, position after position.
  std::vector<std::vector<V<T>>> values, slopes;

  void contractions(const Cones& cones, int64_t row, V<T> v, const V<T>* J) {
    const int64_t A = cones.left, B = cones.right, longest = Base::longest;
    const Half &left = Base::left, &right = Base::right;
    const std::vector<V<T>>& half = Base::half;
    Base::contract_right(cones, row, right.value.data());
    for (int64_t a = 0; a < A; ++a) left_bar.value[a] += v * half[a];
    for (int l = 0; J && l < n; ++l)
      for (int64_t a = 0; a < A; ++a) left_bar.slopes[l * longest + a] += J[l] * half[a];
    if (J) {
      weighted(right, J, V<T>{}, B);
      Base::contract_right(cones, row, own.data());
      for (int64_t a = 0; a < A; ++a) left_bar.value[a] += half[a];
      Base::contract_left(cones, row, left.value.data());
      for (int l = 0; l < n; ++l)
        for (int64_t b = 0; b < B; ++b) right_bar.slopes[l * longest + b] += J[l] * half[b];
    }
    weighted(left, J, v, A);
    Base::contract_left(cones, row, own.data());
    for (int64_t b = 0; b < B; ++b) right_bar.value[b] += half[b];
  }

  // own = v value + sum_l J_l slope_l
  void weighted(const Half& half, const V<T>* J, V<T> v, int64_t length) {
    for (int64_t a = 0; a < length; ++a) own[a] = v * half.value[a];
    for (int l = 0; J && l < n; ++l)
      for (int64_t a = 0; a < length; ++a) own[a] += J[l] * half.slopes[l * Base::longest + a];
  }

  void unmultiply(const Cones& cones, int64_t cone, int64_t begin, int64_t end, Bar& bar) {
    const int64_t longest = Base::longest, count = end - begin;
    const int n_slopes = with_slopes ? n : 0;
    if (int64_t(values.size()) < count) values.resize(count), slopes.resize(count);
    int64_t length = 1;
    for (int64_t p = 0; p < count; ++p) {
      const int64_t wire = cones.wires[cone * cones.positions + begin + p];
      const V<T>* bloch = &Base::components[4 * wire];
      const V<T>* turned = &Base::turned[4 * n * wire];
      values[p].resize(length), slopes[p].resize(length * n);
      if (p == 0) {
        values[0][0] = splat<T>(1);
        std::fill(slopes[0].begin(), slopes[0].end(), V<T>{});
      }
      const std::vector<int64_t>& columns = cones.columns[begin + p];
      const int64_t size = columns.size();
      if (p + 1 < count) {
        values[p + 1].resize(length * size), slopes[p + 1].resize(length * size * n);
        for (int64_t i = 0; i < length; ++i)
          for (int64_t c = 0; c < size; ++c) {
            values[p + 1][i * size + c] = values[p][i] * bloch[columns[c]];
            for (int l = 0; l < n_slopes; ++l)
              slopes[p + 1][l * length * size + i * size + c] =
                  slopes[p][l * length + i] * bloch[columns[c]] +
                  values[p][i] * turned[4 * l + columns[c]];
          }
      }
      length *= size;
    }
    for (int64_t p = count; p-- > 0;) {
      const int64_t wire = cones.wires[cone * cones.positions + begin + p];
      const V<T>* bloch = &Base::components[4 * wire];
      const V<T>* turned = &Base::turned[4 * n * wire];
      V<T>* bloch_bar = &components_bar[4 * wire];
      V<T>* turned_bar_ = &turned_bar[4 * n * wire];
      const std::vector<int64_t>& columns = cones.columns[begin + p];
      const int64_t size = columns.size();
      length /= size;
      for (int64_t i = 0; i < length; ++i) {
        V<T> sum{};
        for (int64_t c = 0; c < size; ++c) {
          const V<T> bar_c = bar.value[i * size + c];
          bloch_bar[columns[c]] += bar_c * values[p][i];
          sum += bar_c * bloch[columns[c]];
        }
        for (int l = 0; l < n_slopes; ++l) {
          V<T> slope_sum{};
          for (int64_t c = 0; c < size; ++c) {
            const V<T> bar_c = bar.slopes[l * longest + i * size + c];
            bloch_bar[columns[c]] += bar_c * slopes[p][l * length + i];
            turned_bar_[4 * l + columns[c]] += bar_c * values[p][i];
            sum += bar_c * turned[4 * l + columns[c]];
            slope_sum += bar_c * bloch[columns[c]];
          }
          bar.slopes[l * longest + i] = slope_sum;  // in place: entry i is not read any more
        }
        bar.value[i] = sum;
      }
    }
  }

  // Rotations backwards: they are undone, so that nothing had to be kept of the way there.
  void unrotate(const V<T>* m) {
    int64_t angle = n_angles;
    for (auto turns = Base::classes.rbegin(); turns != Base::classes.rend(); ++turns)
      for (auto axis = turns->axes.rbegin(); axis != turns->axes.rend(); ++axis) {
        const int64_t from = 1 + (*axis + 1) % 3, to = 1 + (*axis + 2) % 3;
        for (auto wire = turns->wires.rbegin(); wire != turns->wires.rend(); ++wire) {
          --angle;
          V<T> s, c;
          Base::turn(angle, s, c);
          V<T>* bloch = &Base::components[4 * *wire];
          V<T>* bar = &components_bar[4 * *wire];
          V<T> by_angle{};
          for (int l = 0; with_slopes && l < n; ++l) {
            V<T>* d = &Base::turned[4 * (n * *wire + l)];
            V<T>* d_bar = &turned_bar[4 * (n * *wire + l)];
            const T speed = Base::slope[angle * n + l];
            slope_bar[angle * n + l] = bloch[from] * d_bar[to] - bloch[to] * d_bar[from];
            bar[to] -= speed * d_bar[from];
            bar[from] += speed * d_bar[to];
            d[from] += speed * bloch[to];
            d[to] -= speed * bloch[from];
            by_angle += d[from] * d_bar[to] - d[to] * d_bar[from];
            undo(d[from], d[to], s, c);
            undo(d_bar[from], d_bar[to], s, c);
          }
          by_angle += bloch[from] * bar[to] - bloch[to] * bar[from];
          undo(bloch[from], bloch[to], s, c);
          undo(bar[from], bar[to], s, c);
          offset_bar[angle] = by_angle;
          for (int l = 0; l < n; ++l) slope_bar[angle * n + l] += by_angle * m[l];
        }
      }
  }

  static void undo(V<T>& from, V<T>& to, V<T> s, V<T> c) {
    const V<T> f = from, t = to;
    from = f * c + t * s;
    to = t * c - f * s;
  }
};

}  // namespace qdeq
