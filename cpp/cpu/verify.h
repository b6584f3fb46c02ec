// SPDX-License-Identifier: Apache-2.0
// Lossless speculative decoding: drafts are accepted so that the tokens follow the target, whatever proposed them.
// docs/decisions.md, number 17, has the proof.
#pragma once

#include "cpu/workspace.h"
#include "plan/request.h"

namespace tokendraw::cpu {

/// One row of the request. Reads a target and a draft row per accepted draft, and both once more per rejected one;
/// allocates what its workspaces lack. Returns the status of the first invalid row of logits it came to.
RowStatus verify_row(const Kernels& kernels, const Request& request, const Drafts& drafts, std::int64_t row,
                     Workspace& target_work, Workspace& draft_work, const VerifyOutputs& out);

}  // namespace tokendraw::cpu
