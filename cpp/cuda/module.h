// SPDX-License-Identifier: Apache-2.0
// What the extension module `_cuda` gives to `_core`, which is built without CUDA: devices, and calls on their streams.
// Host types only. Both modules are of one build, which `version` and what follows it hold them to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "plan/backend.h"

namespace tokendraw::cuda {

inline constexpr std::uint32_t kModuleVersion = 2;
inline constexpr char kModuleName[] = "tokendraw._cuda.module";

/// Memory of a device that calls use one after another: a stream's own, or one that a caller brings. It grows with what
/// calls need, never while a graph is captured. Nothing may use it any more when it is destroyed.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual int device() const = 0;
  virtual std::size_t bytes() const = 0;
};

/// A call on a stream, by one thread of the host. While it lives its device is current, and its memory is nobody
/// else's. Whatever fails throws std::runtime_error.
class Call {
 public:
  virtual ~Call() = default;

  /// Whether the stream records a graph. Then nothing may be allocated, waited for or copied from the host, and what
  /// would need that throws.
  virtual bool is_captured() const = 0;

  /// Memory of the device for the kernels of this call, aligned to 256 bytes.
  virtual void* scratch(std::size_t bytes) = 0;

  /// Scratch that holds what the host's bytes are now. `name` is the argument that messages name.
  virtual void* copied(const void* host, std::size_t bytes, const char* name) = 0;

  /// Launches on the stream. `wide_tokens`: drawn tokens are written as int64.
  virtual Backend& backend(bool wide_tokens) = 0;

  /// Replaces memory of the device by what the host's bytes are now, when it is the stream's turn.
  virtual void write(void* device, const void* host, std::size_t bytes) = 0;

  /// valid [rows]: whether the row's status is that.
  virtual void mark_valid(const RowStatus* status, std::int64_t rows, bool* valid) = 0;

  /// How many of `rows` targets are not to be ignored: one number in scratch.
  virtual const double* count_targets(const Targets& targets, std::int64_t rows) = 0;

  /// losses [rows] -> out [rows], or [] where they are reduced to one; a mean is that of targets.mean_of rows.
  virtual void reduce(Reduction reduction, const Targets& targets, const double* losses, std::int64_t rows,
                      float* out) = 0;

  /// found [slots] -> scores, parents, tokens [slots], marked where a beam of the group is invalid; of groups that lie
  /// one behind the other and are of one size.
  virtual void split(const Beams& beams, const Continuation* found, const RowStatus* status, float* scores,
                     std::int32_t* parents, std::int32_t* tokens) = 0;

  /// Waits for the stream.
  virtual void read_back(void* host, const void* device, std::size_t bytes) = 0;
};

class Module {
 public:
  const std::uint32_t version = kModuleVersion;
  const std::size_t request_bytes = sizeof(Request);
  const char* const package_version = TOKENDRAW_VERSION;

  virtual ~Module() = default;

  /// Why no kernel of this build runs on the device, in a sentence without a full stop; empty where they do.
  virtual std::string problem_of(int device) = 0;

  /// 0 where there is no driver.
  virtual int device_count() = 0;

  /// Waits for other threads' calls in the same memory; null is the stream's own. The device has no problem.
  virtual std::unique_ptr<Call> call(int device, void* stream, Memory* memory) = 0;

  virtual std::unique_ptr<Memory> new_memory(int device) = 0;

  /// From now on calls on the device may be captured: every kernel that they need was launched before. Sets memory as
  /// large as that of `stream` aside, for a captured stream that has none.
  virtual void set_warm(int device, void* stream) = 0;
};

/// Of this extension module; lives as long as the process.
Module& module();

}  // namespace tokendraw::cuda
