// SPDX-License-Identifier: Apache-2.0
// The arguments of a call as the checked Request that a backend takes, and all that it borrows from.
#pragma once

#include <vector>

#include "bindings/arguments.h"
#include "bindings/arrays.h"
#include "plan/request.h"

namespace tokendraw::bindings {

/// A Request and everything it borrows from, with the shapes that results need.
struct ParsedRequest {
  Request request;
  Library library = Library::kNumpy;
  std::vector<std::int64_t> leading_shape;
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

  std::int64_t rows() const { return request.logits.rows; }
  std::int64_t vocab() const { return request.logits.vocab; }
};

/// Parses and checks; throws what Python shows as TypeError or ValueError. Randomness is read where `drawing`.
void parse_request(const Arguments& arguments, bool drawing, ParsedRequest& parsed);

/// The parameters of SamplingParams on their own: scalars and arrays of any length are checked alike.
void check_filters(const Arguments& arguments);

}  // namespace tokendraw::bindings
