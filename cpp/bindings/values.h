// SPDX-License-Identifier: Apache-2.0
// Python values to C++ values: a number, or one number per row from any array or sequence.
#pragma once

#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "plan/request.h"

namespace tokendraw::bindings {

[[noreturn]] void type_error(const std::string& message);
[[noreturn]] void value_error(const std::string& message);

std::string type_name(py::handle value);
std::string repr_of(py::handle value);

double parse_real(py::handle value);
std::int64_t parse_integer(py::handle value, const char* name);
/// Anything with __index__.
std::int64_t parse_index(py::handle value, const char* name);

/// False where `value` is null.
bool parse_flag(py::handle value, const char* name);

/// A whole number >= `least`; `value` may be null.
std::int64_t parse_count(py::handle value, const char* name, std::int64_t least = 0);

/// A count of threads, at least 1; what the core cannot use counts as what it can.
int parse_threads(py::handle value);

/// Whom values on a device may belong to: arrays at the logits' home. `views` keeps them.
struct DeviceInput {
  const Home& home;
  std::vector<ArrayView>& views;
};

/// Reads a scalar into parameter.value, or an array with `rows` values (any number where rows < 0) into a new entry of
/// `pool`, which `parameter` then borrows. Leaves the parameter alone where `value` is null. T: double, int64_t or
/// uint64_t. Values on a device are neither read nor checked; they need `device`.
template <class T>
void parse_per_row(py::handle value, const char* name, std::int64_t rows, PerRow<T>& parameter,
                   std::vector<std::vector<T>>& pool, const DeviceInput* device = nullptr);

}  // namespace tokendraw::bindings
