// SPDX-License-Identifier: Apache-2.0
// The backend of the host processor.
#pragma once

#include "plan/backend.h"

namespace tokendraw::cpu {

Backend& backend();

}  // namespace tokendraw::cpu
