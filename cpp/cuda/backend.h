// SPDX-License-Identifier: Apache-2.0
// The seam on a device: every request is launched on one stream, and nothing is waited for.
#pragma once

#include "cuda/context.h"
#include "cuda/memory.h"
#include "plan/backend.h"

namespace tokendraw::cuda {

/// What plan/unsupported.h refuses is never asked for.
class StreamBackend final : public Backend {
 public:
  StreamBackend(const Context& context, StreamMemory& memory, bool is_captured)
      : context_(context), memory_(memory), is_captured_(is_captured) {}

  void set_wide_tokens(bool wide) { context_.wide_tokens = wide; }

  void draw(const Request& request, const DrawOutputs& outputs, RowStatus* status) override;
  void score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& outputs,
             RowStatus* status) override;
  void cross_entropy(const Request& request, const Targets& targets, const LossOutputs& outputs,
                     RowStatus* status) override;
  void transform(const Request& request, Transform transform, float* out, RowStatus* status) override;
  void top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens, RowStatus* status) override;
  void top_continuations(const Request& request, const Beams& beams, Continuation* found, RowStatus* status) override;

  void diverge(const Request&, const Logits&, Divergence, float*, RowStatus*) override;
  void list_kept(const Request&, KeptRow*, RowStatus*) override;
  void verify(const Request&, const Drafts&, const VerifyOutputs&, RowStatus*) override;

 private:
  /// The context with a workspace for such rows, or of as many bytes.
  const Context& with_workspace(const Logits& logits);
  const Context& with_workspace(std::size_t bytes);

  Context context_;
  StreamMemory& memory_;
  const bool is_captured_;
};

}  // namespace tokendraw::cuda
