// Linear systems along a chain both ways, a sample per lane.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "dense.h"

namespace qdeq {

// out (n x m) += a (n x inner) b (inner x m), or less it.
template <class T, int I, int J>
void multiply_tile(const V<T>* a, int lda, const V<T>* b, int ldb, V<T>* out, int ldo, int inner, T sign) {
  V<T> s[I][J] = {};
  for (int p = 0; p < inner; ++p)
#pragma GCC unroll 4
    for (int i = 0; i < I; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < J; ++j) s[i][j] += a[i * lda + p] * b[p * ldb + j];
#pragma GCC unroll 4
  for (int i = 0; i < I; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < J; ++j) out[i * ldo + j] += sign * s[i][j];
}

template <class T, int I>
void multiply_rows(const V<T>* a, int lda, const V<T>* b, int ldb, V<T>* out, int ldo, int inner, int m,
                   T sign) {
  int j = 0;
  for (; j + 4 <= m; j += 4) multiply_tile<T, I, 4>(a, lda, b + j, ldb, out + j, ldo, inner, sign);
  if (j + 2 <= m) multiply_tile<T, I, 2>(a, lda, b + j, ldb, out + j, ldo, inner, sign), j += 2;
  if (j < m) multiply_tile<T, I, 1>(a, lda, b + j, ldb, out + j, ldo, inner, sign);
}

template <class T>
void add_product(const V<T>* a, int lda, const V<T>* b, int ldb, V<T>* out, int ldo, int n, int inner, int m,
                 T sign = 1) {
  int i = 0;
  for (; i + 4 <= n; i += 4)
    multiply_rows<T, 4>(a + i * lda, lda, b, ldb, out + i * ldo, ldo, inner, m, sign);
  for (; i < n; ++i)
    multiply_rows<T, 1>(a + i * lda, lda, b, ldb, out + i * ldo, ldo, inner, m, sign);
}

// scale x - J x = b or scale x - J' x = b, where J = C W: C_i (q x a) are the slopes of the cell at
// site i, and it hears W_0 x_(i-1) + W_1 x_(i+1). Ends of a ring meet.
//
// J' has the same form but for the order of its factors, so slopes and messages are turned when they
// are read, and there are two kinds of blocks: C_i W_r ("slopes first") and W_r C_j, j the sender.
// Where a < q the system is solved for the inputs u = W x (u = C' x) instead, in its other form.
//
// A ring is eliminated from its first site on; a line from both ends to its middle, so that two
// threads can. This is one end: its sites are counted from there, those of the tail backwards.
enum class End { whole, head, tail };

template <class T>
class ChainEnd {
 public:
  ChainEnd(End end, const Operand<T>& slopes, const Operand<T>& messages, const Operand<T>& right,
           const Operand<T>& scales, int64_t sites, int q, int a, bool ring, bool transposed)
      : slopes_(slopes), messages_(messages), right_of_(right), scales_(scales), sites_(sites), q_(q),
        ring_(ring), transposed_(transposed), turned_(end == End::tail), by_inputs_(a < q),
        slopes_first_(by_inputs_ == transposed), P_(transposed ? a : q), R_(transposed ? q : a),
        k_(std::min(a, q)), m_(ring ? k_ + 1 : 1),
        line_(ring ? sites - 1 : end == End::whole ? sites : (sites + (end == End::head)) / 2),
        own_(ring ? sites : line_),
        weights_(2 * P_ * R_), right_(sites * q), x_(sites * q), known_(sites * k_ * m_),
        system_(k_ * k_), row_(k_ * (k_ + m_)), before_(row_.size()), kept_system_(system_.size()),
        kept_row_(row_.size()), column_(k_), block_(k_ * k_) {
    // The matrices between neighbours are kept for a piece of a long chain, and computed again for
    // each piece but the last: else they would be `width` times as large as a sample's slopes.
    constexpr int64_t kKept = int64_t(1) << 25;  // bytes
    const int64_t of_site = k_ * k_ * int64_t(kBytes);
    piece_ = std::min(line_, std::max<int64_t>(64, kKept / of_site));
    ahead_.resize(piece_ * k_ * k_);
    checkpoints_.resize((line_ + piece_ - 1) / piece_);
    for (Slot& slot : cache_) slot.values.resize(P_ * R_);
    position_.resize(P_ * R_);
    for (int i = 0; i < P_ * R_; ++i) position_[i] = transposed ? (i % a) * q + i / a : i;
  }

  // The first phase for a group of samples.
  void begin(const Group<T>& group) {
    for (Slot& slot : cache_) slot.site = -1;
    const T* rights[Lanes<T>::width];
    for (int l = 0; l < Lanes<T>::width; ++l) {
      source_[l] = slopes_.at(group.outer, group.samples[l]);
      rights[l] = right_of_.at(group.outer, group.samples[l]);
      scale_[l] = *scales_.at(group.outer, group.samples[l]);
      load_weights(messages_.at(group.outer, group.samples[l]), l);
    }
    std::vector<V<T>>& into = turned_ ? x_ : right_;
    from_lanes<T>(rights, sites_ * q_, [&into](int64_t i, V<T> v) { into[i] = v; });
    if (turned_) turn(x_.data(), right_.data(), sites_);
    forwards();
  }

  // The two ends' last sites of each other: z = known + A z' and z' = known' + A' z.
  static void meet(ChainEnd& head, ChainEnd& tail) {
    const int k = head.k_;
    V<T>*known = head.last_known(), *other = tail.last_known();
    const V<T>*ahead = head.last_ahead(), *back = tail.last_ahead();
    auto again = [&](V<T>* system, V<T>* right) {
      for (int i = 0; i < k * k; ++i) system[i] = i % (k + 1) == 0 ? splat<T>(1) : V<T>{};
      add_product<T>(ahead, k, back, k, system, k, k, k, k, T(-1));
      std::copy_n(known, k, right);
      add_product<T>(ahead, k, other, 1, right, 1, k, k, 1);
    };
    std::vector<V<T>> right(k);
    again(head.system_.data(), right.data());
    head.divide(head.system_.data(), right.data(), 1, again);
    std::copy_n(right.data(), k, known);
    add_product<T>(back, k, known, 1, other, 1, k, k, 1);
    std::copy_n(other, k, known + k);
    std::copy_n(known, k, other + k);
  }

  // The second phase: x of its own sites.
  void backwards() {
    const int64_t pieces = checkpoints_.size();
    for (int64_t piece = pieces; piece-- > 0;) {
      if (piece + 1 < pieces) forwards(piece);
      backwards(piece);
    }
    if (ring_) close();
    // The first column of every row: moved together, u is in order.
    if (m_ > 1)
      for (int64_t i = 0; i < sites_ * k_; ++i) known_[i] = known_[i * m_];
    if (!by_inputs_) {
      std::copy_n(known_.begin(), own_ * q_, x_.begin());
      return;
    }
    const V<T> factor = 1 / scale_;
    for (int64_t site = 0; site < own_; ++site) {
      V<T>* x = &x_[site * q_];
      std::copy_n(&right_[site * q_], q_, x);
      if (transposed_)
        hear(known_.data(), site, x);
      else
        add_product<T>(slopes(site), R_, &known_[site * k_], 1, x, 1, P_, R_, 1);
      for (int i = 0; i < q_; ++i) x[i] *= factor;
    }
  }

  // What is left over, for `refine`; `x_` of the site beyond the last of its own is known.
  void measure() {
    const int64_t heard_of = std::min(own_ + 1, sites_);
    std::vector<V<T>> image, heard(R_);
    left_.resize(sites_ * q_);
    if (transposed_) {
      image.resize(sites_ * P_);
      for (int64_t site = 0; site < heard_of; ++site)
        add_product<T>(slopes(site), R_, &x_[site * q_], 1, &image[site * P_], 1, P_, R_, 1);
    }
    most = largest = V<T>{};
    for (int64_t site = 0; site < own_; ++site) {
      V<T>* rest = &left_[site * q_];
      for (int i = 0; i < q_; ++i)
        rest[i] = right_[site * q_ + i] - scale_ * x_[site * q_ + i];
      if (transposed_) {
        hear(image.data(), site, rest);
      } else {
        std::fill(heard.begin(), heard.end(), V<T>{});
        hear(x_.data(), site, heard.data());
        add_product<T>(slopes(site), R_, heard.data(), 1, rest, 1, P_, R_, 1);
      }
      for (int i = 0; i < q_; ++i) {
        const V<T> size = magnitude<T>(rest[i]), given = magnitude<T>(right_[site * q_ + i]);
        most = size > most ? size : most;
        largest = given > largest ? given : largest;
      }
    }
  }

  // The first phase once more, for what is left over.
  void begin_again() {
    found_ = x_;
    right_.swap(left_);
    forwards();
  }

  Mask<T> is_finite() const {
    Mask<T> finite = Mask<T>{} - 1;
    for (int64_t i = 0; i < own_ * q_; ++i) finite &= (x_[i] - x_[i]) == 0;
    return finite;
  }

  void correct(Mask<T> needed) {
    for (int64_t i = 0; i < own_ * q_; ++i) x_[i] = found_[i] + (needed ? x_[i] : V<T>{});
  }

  void finish(const Group<T>& group, const Operand<T>& out) {
    const int64_t first = turned_ ? (sites_ - own_) * q_ : 0;
    T* into[Lanes<T>::width];
    for (int l = 0; l < group.lanes; ++l) into[l] = out.at(group.outer, group.samples[l]) + first;
    if (turned_) turn(x_.data(), right_.data(), own_);
    to_lanes<T>(turned_ ? right_.data() : x_.data(), own_ * q_, into, group.lanes);
  }

  // What the site beyond the last of its own has, from whose own it is.
  static void exchange(ChainEnd& one, ChainEnd& other, std::vector<V<T>> ChainEnd::*values) {
    const int q = one.q_;
    std::copy_n(&(other.*values)[(other.own_ - 1) * q], q, &(one.*values)[one.own_ * q]);
    std::copy_n(&(one.*values)[(one.own_ - 1) * q], q, &(other.*values)[other.own_ * q]);
  }
  static void exchange_found(ChainEnd& one, ChainEnd& other) { exchange(one, other, &ChainEnd::x_); }
  static void exchange_left(ChainEnd& one, ChainEnd& other) { exchange(one, other, &ChainEnd::left_); }

  V<T> most, largest;  // what is left over, and what was given

 private:
  struct Slot {
    int64_t site = -1;
    std::vector<V<T>> values;
  };
  void turn(const V<T>* from, V<T>* into, int64_t sites) const {
    for (int64_t site = 0; site < sites; ++site)
      std::copy_n(from + site * q_, q_, into + (sites - 1 - site) * q_);
  }

  V<T>* last_known() { return &known_[(line_ - 1) * k_]; }
  const V<T>* last_ahead() const { return &ahead_[(line_ - 1) % piece_ * k_ * k_]; }

  void load_weights(const T* from, int l) {
    for (int r = 0; r < 2; ++r)
      for (int i = 0; i < R_; ++i)
        for (int j = 0; j < P_; ++j)
          weights_[((turned_ ? 1 - r : r) * R_ + i) * P_ + j][l] =
              transposed_ ? from[((1 - r) * P_ + j) * R_ + i] : from[(r * R_ + i) * P_ + j];
  }

  // C or C' of a site, P x R.
  const V<T>* slopes(int64_t site) {
    Slot& slot = cache_[site % 4];
    if (slot.site != site) {
      slot.site = site;
      const int64_t size = P_ * R_;
      const T* from[Lanes<T>::width];
      const int64_t there = turned_ ? sites_ - 1 - site : site;
      for (int l = 0; l < Lanes<T>::width; ++l) from[l] = source_[l] + there * size;
      from_lanes<T>(from, size, [&](int64_t i, V<T> v) { slot.values[position_[i]] = v; });
    }
    return slot.values.data();
  }

  // Of kind r: the site before (0), the one after (1); -1 where there is none.
  int64_t sender(int64_t site, int r) const {
    const int64_t found = r == 0 ? site - 1 : site + 1;
    if (ring_) return (found + sites_) % sites_;
    return found < sites_ ? found : -1;
  }

  // What a site takes from one neighbour, k x k.
  void neighbour(int64_t site, int r, V<T>* into) {
    std::fill_n(into, k_ * k_, V<T>{});
    const int64_t from = sender(site, r);
    if (from < 0) return;
    const V<T>* w = &weights_[r * R_ * P_];
    if (slopes_first_)
      add_product<T>(slopes(site), R_, w, P_, into, k_, k_, R_, k_);
    else
      add_product<T>(w, P_, slopes(from), R_, into, k_, k_, P_, k_);
  }

  // W y at a site, R numbers, of y with P numbers a site; added.
  void hear(const V<T>* y, int64_t site, V<T>* into) {
    for (int r = 0; r < 2; ++r) {
      const int64_t from = sender(site, r);
      if (from >= 0) add_product<T>(&weights_[r * R_ * P_], P_, y + from * P_, 1, into, 1, R_, P_, 1);
    }
  }

  // The right-hand side of the system that is solved, into a column.
  void right_hand_side(int64_t site, V<T>* into, int stride) {
    V<T>* column = column_.data();
    if (!by_inputs_) {
      column = &right_[site * q_];
    } else {
      std::fill(column_.begin(), column_.end(), V<T>{});
      if (transposed_)
        add_product<T>(slopes(site), R_, &right_[site * q_], 1, column, 1, k_, R_, 1);
      else
        hear(right_.data(), site, column);
    }
    for (int i = 0; i < k_; ++i) into[i * stride] = column[i];
  }

  // A site's diagonal block and row when the sites before are eliminated: columns are those of the
  // next site, the right-hand side, and of a ring those of its last site.
  void assemble(int64_t site, V<T>* system, V<T>* row) {
    const int width = k_ + m_;
    std::fill_n(row, k_ * width, V<T>{});
    right_hand_side(site, row + k_, width);
    if (site + 1 < sites_) {
      neighbour(site, 1, block_.data());
      // Of a ring the one after the last of the line is its border.
      const int column = ring_ && site + 1 == line_ ? k_ + 1 : 0;
      for (int i = 0; i < k_; ++i)
        for (int j = 0; j < k_; ++j) row[i * width + column + j] += block_[i * k_ + j];
    }
    for (int i = 0; i < k_ * k_; ++i) system[i] = i % (k_ + 1) == 0 ? scale_ : V<T>{};
    if (site > 0) {
      neighbour(site, 0, block_.data());
      add_product<T>(block_.data(), k_, before_.data(), width, system, k_, k_, k_, k_, T(-1));
      add_product<T>(block_.data(), k_, before_.data() + k_, width, row + k_, width, k_, k_, m_);
    } else if (ring_) {
      neighbour(site, 0, block_.data());
      for (int i = 0; i < k_; ++i)
        for (int j = 0; j < k_; ++j) row[i * width + k_ + 1 + j] += block_[i * k_ + j];
    }
  }

  // row <- system^-1 row, with the regularised inverse where the system is singular. Both are what
  // `again` writes.
  template <class F>
  void divide(V<T>* system, V<T>* row, int columns, F again) {
    const Mask<T> regular = eliminate_columns<T>(system, row, k_, columns);
    if (!any(~regular)) return;
    again(kept_system_.data(), kept_row_.data());
    regularise<T>(kept_system_.data(), kept_row_.data(), k_, columns);
    for (int i = 0; i < k_ * columns; ++i) row[i] = regular ? row[i] : kept_row_[i];
  }

  void forwards() {
    for (size_t piece = 0; piece < checkpoints_.size(); ++piece) forwards(piece);
  }

  // Eliminates the sites of a piece, from the first to the last.
  void forwards(int64_t piece) {
    const int width = k_ + m_;
    const int64_t first = piece * piece_, end = std::min(line_, first + piece_);
    if (piece > 0) before_ = checkpoints_[piece - 1];
    for (int64_t site = first; site < end; ++site) {
      auto again = [&](V<T>* system, V<T>* row) { assemble(site, system, row); };
      again(system_.data(), row_.data());
      divide(system_.data(), row_.data(), width, again);
      V<T>*ahead = &ahead_[(site - first) * k_ * k_], *known = &known_[site * k_ * m_];
      for (int i = 0; i < k_; ++i) {
        std::copy_n(&row_[i * width], k_, ahead + i * k_);
        std::copy_n(&row_[i * width + k_], m_, known + i * m_);
      }
      row_.swap(before_);
    }
    checkpoints_[piece] = before_;
  }

  void backwards(int64_t piece) {
    const int64_t first = piece * piece_, end = std::min(line_, first + piece_);
    for (int64_t site = end; site-- > first;) {
      if (site + 1 == line_) continue;
      V<T>* known = &known_[site * k_ * m_];
      add_product<T>(&ahead_[(site - first) * k_ * k_], k_, known + k_ * m_, m_, known, m_, k_, k_, m_);
    }
  }

  // Of a ring: its last site, and what follows from it for the others.
  void close() {
    const int64_t last = sites_ - 1;
    auto again = [&](V<T>* system, V<T>* right) {
      for (int i = 0; i < k_ * k_; ++i) system[i] = i % (k_ + 1) == 0 ? scale_ : V<T>{};
      right_hand_side(last, right, 1);
      for (int r = 0; r < 2; ++r) {
        const V<T>* there = &known_[sender(last, r) * k_ * m_];
        neighbour(last, r, block_.data());
        add_product<T>(block_.data(), k_, there + 1, m_, system, k_, k_, k_, k_, T(-1));
        add_product<T>(block_.data(), k_, there, m_, right, 1, k_, k_, 1);
      }
    };
    std::vector<V<T>> right(k_);
    again(system_.data(), right.data());
    divide(system_.data(), right.data(), 1, again);
    for (int i = 0; i < k_; ++i) known_[(last * k_ + i) * m_] = right[i];
    for (int64_t site = 0; site < last; ++site) {
      V<T>* known = &known_[site * k_ * m_];
      add_product<T>(known + 1, m_, right.data(), 1, known, m_, k_, k_, 1);
    }
  }

  const Operand<T>&slopes_, &messages_, &right_of_, &scales_;
  const int64_t sites_;
  const int q_;
  const bool ring_, transposed_, turned_, by_inputs_, slopes_first_;
  const int P_, R_;  // C, or C' where transposed, is P x R; W_r is R x P
  const int k_, m_;  // numbers of a site in the system that is solved, and columns of what is known
  const int64_t line_, own_;  // sites that are eliminated: but for the border of a ring; and found
  int64_t piece_;
  std::vector<V<T>> weights_, right_, x_, known_, ahead_, left_, found_;
  std::vector<V<T>> system_, row_, before_, kept_system_, kept_row_, column_, block_;
  std::vector<std::vector<V<T>>> checkpoints_;
  std::vector<int> position_;
  Slot cache_[4];
  const T* source_[Lanes<T>::width];
  V<T> scale_;
};

// The whole chain, of one end or two.
template <class T>
class Chain {
 public:
  template <class... Arguments>
  Chain(int64_t sites, bool ring, const Arguments&... arguments) {
    ends_.reserve(2);
    if (ring || sites < 2) {
      ends_.emplace_back(End::whole, arguments...);
    } else {
      ends_.emplace_back(End::head, arguments...);
      ends_.emplace_back(End::tail, arguments...);
    }
  }

  // Multiplications for a site, about.
  static int64_t cost(int q, int a, bool ring) {
    const int64_t k = std::min(a, q);
    return k * k * (2 * std::max(a, q) + (ring ? 4 : 3) * k);
  }

  // Solves for a group of samples; `refined`: and once more for what is left over where that is more
  // than rounding, since pivots are chosen within a block only. `each(n, f)` calls f(0) ... f(n - 1).
  template <class Each>
  void solve(const Group<T>& group, bool refined, const Operand<T>& out, Each each) {
    const int n = ends_.size();
    each(n, [&](int64_t i) { ends_[i].begin(group); });
    if (n > 1) End_::meet(ends_[0], ends_[1]);
    each(n, [&](int64_t i) { ends_[i].backwards(); });
    if (refined) refine(each);
    each(n, [&](int64_t i) { ends_[i].finish(group, out); });
  }

 private:
  using End_ = ChainEnd<T>;
  // What is left over, relative to b and in machine epsilons, up to which a system counts as solved;
  // `SOLVED` of `equilibrium/networks/systems.py`.
  static constexpr T kSolved = QDEQ_SOLVED * std::numeric_limits<T>::epsilon();

  template <class Each>
  void refine(Each each) {
    const int n = ends_.size();
    if (n > 1) End_::exchange_found(ends_[0], ends_[1]);
    each(n, [&](int64_t i) { ends_[i].measure(); });
    V<T> most = ends_[0].most, largest = ends_[0].largest;
    if (n > 1) {
      most = ends_[1].most > most ? ends_[1].most : most;
      largest = ends_[1].largest > largest ? ends_[1].largest : largest;
    }
    Mask<T> needed = most > kSolved * largest;
    if (!any(needed)) return;
    if (n > 1) End_::exchange_left(ends_[0], ends_[1]);
    each(n, [&](int64_t i) { ends_[i].begin_again(); });
    if (n > 1) End_::meet(ends_[0], ends_[1]);
    each(n, [&](int64_t i) { ends_[i].backwards(); });
    for (const End_& end : ends_) needed &= end.is_finite();
    for (End_& end : ends_) end.correct(needed);
  }

  std::vector<End_> ends_;
};

}  // namespace qdeq
