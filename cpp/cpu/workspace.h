// SPDX-License-Identifier: Apache-2.0
// What one thread needs for any row: grown on first use, never shrunk, so that steady state allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/continuation.h"
#include "cpu/kernels.h"

namespace tokendraw::cpu {

/// A vector that leaves new elements uninitialised: std::vector's zeros cost a third of a small call.
template <class T>
class Buffer {
 public:
  /// Growing beyond the capacity drops what the buffer held.
  void resize(std::int64_t size) {
    if (size > capacity_) {
      data_.reset(new T[static_cast<std::size_t>(size)]);
      capacity_ = size;
    }
    size_ = size;
  }

  /// Room for what `other` has room for. Drops what the buffer held where it grows.
  void reserve(const Buffer& other) {
    const std::int64_t size = size_;
    resize(other.capacity_);
    size_ = size;
  }

  std::int64_t size() const { return size_; }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T* begin() { return data_.get(); }
  T* end() { return data_.get() + size_; }
  const T* begin() const { return data_.get(); }
  const T* end() const { return data_.get() + size_; }
  T& operator[](std::int64_t index) { return data_[static_cast<std::size_t>(index)]; }
  const T& operator[](std::int64_t index) const { return data_[static_cast<std::size_t>(index)]; }
  T& front() { return *begin(); }
  T& back() { return *(end() - 1); }

 private:
  std::unique_ptr<T[]> data_;
  std::int64_t size_ = 0;
  std::int64_t capacity_ = 0;
};

/// Something that the history says about a token.
struct TokenEvent {
  enum Kind : std::int32_t { kPrompt, kOutput, kRepetition, kForbidden };
  std::int32_t token;
  Kind kind;
  std::int32_t length;  // of a repetition
};

/// A draft that was not accepted, and what its rejection made of the probabilities (verify.cpp).
struct Rejection {
  std::int32_t token;
  double draft_scale;     // of the draft row's probabilities, without the siblings drawn before
  double residual_scale;  // of what the draft left of the target's; 0: nothing, and nothing was taken
};

struct Workspace {
  Buffer<TileSummary> summaries;
  Buffer<TileSummary> raw_summaries;
  Buffer<float> group_max;
  Buffer<double> sums;
  Buffer<Candidate> listed;            // the kept tokens of a short row, by ascending token
  Buffer<Candidate> candidates;        // whatever a selection is narrowing
  Buffer<Candidate> ordered;           // the same in the total order
  Buffer<std::int32_t> beams;          // of one prompt, in the order in which they are read
  Buffer<Continuation> continuations;  // the best so far
  Buffer<Continuation> noisy;          // the same of one beam
  Buffer<Candidate> few;               // whatever a mass is the sum of
  Buffer<std::int32_t> text;           // the history of a row and the drafts it accepted
  Buffer<Rejection> rejections;        // of one position
  Buffer<float> scores;
  Buffer<float> weights;
  Buffer<TokenEvent> events;  // of the history
  Buffer<TokenEvent> events_by_tile;
  Buffer<std::int32_t> match_lengths;
  Buffer<TokenEdit> token_edits;
  Buffer<std::int64_t> edits_begin;
  alignas(64) float tile[kTile];
  int threads = 1;  // that may share the tiles of a row

  void reserve(const Workspace& other) {
    summaries.reserve(other.summaries);
    raw_summaries.reserve(other.raw_summaries);
    group_max.reserve(other.group_max);
    sums.reserve(other.sums);
    listed.reserve(other.listed);
    candidates.reserve(other.candidates);
    ordered.reserve(other.ordered);
    few.reserve(other.few);
    beams.reserve(other.beams);
    continuations.reserve(other.continuations);
    noisy.reserve(other.noisy);
    text.reserve(other.text);
    rejections.reserve(other.rejections);
    scores.reserve(other.scores);
    weights.reserve(other.weights);
    events.reserve(other.events);
    events_by_tile.reserve(other.events_by_tile);
    match_lengths.reserve(other.match_lengths);
    token_edits.reserve(other.token_edits);
    edits_begin.reserve(other.edits_begin);
  }
};

}  // namespace tokendraw::cpu
