// SPDX-License-Identifier: Apache-2.0
// The memory of a stream: what kernels leave for the ones after them, what a call needs, and pinned memory of the host
// that copies to the device start from.
#pragma once

#include <cuda_runtime.h>

#include <mutex>
#include <vector>

#include "cuda/context.h"
#include "cuda/module.h"

namespace tokendraw::cuda {

/// A block of the device's memory that only grows. What it was before is kept: a graph may still use it.
class GrowingBlock {
 public:
  explicit GrowingBlock(bool zeroed) : zeroed_(zeroed) {}
  GrowingBlock(const GrowingBlock&) = delete;
  GrowingBlock& operator=(const GrowingBlock&) = delete;
  ~GrowingBlock();

  /// The device is current. Throws where the stream is captured.
  void grow(std::size_t bytes, cudaStream_t stream, bool is_captured);

  char* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  std::size_t all_bytes() const { return all_bytes_; }

 private:
  const bool zeroed_;
  char* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t all_bytes_ = 0;
  std::vector<void*> all_;
};

/// Pinned memory of the host, in pieces that one copy each starts from. Pieces are used again when their copy is over.
class Staging {
 public:
  Staging() = default;
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging();

  void copy(void* device, const void* host, std::size_t bytes, cudaStream_t stream);

 private:
  struct Piece {
    void* data = nullptr;
    std::size_t bytes = 0;
    cudaEvent_t done = nullptr;
  };

  Piece& free_piece(std::size_t bytes);
  Piece& new_piece(std::size_t bytes);

  std::vector<Piece> pieces_;
  std::size_t next_ = 0;
};

class StreamMemory final : public Memory {
 public:
  explicit StreamMemory(int device) : device_(device) {}

  int device() const override { return device_; }
  std::size_t bytes() const override { return workspace.all_bytes() + scratch.all_bytes(); }

  std::mutex in_use;
  GrowingBlock workspace{true};
  GrowingBlock scratch{false};
  Staging staging;

 private:
  const int device_;
};

}  // namespace tokendraw::cuda
