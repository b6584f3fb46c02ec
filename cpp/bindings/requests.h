// SPDX-License-Identifier: Apache-2.0
// The arguments of a call as the checked Request that a backend takes, and all that it borrows from.
#pragma once

#include <type_traits>
#include <vector>

#include "bindings/arguments.h"
#include "bindings/arrays.h"
#include "bindings/values.h"
#include "plan/request.h"

namespace tokendraw::bindings {

/// An edit that is still in host memory where the logits are on a device: where the request keeps its address.
struct HostEdit {
  const void** data;
  std::size_t bytes;
  const char* name;
};

/// A Request and everything it borrows from, with the shapes that results need.
struct ParsedRequest {
  Request request;
  Home home;
  std::vector<std::int64_t> leading_shape;
  std::int64_t positions = 1;  // of a row, where a mask or bias may differ by position
  bool raise_invalid = true;

  ArrayView logits;
  std::vector<std::vector<double>> reals;
  std::vector<std::vector<std::int64_t>> integers;
  std::vector<std::vector<std::uint64_t>> unsigneds;
  std::vector<TokenBias> token_bias;
  std::vector<std::int32_t> history;
  std::vector<std::int64_t> history_offsets;
  std::vector<py::object> owners;
  std::vector<ArrayView> views;
  std::vector<HostEdit> host_edits;
  bool wide_tokens = false;  // of an int64 `out` on a device

  std::int64_t rows() const { return request.logits.rows; }
  std::int64_t vocab() const { return request.logits.vocab; }
};

/// Parses one value per row, which may be on the device of the logits; see bindings/values.h.
template <class T>
void parse_per_row(py::handle value, const char* name, ParsedRequest& parsed, PerRow<T>& parameter) {
  const DeviceInput device{parsed.home, parsed.views};
  auto& pool = [&parsed]() -> auto& {
    if constexpr (std::is_same_v<T, double>)
      return parsed.reals;
    else if constexpr (std::is_same_v<T, std::int64_t>)
      return parsed.integers;
    else
      return parsed.unsigneds;
  }();
  parse_per_row(value, name, parsed.rows(), parameter, pool, &device);
}

/// Parses and checks; throws what Python shows as TypeError or ValueError. Randomness is read where `drawing`.
void parse_request(const Arguments& arguments, bool drawing, ParsedRequest& parsed);

/// The logits of a request alone, its rows their leading axes.
void parse_logits(py::handle value, const char* name, ParsedRequest& parsed);

/// Makes the last leading axis of the logits the positions of a row.
void fold_positions(const char* name, ParsedRequest& parsed);

/// All but the logits, which are parsed.
void parse_rest(const Arguments& arguments, bool drawing, ParsedRequest& parsed);

/// The parameters of SamplingParams on their own: scalars and arrays of any length are checked alike.
void check_filters(const Arguments& arguments);

}  // namespace tokendraw::bindings
