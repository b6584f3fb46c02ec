// SPDX-License-Identifier: Apache-2.0
#include "cuda/backend.h"

#include <stdexcept>
#include <string>

#include "cuda/continuations.h"
#include "cuda/cross_entropy.h"
#include "cuda/draw.h"
#include "cuda/errors.h"
#include "cuda/scores.h"
#include "cuda/top_k.h"
#include "cuda/transform.h"
#include "cuda/workspace.h"

namespace tokendraw::cuda {
namespace {

[[noreturn]] void never_asked(const char* what) { throw std::logic_error(std::string("no kernel does ") + what); }

}  // namespace

const Context& StreamBackend::with_workspace(const Logits& logits) {
  return with_workspace(workspace_bytes(logits.rows, logits.vocab));
}

const Context& StreamBackend::with_workspace(std::size_t bytes) {
  memory_.workspace.grow(bytes, context_.stream, is_captured_);
  context_.workspace = {memory_.workspace.data(), memory_.workspace.bytes()};
  return context_;
}

void StreamBackend::draw(const Request& request, const DrawOutputs& outputs, RowStatus* status) {
  expect(launch_draw(request, outputs, status, with_workspace(request.logits)), "to start a draw");
}

void StreamBackend::top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens,
                          RowStatus* status) {
  expect(launch_top_k(request, k, values, tokens, status, with_workspace(request.logits)), "to start top_k");
}

void StreamBackend::score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& outputs,
                          RowStatus* status) {
  expect(launch_score(request, tokens, outputs, status, with_workspace(request.logits)), "to start scores");
}

void StreamBackend::cross_entropy(const Request& request, const Targets& targets, const LossOutputs& outputs,
                                  RowStatus* status) {
  expect(launch_cross_entropy(request, targets, outputs, status, with_workspace(request.logits)), "to start losses");
}

void StreamBackend::transform(const Request& request, Transform transform, float* out, RowStatus* status) {
  expect(launch_transform(request, transform, out, status, with_workspace(request.logits)), "to start a transform");
}

void StreamBackend::top_continuations(const Request& request, const Beams& beams, Continuation* found,
                                      RowStatus* status) {
  const ContinuationsLayout layout(beams, request.logits.vocab);
  const Context& context = with_workspace(layout.bytes());
  if (!are_alike(beams)) {
    if (is_captured_) never_asked("a step with groups of the host while a graph is captured");
    memory_.staging.copy(memory_.workspace.data() + layout.groups(), beams.groups,
                         static_cast<std::size_t>(beams.count) * sizeof(BeamGroup), context.stream);
  }
  expect(launch_top_continuations(request, beams, found, status, context), "to start a beam step");
}

void StreamBackend::diverge(const Request&, const Logits&, Divergence, float*, RowStatus*) { never_asked("diverge"); }
void StreamBackend::list_kept(const Request&, KeptRow*, RowStatus*) { never_asked("list_kept"); }
void StreamBackend::verify(const Request&, const Drafts&, const VerifyOutputs&, RowStatus*) { never_asked("verify"); }

}  // namespace tokendraw::cuda
