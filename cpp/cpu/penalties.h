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

/// The tokens before a position, of which the first `prompt_length` are the prompt, and its step.
struct Behind {
  const std::int32_t* begin = nullptr;
  const std::int32_t* end = nullptr;
  std::int64_t prompt_length = 0;
  std::uint64_t step = 0;
};

/// What the request says is behind its row.
Behind behind_row(const Request& request, std::int64_t row);

/// The same edits for what is behind one position of the row.
void edit_by_history(const PenaltyParams& params, std::int64_t row, const Behind& behind, Workspace& work,
                     RowView& view);

}  // namespace tokendraw::cpu
