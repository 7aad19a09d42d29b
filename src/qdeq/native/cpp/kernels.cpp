// Small model functions for a batch of samples, without a call per operation: their values, their
// derivatives, and equilibria.
//
// XLA runs a solver's loop on CPU as dozens of short loops per step, for the whole batch and until
// its slowest sample is done. Here samples, one per lane of a vector register, walk through all of
// their steps in first-level cache, and a lane whose sample is done takes the next one.
//
// A model function is a class (`rational.h`, `product.h`). Its operands are first fixed ones, then
// those in which it is linear; the latter are missing where only the former matter. `prepare` once
// per value of the parameters, `load` once per sample and lane, then the value, the value with its
// Jacobian (row k, column l), or what cotangents of both give for the linear operands.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "broyden.h"
#include "chain.h"
#include "homotopy.h"
#include "moved.h"
#include "product.h"
#include "rational.h"

namespace qdeq {

using Real = QDEQ_REAL;  // float or double: a library for each, built when it is needed
using Reals = ffi::Buffer<std::is_same_v<Real, float> ? ffi::F32 : ffi::F64>;
using Integers = ffi::Buffer<ffi::S32>;

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

template <class T>
struct Outputs {
  T *point, *residual, *scale, *last, *trace, *secant;
  int32_t *steps, *status, *more;  // `more`: steps of the fallback
};

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
  // Threads take samples from one queue as their lanes become free: one that starts late does less.
  const int64_t parts =
      worthwhile ? std::min<int64_t>(pool.num_threads(), (batch.inner + W - 1) / W) : 1;
  std::vector<std::atomic<int64_t>> queues(batch.n_outer);
  spread(pool, batch.n_outer * parts, worthwhile, [&] {
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
      const int64_t outer = task / parts;
      Broyden<T>& solver = own->broyden;
      if (own->prepared != outer) own->map.prepare(own->prepared = outer);
      auto take = [&]() -> int64_t {
        const int64_t sample = queues[outer]++;
        return sample < batch.inner ? sample : -1;
      };
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
      solver.run(own->map, take, fetch, finish);
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
  const int n_values = dims.back();
  const auto leading = dims.first(dims.size() - 1);
  const Batch batch(leading, together<Map<T>>(arguments, n_map, leading.size()));
  const auto operands = operands_of<T>(arguments, 0, n_map, batch);
  const auto points = operands_of<T>(arguments, n_map, n_map + 1, batch);
  const int n = points[0].size();
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
                                               std::vector<V<T>>(n_values),
                                               std::vector<V<T>>(n_values * n), -1});
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
  const size_t n_fixed = Map<T>::fixed(plan);
  bool shared = together<Map<T>>(arguments, n_fixed, leading.size());
  for (size_t i = 0; i < results.size() && leading.size() > 0; ++i)
    shared &= !Map<T>::is_shared_result(i) ||
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
  std::vector<V<T>> m(n), value_bar(others[1].size());
  std::vector<V<T>> jacobian_bar(others.size() > 2 ? others[2].size() : 0);
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

// Linear systems of a network on a chain both ways; see `chain.h`.
template <class T>
ffi::Error solve_chains(ffi::ThreadPool& pool, ffi::RemainingArgs arguments, const ffi::AnyBuffer& out,
                        bool ring, bool transposed, bool refined) {
  constexpr int W = Lanes<T>::width;
  const auto dims = out.dimensions();
  const auto leading = dims.first(dims.size() - 2);
  const auto weights = arguments.get<ffi::AnyBuffer>(1).value().dimensions();
  const Batch batch(leading, true);
  const auto given = operands_of<T>(arguments, 0, 4, batch);
  const Operand<T> found(out, batch);
  const int64_t sites = dims[dims.size() - 2];
  const int q = dims.back(), a = weights[leading.size() + 1];
  const int64_t groups = (batch.inner + W - 1) / W, tasks = batch.n_outer * groups;
  const bool worthwhile = tasks * W * sites * Chain<T>::cost(q, a, ring) > kWorthwhile;
  // One group of samples has two ends; several are a thread's each.
  auto each = [&](int64_t n, auto work) {
    spread(pool, n, worthwhile && tasks == 1, [&] { return work; });
  };
  auto make = [&] {
    auto own = std::make_shared<Chain<T>>(sites, ring, given[0], given[1], given[2], given[3], sites, q,
                                          a, ring, transposed);
    return [&, own](int64_t task) {
      own->solve(Group<T>::from(task / groups, (task % groups) * W, batch.inner), refined, found, each);
    };
  };
  spread(pool, tasks, worthwhile, make);
  return ffi::Error::Success();
}

ffi::Error solve_chains_real(ffi::ThreadPool pool, ffi::RemainingArgs arguments,
                             ffi::Result<ffi::AnyBuffer> out, bool ring, bool transposed, bool refined) {
  return solve_chains<Real>(pool, arguments, *out, ring, transposed, refined);
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

}  // namespace qdeq

using namespace qdeq;

#define QDEQ_PULL_BACK(kind, Map)                                           \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(qdeq_pull_back_##kind, pull_back_real<Map>, \
                                ffi::Ffi::Bind()                            \
                                    .RemainingArgs()                        \
                                    .RemainingRets()                        \
                                    .Attr<ffi::Span<const int64_t>>("plan") \
                                    .Attr<ffi::Span<const int64_t>>("leading"))

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
  QDEQ_PULL_BACK(kind, Map)

QDEQ_KERNELS(rational, Rational);
QDEQ_KERNELS(product, Product);
QDEQ_PULL_BACK(product_moved, ProductMoved);
XLA_FFI_DEFINE_HANDLER_SYMBOL(qdeq_invert, invert_real,
                              ffi::Ffi::Bind().Arg<Reals>().Ret<Reals>().Ret<ffi::Buffer<ffi::PRED>>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(qdeq_chain, solve_chains_real,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("ring")
                                  .Attr<bool>("transposed")
                                  .Attr<bool>("refined"));

// The interface that these handlers speak: a prebuilt library is asked before it is registered.
extern "C" __attribute__((visibility("default"))) const int32_t qdeq_ffi_version[2] = {
    XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
