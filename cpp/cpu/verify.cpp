// SPDX-License-Identifier: Apache-2.0
#include "cpu/verify.h"

#include <algorithm>
#include <optional>

#include "cpu/draw.h"
#include "cpu/kept.h"
#include "cpu/penalties.h"
#include "plan/plan.h"

namespace tokendraw::cpu {
namespace {

/// Less than this of a distribution is nothing: its reciprocal must stay finite.
constexpr double kLeastMass = 0x1p-512;

/// The probabilities of a row after its steps, in float64: weight * (tile's factor / mass).
class Probabilities {
 public:
  Probabilities(const Kernels& kernels, const RowView& view, const RowSteps& steps, Workspace& work)
      : kept_(kernels, view, steps, work) {
    if (kept_.status() != RowStatus::kValid) return;
    cutoff_ = kept_.cutoff();
    mass_ = kept_.mass();
  }

  RowStatus status() const { return kept_.status(); }
  std::int64_t tiles() { return kept_.row().tiles(); }
  Workspace& work() { return kept_.row().work; }
  const Kernels& kernels() { return kept_.row().kernels; }

  double of_token(std::int32_t token) {
    const Row& row = kept_.row();
    const std::int64_t tile = token / kTile;
    row.kernels.tile_scores(row.view(), tile, row.work.tile);
    const float score = row.work.tile[token % kTile];
    if (!keeps(cutoff_, score, token)) return 0.0;
    float weight = 0.0f;
    row.kernels.weights(&score, 1, row.constants_of(tile), &weight);
    return static_cast<double>(weight) * factor(tile);
  }

  /// probs [kTile]. False, and nothing written, where all are zero.
  bool of_tile(std::int64_t tile, double* probs) {
    const Row& row = kept_.row();
    if (row.work.summaries[tile].max < cutoff_.score) return false;
    row.kernels.tile_probs(row.view(), tile, row.constants_of(tile), cutoff_, factor(tile), probs);
    return true;
  }

 private:
  double factor(std::int64_t tile) { return kept_.row().factor_of(tile) / mass_; }

  Kept kept_;
  Cutoff cutoff_ = kKeepFinite;
  double mass_ = 0.0;
};

/// One position: the target's probabilities p, and what the drafts rejected so far have left of them. With q what the
/// next draft was drawn from, its rejection makes of p the residual max(p - q, 0), normalised. Without replacement q
/// then loses the rejected token and is normalised. A draft without logits has q = 1 at itself.
class Position {
 public:
  Position(Probabilities& target, Probabilities* draft, bool replacement, Buffer<Rejection>& rejections)
      : target_(target), draft_(draft), replacement_(replacement), rejections_(rejections) {}

  /// u * q < p.
  bool accepts(std::int32_t token, double u) {
    double p = target_.of_token(token);
    double q = draft_ ? draft_->of_token(token) : 0.0;
    reject_all(token, 1, &p, &q);
    return u * (draft_ ? q * draft_scale_ : 1.0) < p;
  }

  void reject(std::int32_t token) {
    rejections_[count_++] = {token, draft_scale_, 1.0};
    double draft_left = 0.0;
    const double left = weigh(&draft_left);
    rejections_[count_ - 1].residual_scale = left < kLeastMass ? 0.0 : 1.0 / left;
    is_weighed_ = left >= kLeastMass;
    if (!replacement_) draft_scale_ = draft_left < kLeastMass ? 0.0 : 1.0 / draft_left;
  }

  std::int32_t draw(const RandomSource& source) {
    double unused = 0.0;
    if (!is_weighed_) weigh(&unused);
    const auto level = [&](std::uint32_t index) { return uniform_bits(source, Purpose::kVerifyResidual, index); };
    const Buffer<double>& sums = target_.work().sums;
    const std::int64_t tile = target_.tiles() > 1 ? pick(sums.data(), static_cast<int>(target_.tiles()), level(0)) : 0;
    double p[kTile];
    double q[kTile];
    left_of_tile(tile, p, q);
    double lanes[kLanes];
    target_.kernels().prob_lanes(p, lanes);
    const int lane = pick(lanes, kLanes, level(1));
    double of_lane[kLinesPerTile];
    for (int line = 0; line < kLinesPerTile; ++line) of_lane[line] = p[line * kLanes + lane];
    const int line = pick(of_lane, kLinesPerTile, level(2));
    return static_cast<std::int32_t>(tile * kTile + line * kLanes + lane);
  }

 private:
  /// Which of the rows keep tokens of a tile.
  struct Held {
    bool target;
    bool draft;
  };

  /// The sum of what is left of the target's probabilities, per tile in work.sums, and of the draft's.
  double weigh(double* draft_left) {
    Buffer<double>& sums = target_.work().sums;
    sums.resize(target_.tiles());
    double p[kTile];
    double q[kTile];
    double left = 0.0;
    for (std::int64_t tile = 0; tile < target_.tiles(); ++tile) {
      const Held held = left_of_tile(tile, p, q);
      sums[tile] = held.target ? sum_of_tile(p) : 0.0;
      left += sums[tile];
      if (held.draft && !replacement_) *draft_left += sum_of_tile(q);
    }
    return left;
  }

  double sum_of_tile(const double* probs) {
    double lanes[kLanes];
    target_.kernels().prob_lanes(probs, lanes);
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
  }

  /// p, q [kTile], of use where the row keeps tokens of the tile.
  Held left_of_tile(std::int64_t tile, double* p, double* q) {
    Held held{target_.of_tile(tile, p), false};
    if (draft_ && (held.target || !replacement_)) held.draft = draft_->of_tile(tile, q);
    if (!held.target && !held.draft) return held;
    if (!held.target) std::fill(p, p + kTile, 0.0);
    if (draft_ && !held.draft) std::fill(q, q + kTile, 0.0);
    reject_all(tile * kTile, kTile, p, q);
    return held;
  }

  /// What the rejections make of the probabilities p and q of the tokens first .. first + count.
  void reject_all(std::int64_t first, int count, double* p, double* q) {
    for (std::int64_t i = 0; i < count_; ++i) {
      const Rejection& rejection = rejections_[i];
      const std::int64_t place = rejection.token - first;
      const bool is_here = place >= 0 && place < count;
      const double scale = rejection.residual_scale;
      if (scale > 0.0 && draft_) {
        target_.kernels().take_residual(q, rejection.draft_scale, scale, count, p);
      } else if (scale > 0.0) {
        if (is_here) p[place] = 0.0;
        for (int j = 0; j < count; ++j) p[j] *= scale;
      }
      if (is_here && !replacement_) q[place] = 0.0;
    }
  }

  Probabilities& target_;
  Probabilities* const draft_;
  const bool replacement_;
  Buffer<Rejection>& rejections_;
  std::int64_t count_ = 0;
  double draft_scale_ = 1.0;
  bool is_weighed_ = false;  // work.sums are those of what is left
};

/// The way of one row from the root of its drafts to the first position where none is accepted.
class Way {
 public:
  Way(const Kernels& kernels, const Request& request, const Drafts& drafts, std::int64_t row, Workspace& target_work,
      Workspace& draft_work)
      : kernels_(kernels),
        request_(request),
        drafts_(drafts),
        row_(row),
        target_work_(target_work),
        draft_work_(draft_work),
        behind_(behind_row(request, row)) {
    target_work.rejections.resize(drafts.count);
    const std::int64_t length = behind_.end - behind_.begin;
    target_work.text.resize(length + drafts.count);
    std::copy(behind_.begin, behind_.end, target_work.text.begin());
    behind_.begin = target_work.text.data();
    behind_.end = behind_.begin + length;
  }

  RowStatus follow(std::int32_t* tokens, std::int64_t* accepted) {
    std::fill_n(tokens, drafts_.count + 1, -1);
    *accepted = 0;
    for (;;) {
      const RowStatus status = decide();
      if (status != RowStatus::kValid) return status;
      tokens[*accepted] = token_;
      if (!accepted_) return status;
      ++*accepted;
      advance();
    }
  }

 private:
  /// The next token, and whether it is a draft.
  RowStatus decide() {
    const std::int64_t first = next_child(draft_ + 1);
    accepted_ = false;
    if (first == drafts_.count) return draw_alone();
    Probabilities target(kernels_, view(target_work_), steps(), target_work_);
    if (target.status() != RowStatus::kValid) return target.status();
    std::optional<Probabilities> of_draft;
    if (drafts_.logits.data) {
      RowView draft_view = view(draft_work_);
      draft_view.logits = drafts_.logits.row(row_, first);
      draft_view.dtype = drafts_.logits.dtype;
      of_draft.emplace(kernels_, draft_view, steps(), draft_work_);
      if (of_draft->status() != RowStatus::kValid) return of_draft->status();
    }
    Position position(target, of_draft ? &*of_draft : nullptr, drafts_.replacement, target_work_.rejections);
    try_children(position, first);
    if (!accepted_) token_ = position.draw(source());
    return RowStatus::kValid;
  }

  void try_children(Position& position, std::int64_t child) {
    for (std::uint32_t sibling = 0; child < drafts_.count; child = next_child(child + 1), ++sibling) {
      token_ = drafts_.tokens[row_ * drafts_.count + child];
      const double u = fraction_of(uniform_bits(source(), Purpose::kVerifyAccept, sibling));
      accepted_ = position.accepts(token_, u);
      if (accepted_) {
        next_ = child;
        return;
      }
      position.reject(token_);
    }
  }

  /// After the last draft: nothing was proposed here.
  RowStatus draw_alone() {
    Kept kept(kernels_, view(target_work_), steps(), target_work_);
    if (kept.status() == RowStatus::kValid) token_ = draw_token(kept, source(), Purpose::kVerifyResidual).token;
    return kept.status();
  }

  void advance() {
    draft_ = next_;
    target_work_.text[behind_.end - behind_.begin] = token_;
    ++behind_.end;
    ++behind_.step;
  }

  /// The first draft from `from` on that follows the last accepted one; the count of drafts where there is none.
  std::int64_t next_child(std::int64_t from) const {
    const std::int64_t first = row_ * drafts_.count;
    for (std::int64_t draft = from; draft < drafts_.count && drafts_.tokens[first + draft] >= 0; ++draft) {
      const std::int64_t parent = drafts_.parents ? drafts_.parents[first + draft] : draft - 1;
      if (parent == draft_) return draft;
    }
    return drafts_.count;
  }

  RowView view(Workspace& work) const {
    RowView view = view_row(request_, row_, draft_ + 1);
    edit_by_history(request_.penalties, row_, behind_, work, view);
    return view;
  }

  RandomSource source() const {
    RandomSource source = request_.randomness.row(row_);
    source.step = static_cast<std::uint32_t>(behind_.step);
    return source;
  }

  RowSteps steps() const { return steps_of(request_.params, source(), row_, request_.logits.vocab); }

  const Kernels& kernels_;
  const Request& request_;
  const Drafts& drafts_;
  const std::int64_t row_;
  Workspace& target_work_;
  Workspace& draft_work_;
  Behind behind_;
  std::int64_t draft_ = -1;  // the last accepted
  std::int64_t next_ = -1;
  std::int32_t token_ = -1;
  bool accepted_ = false;
};

}  // namespace

RowStatus verify_row(const Kernels& kernels, const Request& request, const Drafts& drafts, std::int64_t row,
                     Workspace& target_work, Workspace& draft_work, const VerifyOutputs& out) {
  Way way(kernels, request, drafts, row, target_work, draft_work);
  return way.follow(out.tokens + row * (drafts.count + 1), out.accepted + row);
}

}  // namespace tokendraw::cpu
