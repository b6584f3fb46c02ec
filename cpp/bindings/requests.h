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

  std::int64_t rows() const { return request.logits.rows; }
  std::int64_t vocab() const { return request.logits.vocab; }
};

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
