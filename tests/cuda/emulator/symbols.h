// SPDX-License-Identifier: Apache-2.0
// Names for addresses in the code, from its debug information by addr2line; for messages only.
#pragma once

#include <string>

namespace emulated {

std::string function_at(const void* function);
/// "file.cuh:12", of the call that returns to this address, with the functions it was inlined into.
std::string line_before(const void* return_address);

}  // namespace emulated
