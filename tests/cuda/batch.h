// SPDX-License-Identifier: Apache-2.0
// Rows of logits in the memory of the device and in that of the host, and rows that a selection or a sum could get
// wrong.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "check.h"
#include "core/half.h"
#include "cuda/rows.cuh"
#include "plan/request.h"

namespace tokendraw::test {

using Floats = std::vector<float>;

inline Floats drawn(std::int64_t count, std::uint64_t seed, double low, double high) {
  Random random(seed);
  Floats values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.between(low, high));
  return values;
}

struct NamedRow {
  std::string name;
  Floats scores;
};

/// Rows of every shape that breaks a selection: ties, outliers, holes, everything good in one place.
inline std::vector<NamedRow> adversarial_rows(std::int64_t count) {
  const auto size = static_cast<std::size_t>(count);
  std::vector<NamedRow> rows{{"flat", drawn(count, 21, -2.0, 2.0)},
                             {"peaked", drawn(count, 22, -60.0, 30.0)},
                             {"constant", Floats(size, -1.5f)},
                             {"huge", drawn(count, 23, -3e38, 3e38)},
                             {"subnormal", drawn(count, 24, -1e-39, 1e-39)}};
  Floats sorted = drawn(count, 25, -9.0, 9.0);
  std::sort(sorted.begin(), sorted.end());
  rows.push_back({"ascending", sorted});
  std::reverse(sorted.begin(), sorted.end());
  rows.push_back({"descending", sorted});
  Random random(26);
  Floats few(size), zeros(size), alone(size, -HUGE_VALF), spike = drawn(count, 27, -3.0, 3.0), holes = spike;
  for (std::size_t i = 0; i < size; ++i) {
    few[i] = static_cast<float>(random.below(4));
    zeros[i] = random.below(2) != 0 ? -0.0f : 0.0f;
    if (random.below(40) != 0) holes[i] = -HUGE_VALF;
  }
  holes[size / 2] = 1.0f;
  alone[size - 1] = -7.0f;
  spike[size / 3] = 3e37f;
  rows.push_back({"ties", few});
  rows.push_back({"zeros", zeros});
  rows.push_back({"alone", alone});
  rows.push_back({"spike", spike});
  rows.push_back({"holes", holes});
  Floats heap = drawn(count, 28, -4.0, 0.0);
  for (std::size_t i = size / 2; i < std::min(size, size / 2 + 700); ++i) heap[i] += 10.0f;
  rows.push_back({"heap", heap});
  return rows;
}

template <class Element>
constexpr Dtype kDtypeOf = Dtype::kFloat32;
template <>
constexpr Dtype kDtypeOf<double> = Dtype::kFloat64;
template <>
constexpr Dtype kDtypeOf<Float16> = Dtype::kFloat16;
template <>
constexpr Dtype kDtypeOf<Bfloat16> = Dtype::kBfloat16;

/// What is finite stays finite.
template <class Element>
std::vector<Element> encoded(const Floats& values) {
  std::vector<Element> elements(values.size());
  const float largest = kDtypeOf<Element> == Dtype::kFloat16 ? 65504.0f : 3e38f;
  for (std::size_t i = 0; i < values.size(); ++i) {
    narrow(std::isfinite(values[i]) ? std::fmax(std::fmin(values[i], largest), -largest) : values[i], &elements[i]);
  }
  return elements;
}

/// Rows `stride` elements apart, from element `start` of their memory on; NaN between them.
template <class Element>
class DeviceRows {
 public:
  DeviceRows(const std::vector<Floats>& rows, std::int64_t padding = 0, std::int64_t start = 0)
      : rows_(static_cast<std::int64_t>(rows.size())),
        vocab_(static_cast<std::int64_t>(rows.front().size())),
        stride_(vocab_ + padding),
        start_(start),
        host_(encoded<Element>(laid_out(rows))),
        device_(host_) {}

  std::int64_t rows() const { return rows_; }
  std::int64_t vocab() const { return vocab_; }
  std::vector<Element>& host() { return host_; }
  void upload() { device_.set(host_); }

  /// The same request for the host, and for the device.
  Request on_host() const { return request(host_.data()); }
  Request on_device() const { return request(device_.get()); }

  cuda::Rows view() const {
    cuda::Rows rows{device_.get() + start_, rows_, vocab_, {}};
    CHECK(cuda::join_leading({rows_}, {stride_}, &rows.leading));
    return rows;
  }

  /// As kernels see it.
  float score(std::int64_t row, std::int64_t token) const {
    return widen(host_[static_cast<std::size_t>(start_ + row * stride_ + token)]);
  }

 private:
  Floats laid_out(const std::vector<Floats>& rows) const {
    Floats values(static_cast<std::size_t>(start_ + rows_ * stride_), std::nanf(""));
    for (std::int64_t row = 0; row < rows_; ++row) {
      const Floats& from = rows[static_cast<std::size_t>(row)];
      std::copy(from.begin(), from.end(), values.begin() + start_ + row * stride_);
    }
    return values;
  }

  Request request(const Element* data) const {
    Request request;
    request.logits.data = data + start_;
    request.logits.dtype = kDtypeOf<Element>;
    request.logits.rows = rows_;
    request.logits.vocab = vocab_;
    request.logits.leading_shape = {rows_};
    request.logits.leading_strides = {stride_};
    return request;
  }

  std::int64_t rows_;
  std::int64_t vocab_;
  std::int64_t stride_;
  std::int64_t start_;
  std::vector<Element> host_;
  Array<Element> device_;
};

/// The rows of a list of named ones.
inline std::vector<Floats> scores_of(const std::vector<NamedRow>& rows) {
  std::vector<Floats> scores;
  scores.reserve(rows.size());
  for (const NamedRow& row : rows) scores.push_back(row.scores);
  return scores;
}

/// Those rows, one that holds nothing, one with a NaN and one with an infinity.
inline std::vector<Floats> with_invalid(std::vector<Floats> rows) {
  const std::size_t vocab = rows.front().size();
  rows.emplace_back(vocab, -HUGE_VALF);
  rows.push_back(rows.front());
  rows.back()[vocab - 1] = std::nanf("");
  rows.push_back(rows.front());
  rows.back()[vocab / 2] = HUGE_VALF;
  return rows;
}

/// The same bits, or both NaN.
template <class Float>
bool same_float(Float a, Float b) {
  return (a != a && b != b) || std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace tokendraw::test
