// SPDX-License-Identifier: Apache-2.0
// The best continuations of beams that compete: one step of a beam search.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/continuation.h"
#include "cuda/context.h"
#include "cuda/tuning.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// Whether group i is the first one, i times its rows, beams and slots further on: a kernel needs no list of such
/// groups.
bool are_alike(const Beams& beams);

/// What lies where in the workspace, after what a launch on as many rows as there are beams has there.
class ContinuationsLayout {
 public:
  ContinuationsLayout(const Beams& beams, std::int64_t vocab);

  std::int64_t beams() const { return beams_; }
  std::int64_t list() const { return list_; }

  std::size_t candidates() const { return candidates_; }  // RankedToken [beams, list]
  std::size_t counts() const { return counts_; }          // int64_t [beams]
  std::size_t groups() const { return groups_; }          // BeamGroup [beams.count], where they are not alike
  std::size_t bytes() const { return bytes_; }

 private:
  std::int64_t beams_ = 0;
  std::int64_t list_ = 0;  // the most that one beam may bring
  std::size_t candidates_;
  std::size_t counts_;
  std::size_t groups_;
  std::size_t bytes_;
};

/// Enqueues the best continuations of every group, as Backend::top_continuations says: scores in the memory of the
/// device, without noise, of what temperature, bias and mask leave of the rows. A beam with a score that is NaN or
/// +inf, or an illegal temperature, is invalid. A beam's row is read once and chunks of it a second time for up to 1024
/// slots; for every further thousand, a few times more. Then each of the beams * min(slots, vocab) candidates counts,
/// list by list, those before it, up to its group's slots. The workspace holds ContinuationsLayout::bytes(), and there
/// the groups that are not alike, in ascending order. cudaErrorNotSupported for noise, a history, or rows at more than
/// kMaxLeading strides.
cudaError_t launch_top_continuations(const Request& request, const Beams& beams, Continuation* found, RowStatus* status,
                                     const Context& context);

/// The same by a geometry that the device can run. Clusters are taken for blocks that never meet.
cudaError_t launch_top_continuations(const Request& request, const Beams& beams, Continuation* found, RowStatus* status,
                                     const Context& context, const Geometry& geometry);

/// Where continuations go, one array per field: all [slots].
struct ContinuationArrays {
  float* scores = nullptr;
  std::int32_t* parents = nullptr;
  std::int32_t* tokens = nullptr;
};

/// Enqueues what was found of groups that are alike, as top_continuations returns it: a group with an invalid beam has
/// NaN, -1 and -1.
cudaError_t launch_continuation_arrays(const Beams& beams, const Continuation* found, const RowStatus* status,
                                       const ContinuationArrays& arrays, const Context& context);

}  // namespace tokendraw::cuda
