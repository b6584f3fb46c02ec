// SPDX-License-Identifier: Apache-2.0
#include "cuda/memory.h"

#include <algorithm>
#include <cstring>

#include "cuda/errors.h"

namespace tokendraw::cuda {
namespace {

constexpr std::size_t kLeastBlock = std::size_t{64} << 10;

// The host runs ahead of the device by as many copies, then waits for the oldest.
constexpr std::size_t kMostPieces = 64;

std::size_t rounded_up(std::size_t bytes) {
  std::size_t rounded = kLeastBlock;
  while (rounded < bytes) rounded *= 2;
  return rounded;
}

}  // namespace

GrowingBlock::~GrowingBlock() {
  for (void* block : all_) static_cast<void>(cudaFree(block));
}

void GrowingBlock::grow(std::size_t bytes, cudaStream_t stream, bool is_captured) {
  if (bytes <= bytes_) return;
  if (is_captured) {
    throw std::runtime_error(
        "memory must not be allocated while a graph is captured, got a call that needs " + std::to_string(bytes) +
        " bytes where " + std::to_string(bytes_) +
        " are set aside: call tokendraw.cuda.warmup with as many rows, as large a vocab and the same options before");
  }
  const std::size_t wanted = rounded_up(bytes);
  void* block = nullptr;
  expect(cudaMalloc(&block, wanted), "to allocate its workspace");
  all_.push_back(block);
  if (zeroed_) expect(cudaMemsetAsync(block, 0, wanted, stream), "to clear its workspace");
  data_ = static_cast<char*>(block);
  bytes_ = wanted;
  all_bytes_ += wanted;
}

Staging::~Staging() {
  for (const Piece& piece : pieces_) {
    static_cast<void>(cudaEventDestroy(piece.done));
    static_cast<void>(cudaFreeHost(piece.data));
  }
}

void Staging::copy(void* device, const void* host, std::size_t bytes, cudaStream_t stream) {
  Piece& piece = free_piece(bytes);
  std::memcpy(piece.data, host, bytes);
  expect(cudaMemcpyAsync(device, piece.data, bytes, cudaMemcpyHostToDevice, stream), "to copy an argument");
  expect(cudaEventRecord(piece.done, stream), "to record an event");
}

Staging::Piece& Staging::free_piece(std::size_t bytes) {
  for (Piece& piece : pieces_) {
    if (piece.bytes >= bytes && cudaEventQuery(piece.done) == cudaSuccess) return piece;
  }
  static_cast<void>(cudaGetLastError());  // "not ready" is an answer
  if (pieces_.size() < kMostPieces) return new_piece(bytes);
  Piece& oldest = pieces_[next_++ % kMostPieces];
  expect(cudaEventSynchronize(oldest.done), "to wait for a copy");
  if (oldest.bytes >= bytes) return oldest;
  const Piece old = oldest;
  oldest = pieces_.back();
  pieces_.pop_back();
  expect(cudaEventDestroy(old.done), "to free an event");
  expect(cudaFreeHost(old.data), "to free pinned memory");
  return new_piece(bytes);
}

Staging::Piece& Staging::new_piece(std::size_t bytes) {
  Piece piece;
  piece.bytes = std::max<std::size_t>(rounded_up(bytes) / 16, bytes);
  expect(cudaHostAlloc(&piece.data, piece.bytes, cudaHostAllocDefault), "to allocate pinned memory");
  expect(cudaEventCreateWithFlags(&piece.done, cudaEventDisableTiming), "to make an event");
  pieces_.push_back(piece);
  return pieces_.back();
}

}  // namespace tokendraw::cuda
