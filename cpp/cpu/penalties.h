// SPDX-License-Identifier: Apache-2.0
// What a row's history makes of its tokens: repetition, frequency and presence penalties, DRY, and the end that is
// forbidden before min_tokens.
#pragma once

#include "cpu/workspace.h"
#include "plan/request.h"

namespace tokendraw::cpu {

/// Lists the edits of a row by tile in work.token_edits and work.edits_begin, and points the view at them; leaves the
/// view alone where there are none. O(history + vocab / 1024) time, O(history) memory; nothing is sorted.
void edit_by_history(const Request& request, std::int64_t row, Workspace& work, RowView& view);

}  // namespace tokendraw::cpu
