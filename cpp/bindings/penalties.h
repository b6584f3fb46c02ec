// SPDX-License-Identifier: Apache-2.0
// history=, prompt_lengths= and the parameters of the penalties.
#pragma once

#include <initializer_list>

#include "bindings/requests.h"

namespace tokendraw::bindings {

/// The parameters of SamplingParams: given to the call, else by `params=`, else null.
class GivenParams {
 public:
  explicit GivenParams(const Arguments& arguments);
  py::handle operator[](Keyword keyword) const;

 private:
  const Arguments& arguments_;
  py::object of_params_;  // the dict of what differs from the defaults
};

/// One of `names`, by its place; 0 where `value` is null.
std::size_t parse_choice(py::handle value, const char* name, std::initializer_list<const char*> names);

/// The parameters alone; `rows` < 0 takes arrays of any length.
void parse_penalties(const GivenParams& given, std::int64_t rows, ParsedRequest& parsed);

/// The tokens before each row; checks that all are in the vocabulary.
void parse_history(const Arguments& arguments, ParsedRequest& parsed);

}  // namespace tokendraw::bindings
