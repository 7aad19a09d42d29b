// The arrays of a call. `jax.vmap` gives every buffer the same leading axes, of length 1 where it
// is shared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "lanes.h"
#include "xla/ffi/api/ffi.h"

namespace qdeq {

namespace ffi = xla::ffi;

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
    const T* from[Lanes<T>::width];
    for (int l = 0; l < Lanes<T>::width; ++l) from[l] = at(group.outer, group.samples[l]);
    from_lanes<T>(from, core_, [into](int64_t i, V<T> v) { into[i] = v; });
  }
  void store(const Group<T>& group, const V<T>* from) const {
    T* into[Lanes<T>::width];
    for (int l = 0; l < group.lanes; ++l) into[l] = at(group.outer, group.samples[l]);
    to_lanes<T>(from, core_, into, group.lanes);
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

}  // namespace qdeq
