// Broyden's method, with the arithmetic of `equilibrium/broyden.py` and `equilibrium/_solve.py`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "best.h"

namespace qdeq {

constexpr double kFloor = QDEQ_BROYDEN_FLOOR, kProgress = QDEQ_PROGRESS;

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

  // Samples that `take()` gives, -1 when there are no more: `fetch(sample, lane)` gets one ready,
  // `finish(sample, lane)` keeps what came out.
  template <class Map, class Take, class Fetch, class Finish>
  void run(Map& map, Take take, Fetch fetch, Finish finish) {
    const T tiny = std::numeric_limits<T>::min();
    relative.clear();
    best.status = M{} + kConverged;
    std::fill(sample, sample + W, -1);
    steps = budget = reference = waiting = Vec{};
    within.relative = within.absolute = Vec{};
    while (true) {
      M active = (best.status == 0) & (steps < budget);
      if (any(~active)) {
        for (int l = 0; l < W; ++l) {
          if (active[l]) continue;
          if (sample[l] >= 0) finish(sample[l], l);
          sample[l] = take();
          if (sample[l] < 0) continue;
          begin(l);
          fetch(sample[l], l);
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
    const M extreme = Range<T>::left(size) & (steps > 0);  // the first move is 0
    if (any(extreme)) {  // a multiple of both makes the same update
      const Vec factor = extreme ? Range<T>::factor(size) : splat<T>(1);
      Vec square{}, product{}, other{};
      for (int i = 0; i < n; ++i) {
        move[i] *= factor;
        change[i] *= factor;
        square += move[i] * move[i];
        product += move[i] * change[i];
        other += move[i] * old[i];
      }
      size = extreme ? square : size;
      along = extreme ? product : along;
      overlap = extreme ? other : overlap;
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
      const Vec u = known ? gain * (move[i] - change[i]) : Vec{};
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

}  // namespace qdeq
