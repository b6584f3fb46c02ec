// SPDX-License-Identifier: Apache-2.0
// history=, prompt_lengths= and the parameters of the penalties.
#pragma once

#include <initializer_list>

#include "bindings/requests.h"

namespace tokendraw::bindings {

/// A parameter given to the call, else the one of `params=`, else nothing. `held` keeps what an attribute returned.
py::handle given(const Arguments& arguments, Keyword keyword, py::object& held);

/// One of `names`, by its place; 0 where `value` is null.
std::size_t parse_choice(py::handle value, const char* name, std::initializer_list<const char*> names);

/// The parameters alone; `rows` < 0 takes arrays of any length.
void parse_penalties(const Arguments& arguments, std::int64_t rows, ParsedRequest& parsed);

/// The tokens before each row; checks that all are in the vocabulary.
void parse_history(const Arguments& arguments, ParsedRequest& parsed);

}  // namespace tokendraw::bindings
