// SPDX-License-Identifier: Apache-2.0
// The driver that a test wants to be installed.
#include "cuda/driver.h"

namespace tokendraw::cuda {

int emulated_driver = 13000;

int driver_version() { return emulated_driver; }

}  // namespace tokendraw::cuda
