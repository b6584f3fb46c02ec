// SPDX-License-Identifier: Apache-2.0
// The driver, looked for without linking it: a process that has none can say so in its own words.
#pragma once

namespace tokendraw::cuda {

/// The newest CUDA that the installed driver can run, 1000 * major + 10 * minor; 0 where there is none.
int driver_version();

}  // namespace tokendraw::cuda
