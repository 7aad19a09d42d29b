// The homotopy of `equilibrium/homotopy.py`.
#pragma once

#include <limits>
#include <vector>

#include "best.h"
#include "dense.h"

namespace qdeq {

constexpr double kFirstStep = QDEQ_FIRST_STEP, kLargestStep = QDEQ_LARGEST_STEP;
constexpr double kSmallestStep = QDEQ_SMALLEST_STEP, kNear = QDEQ_NEAR;
constexpr double kCorrections = QDEQ_CORRECTIONS, kContraction = QDEQ_CONTRACTION;
constexpr double kFarthest = QDEQ_FARTHEST, kShrink = QDEQ_SHRINK, kGrow = QDEQ_GROW;

// The curve y - a = s (f(y) - a), followed from s = 0 to s = 1.
template <class T>
struct Homotopy {
  using Vec = V<T>;
  using M = Mask<T>;
  const int n;
  std::vector<Vec> start, trial, base, tangent, out, g, jacobian, system, off, move;
  Vec length, corrections, distance, steps;
  M final, first;

  explicit Homotopy(int n)
      : n(n), start(n), trial(n + 1), base(n + 1), tangent(n + 1), out(n), g(n), jacobian(n * n),
        system((n + 1) * (n + 1)), off(n), move(n + 1) {}

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
      advance(best.status == 0);
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

  // The system of the next move: along the curve where the point was accepted, else back to it.
  void border(M accepted) {
    const Vec s = trial[n];
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j)
        system[i * (n + 1) + j] = splat<T>(i == j) - s * jacobian[i * n + j];
      system[i * (n + 1) + n] = start[i] - out[i];
      move[i] = accepted ? Vec{} : -off[i];
    }
    for (int j = 0; j <= n; ++j)
      system[n * (n + 1) + j] = final ? splat<T>(j == n) : tangent[j];
    move[n] = accepted ? splat<T>(1) : Vec{};
  }

  void advance(M active) {
    const Vec s = trial[n];
    for (int i = 0; i < n; ++i) off[i] = trial[i] - start[i] - s * (out[i] - start[i]);
    const Vec away = norm<T>(off.data(), n);
    const M accepted = ~final & (first | (away < T(kNear) * length));
    border(accepted);
    const M singular = active & ~eliminate<T>(system.data(), move.data(), n + 1);
    if (any(singular)) {
      const std::vector<Vec> found = move;
      border(accepted);
      regularise<T>(system.data(), move.data(), n + 1);
      for (int i = 0; i <= n; ++i) move[i] = singular ? move[i] : found[i];
    }
    const Vec size = norm<T>(move.data(), n + 1);
    const M corrected = ~accepted & (corrections < T(kCorrections)) &
                        (away < T(kContraction) * distance) & (size < T(kFarthest));
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
    distance = corrected ? away : splat(std::numeric_limits<T>::infinity());
    final = corrected ? final : arrives;
    first = M{};
    begin(~corrected & (length < T(kSmallestStep)));
  }
};

}  // namespace qdeq
