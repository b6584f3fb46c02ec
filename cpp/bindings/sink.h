// SPDX-License-Identifier: Apache-2.0
// Where a result goes: a new array of the caller's kind, the caller's own `out`, or a staging buffer that is copied to
// an `out` of other strides or another dtype.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "bindings/arrays.h"

namespace tokendraw::bindings {

inline bool is_row_major(const ArrayView& view) {
  std::int64_t stride = 1;
  for (int axis = view.ndim; axis-- > 0;) {
    if (view.shape[axis] != 1 && view.strides[axis] != stride) return false;
    stride *= view.shape[axis];
  }
  return true;
}

/// The offset, in elements, of the index-th element in C order.
inline std::int64_t offset_of(const ArrayView& view, std::int64_t index) {
  std::int64_t offset = 0;
  for (int axis = view.ndim; axis-- > 0;) {
    offset += index % view.shape[axis] * view.strides[axis];
    index /= view.shape[axis];
  }
  return offset;
}

template <class T>
class Sink {
 public:
  /// `dtype` is that of T; `accepted` are the dtypes that `out` (null where not given) may have.
  Sink(py::handle out, const Home& home, Dtype dtype, const std::vector<std::int64_t>& shape,
       const std::vector<Dtype>& accepted)
      : out_(out) {
    if (!out_) {
      result_.emplace(home, dtype, shape);
      return;
    }
    view_ = view_output(out_, "out", shape, accepted);
    check_home(view_, home, "out");
    in_place_ = home.cuda || (view_.dtype == dtype && is_row_major(view_));
    if (home.cuda && !is_row_major(view_)) {
      throw py::value_error("out must be contiguous on a CUDA device, got other strides");
    }
    if (in_place_) return;
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    staged_.resize(static_cast<std::size_t>(count));
  }

  T* data() {
    if (result_) return static_cast<T*>(result_->data());
    return in_place_ ? static_cast<T*>(view_.data) : staged_.data();
  }

  /// Whether integers of a device are written as int64; on the host they are converted here.
  bool is_wide() const { return !result_ && in_place_ && view_.dtype == Dtype::kInt64; }

  py::object finish() {
    if (result_) return result_->finish();
    if (in_place_) return py::reinterpret_borrow<py::object>(out_);
    if (view_.dtype == Dtype::kInt64) {
      copy_to(static_cast<std::int64_t*>(view_.data));
    } else {
      copy_to(static_cast<T*>(view_.data));
    }
    return py::reinterpret_borrow<py::object>(out_);
  }

 private:
  template <class To>
  void copy_to(To* to) const {
    for (std::size_t i = 0; i < staged_.size(); ++i) {
      to[offset_of(view_, static_cast<std::int64_t>(i))] = static_cast<To>(staged_[i]);
    }
  }

  py::handle out_;
  ArrayView view_;
  bool in_place_ = false;
  std::vector<T> staged_;
  std::optional<Result> result_;
};

}  // namespace tokendraw::bindings
