// SPDX-License-Identifier: Apache-2.0
#include "cuda/backend.h"

#include <stdexcept>

#include "cuda/errors.h"
#if __has_include("cuda/draw.h")
#include "cuda/draw.h"
#define HAVE_DRAW
#endif
#if __has_include("cuda/top_k.h")
#include "cuda/top_k.h"
#define HAVE_TOP_K
#endif
#if __has_include("cuda/scores.h")
#include "cuda/scores.h"
#define HAVE_SCORES
#endif
#if __has_include("cuda/transform.h")
#include "cuda/transform.h"
#define HAVE_TRANSFORM
#endif

namespace tokendraw::cuda {
namespace {

[[noreturn]] void refuse(const char* what) { throw std::logic_error(std::string(what) + " has no kernel"); }

}  // namespace

const Context& StreamBackend::with_workspace(std::int64_t rows, std::int64_t vocab) {
  const std::size_t bytes = static_cast<std::size_t>(rows) * static_cast<std::size_t>(vocab / 1024 + 1) * 64 + 16384;
  memory_.workspace.grow(bytes, context_.stream, is_captured_);
  context_.workspace = {memory_.workspace.data(), memory_.workspace.bytes()};
  return context_;
}

void StreamBackend::draw(const Request& request, const DrawOutputs& outputs, RowStatus* status) {
#ifdef HAVE_DRAW
  expect(launch_draw(request, outputs, status, with_workspace(request.logits.rows, request.logits.vocab)),
         "to launch a draw");
#else
  const Context& context = with_workspace(request.logits.rows, request.logits.vocab);
  expect(cudaMemsetAsync(status, 0, request.logits.rows, context.stream), "to set");
  expect(cudaMemsetAsync(outputs.tokens, 0, request.logits.rows * 4, context.stream), "to set");
#endif
}

void StreamBackend::score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& outputs,
                          RowStatus* status) {
#ifdef HAVE_SCORES
  expect(launch_score(request, tokens, outputs, status, with_workspace(request.logits.rows, request.logits.vocab)),
         "to launch scores");
#else
  refuse("score");
#endif
}

void StreamBackend::cross_entropy(const Request&, const Targets&, const LossOutputs&, RowStatus*) {
  refuse("cross_entropy");
}

void StreamBackend::transform(const Request& request, Transform transform, float* out, RowStatus* status) {
#ifdef HAVE_TRANSFORM
  expect(launch_transform(request, transform, out, status, with_workspace(request.logits.rows, request.logits.vocab)),
         "to launch a transform");
#else
  refuse("transform");
#endif
}

void StreamBackend::top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens,
                          RowStatus* status) {
#ifdef HAVE_TOP_K
  expect(launch_top_k(request, k, values, tokens, status, with_workspace(request.logits.rows, request.logits.vocab)),
         "to launch top_k");
#else
  refuse("top_k");
#endif
}

void StreamBackend::top_continuations(const Request&, const Beams&, Continuation*, RowStatus*) {
  refuse("top_continuations");
}

void StreamBackend::diverge(const Request&, const Logits&, Divergence, float*, RowStatus*) { refuse("diverge"); }
void StreamBackend::list_kept(const Request&, KeptRow*, RowStatus*) { refuse("list_kept"); }
void StreamBackend::verify(const Request&, const Drafts&, const VerifyOutputs&, RowStatus*) { refuse("verify"); }

}  // namespace tokendraw::cuda
