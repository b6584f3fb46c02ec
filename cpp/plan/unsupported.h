// SPDX-License-Identifier: Apache-2.0
// What backends on a device do not have yet, by the name of the argument that asks for it.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "plan/request.h"

namespace tokendraw {

/// Legal, and done on the host.
class Unsupported : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// Of a dict: they travel with the launch.
inline constexpr std::int64_t kMaxDeviceTokenBiases = 256;

/// Throws Unsupported where a checked request, its logits on a device, asks for more than a device has.
void check_on_device(const Request& request);

/// The same of a step of a beam search.
void check_beams_on_device(const Request& request, const Beams& beams);

/// Throws Unsupported: no device has this function, or this argument of it.
[[noreturn]] void refuse_on_device(const char* what);

}  // namespace tokendraw
