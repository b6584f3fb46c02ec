// SPDX-License-Identifier: Apache-2.0
// What is checked of every array before its memory is touched, and the sentences that say what was wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bindings/arrays.h"

namespace tokendraw::bindings {

/// "`name` must <rule>, got <value>".
[[noreturn]] void fail_value(const char* name, const std::string& rule, const std::string& value);
[[noreturn]] void fail_dtype(const char* name, const std::string& dtype);

/// Turns the error of a producer that would not hand out its array into a ValueError naming `name`, with the original
/// as its cause. Lets MemoryError and whatever is no Exception (KeyboardInterrupt) pass.
[[noreturn]] void fail_producer(const char* name, py::error_already_set& error);

/// The dtype of a DLPack type code and a width in bytes, if it is one of ours.
std::optional<Dtype> find_dtype(std::uint8_t code, std::int64_t bytes);
const char* dtype_name(Dtype dtype);

/// Throws unless 0 <= `ndim` <= kMaxDimensions.
void check_ndim(std::int64_t ndim, const char* name);

/// The number of elements. Throws for a negative extent, or where the bytes of the array do not fit into 63 bits.
std::int64_t check_extents(const ArrayView& view, const char* name);

/// Row-major strides, for producers that leave them out. The extents must be checked.
void set_compact_strides(ArrayView& view);

/// Throws unless every element lies in the address space and is aligned. Only for arrays with at least one element.
void check_reach(const ArrayView& view, const char* name);

/// Throws where two elements may share memory. Strides count as disjoint if each one passes over all smaller ones.
void check_disjoint(const ArrayView& view, const char* name);

}  // namespace tokendraw::bindings
