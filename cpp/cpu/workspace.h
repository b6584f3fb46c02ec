// SPDX-License-Identifier: Apache-2.0
// What one thread needs for any row: grown on first use, never shrunk, so that steady state allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cpu/kernels.h"

namespace tokendraw::cpu {

/// A vector that leaves new elements uninitialised: std::vector's zeros cost a third of a small call.
template <class T>
class Buffer {
 public:
  /// Growing beyond the capacity drops what the buffer held.
  void resize(std::int64_t size) {
    if (size > capacity_) {
      data_.reset(new T[static_cast<std::size_t>(size)]);
      capacity_ = size;
    }
    size_ = size;
  }

  /// Room for what `other` has room for. Drops what the buffer held where it grows.
  void reserve(const Buffer& other) {
    const std::int64_t size = size_;
    resize(other.capacity_);
    size_ = size;
  }

  std::int64_t size() const { return size_; }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T* begin() { return data_.get(); }
  T* end() { return data_.get() + size_; }
  const T* begin() const { return data_.get(); }
  const T* end() const { return data_.get() + size_; }
  T& operator[](std::int64_t index) { return data_[static_cast<std::size_t>(index)]; }
  const T& operator[](std::int64_t index) const { return data_[static_cast<std::size_t>(index)]; }
  T& front() { return *begin(); }
  T& back() { return *(end() - 1); }

 private:
  std::unique_ptr<T[]> data_;
  std::int64_t size_ = 0;
  std::int64_t capacity_ = 0;
};

struct Workspace {
  Buffer<TileSummary> summaries;
  Buffer<TileSummary> raw_summaries;
  Buffer<float> group_max;
  Buffer<double> sums;
  Buffer<Candidate> listed;      // the kept tokens of a short row, in the total order
  Buffer<Candidate> candidates;  // whatever a selection is narrowing
  Buffer<Candidate> by_token;
  Buffer<float> scores;
  Buffer<float> weights;
  alignas(64) float tile[kTile];

  void reserve(const Workspace& other) {
    summaries.reserve(other.summaries);
    raw_summaries.reserve(other.raw_summaries);
    group_max.reserve(other.group_max);
    sums.reserve(other.sums);
    listed.reserve(other.listed);
    candidates.reserve(other.candidates);
    by_token.reserve(other.by_token);
    scores.reserve(other.scores);
    weights.reserve(other.weights);
  }
};

}  // namespace tokendraw::cpu
