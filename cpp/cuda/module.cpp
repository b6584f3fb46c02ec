// SPDX-License-Identifier: Apache-2.0
#include "cuda/module.h"

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "cuda/backend.h"
#include "cuda/continuations.h"
#include "cuda/driver.h"
#include "cuda/errors.h"
#include "cuda/memory.h"
#include "cuda/reduction.h"
#include "cuda/valid.h"

namespace tokendraw::cuda {
namespace {

constexpr std::size_t kAlignment = 256;

/// Makes a device current for as long as it lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) : device_(device) {
    expect(cudaGetDevice(&before_), "to say which device is current");
    if (before_ != device_) expect(cudaSetDevice(device_), "to change the device");
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  ~CurrentDevice() {
    if (before_ != device_) static_cast<void>(cudaSetDevice(before_));
  }

 private:
  const int device_;
  int before_ = 0;
};

bool is_capturing(cudaStream_t stream, int device) {
  const CurrentDevice current(device);  // whose default stream it may be
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  expect(cudaStreamIsCapturing(stream, &status), "to say whether a graph is captured");
  return status != cudaStreamCaptureStatusNone;
}

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  expect(cudaDeviceGetAttribute(&value, name, device), "to describe a device");
  return value;
}

Device describe(int device) {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
  const int minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
  return {device, 10 * major + minor, attribute(cudaDevAttrMultiProcessorCount, device)};
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// Any driver of the same major version runs what this build holds.
std::string problem_of_driver() {
  constexpr int kLeast = CUDART_VERSION / 1000 * 1000;
  const int version = driver_version();
  if (version == 0) return "this machine has no CUDA driver (libcuda.so.1 was not found)";
  if (version >= kLeast) return "";
  return "this machine's driver is for CUDA " + version_text(version) + ", and this build needs one for CUDA " +
         version_text(kLeast) + " or newer";
}

class StreamCall final : public Call {
 public:
  StreamCall(const Device& device, cudaStream_t stream, bool is_captured, StreamMemory& memory,
             std::unique_lock<std::mutex> lock)
      : current_(device.index),
        lock_(std::move(lock)),
        memory_(memory),
        stream_(stream),
        is_captured_(is_captured),
        context_{stream, device, {}, false},
        backend_(context_, memory, is_captured) {}

  bool is_captured() const override { return is_captured_; }

  void* scratch(std::size_t bytes) override {
    const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (used_ + rounded > memory_.scratch.bytes()) {
      memory_.scratch.grow(total_ + rounded, stream_, is_captured_);
      used_ = 0;
    }
    char* begin = memory_.scratch.data() + used_;
    used_ += rounded;
    total_ += rounded;
    return begin;
  }

  void* copied(const void* host, std::size_t bytes, const char* name) override {
    if (is_captured_) {
      throw std::runtime_error(std::string(name) +
                               " must be on the device of logits while a graph is captured, got an array in host "
                               "memory");
    }
    void* device = scratch(bytes);
    if (bytes > 0) memory_.staging.copy(device, host, bytes, stream_);
    return device;
  }

  Backend& backend(bool wide_tokens) override {
    backend_.set_wide_tokens(wide_tokens);
    return backend_;
  }

  void write(void* device, const void* host, std::size_t bytes) override {
    if (is_captured_) throw std::runtime_error("nothing can be copied from the host while a graph is captured");
    if (bytes > 0) memory_.staging.copy(device, host, bytes, stream_);
  }

  void mark_valid(const RowStatus* status, std::int64_t rows, bool* valid) override {
    expect(launch_valid(status, rows, valid, context_), "to launch a kernel");
  }

  const double* count_targets(const Targets& targets, std::int64_t rows) override {
    auto* counted = static_cast<double*>(scratch(sizeof(double)));
    expect(launch_count_targets(targets, rows, counted, context_), "to count targets");
    return counted;
  }

  void reduce(Reduction reduction, const Targets& targets, const double* losses, std::int64_t rows,
              float* out) override {
    expect(launch_reduction(reduction, targets, losses, rows, out, context_), "to add losses");
  }

  void split(const Beams& beams, const Continuation* found, const RowStatus* status, float* scores,
             std::int32_t* parents, std::int32_t* tokens) override {
    const ContinuationArrays arrays{scores, parents, tokens};
    expect(launch_continuation_arrays(beams, found, status, arrays, context_), "to write what a beam step found");
  }

  void read_back(void* host, const void* device, std::size_t bytes) override {
    if (is_captured_) {
      throw std::runtime_error("nothing can be waited for while a graph is captured, got on_invalid=\"raise\"");
    }
    if (bytes > 0) expect(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "to read a result");
    expect(cudaStreamSynchronize(stream_), "to finish a call");
  }

 private:
  const CurrentDevice current_;
  const std::unique_lock<std::mutex> lock_;
  StreamMemory& memory_;
  const cudaStream_t stream_;
  const bool is_captured_;
  const Context context_;
  StreamBackend backend_;
  std::size_t used_ = 0;   // of the newest scratch
  std::size_t total_ = 0;  // by this call
};

class CudaModule final : public Module {
 public:
  std::string problem_of(int device) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (usable_.count(device) > 0) return "";
    std::string problem = problem_of_driver();
    if (problem.empty()) problem = problem_of_device(device);
    if (problem.empty()) usable_.emplace(device, describe(device));
    return problem;
  }

  int device_count() override {
    int count = 0;
    if (!problem_of_driver().empty()) return 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    static_cast<void>(cudaGetLastError());
    return 0;
  }

  std::unique_ptr<Call> call(int device, void* stream, Memory* memory) override {
    const auto handle = static_cast<cudaStream_t>(stream);
    const bool is_captured = is_capturing(handle, device);
    auto [chosen, described] = memory_for(device, handle, memory, is_captured);
    std::unique_lock<std::mutex> in_use(chosen->in_use);
    return std::make_unique<StreamCall>(described, handle, is_captured, *chosen, std::move(in_use));
  }

  std::unique_ptr<Memory> new_memory(int device) override { return std::make_unique<StreamMemory>(device); }

  void set_warm(int device, void* stream) override {
    const CurrentDevice current(device);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto handle = static_cast<cudaStream_t>(stream);
    const StreamMemory& used = own(device, handle);
    auto spare = std::make_unique<StreamMemory>(device);
    spare->workspace.grow(used.workspace.bytes(), handle, false);
    spare->scratch.grow(used.scratch.bytes(), handle, false);
    expect(cudaStreamSynchronize(handle), "to finish its preparations");
    spares_[device].push_back(std::move(spare));
  }

 private:
  std::string problem_of_device(int device) {
    const int count = device_count();
    if (device >= count) {
      return "this machine has " + std::to_string(count) + " CUDA devices, and none of them is number " +
             std::to_string(device);
    }
    const CurrentDevice current(device);
    if (has_kernels()) return "";
    const Device found = describe(device);
    return "this build has kernels for compute capabilities " TOKENDRAW_CUDA_ARCHS ", and none for that of device " +
           std::to_string(device) + ", " + std::to_string(found.compute / 10) + "." +
           std::to_string(found.compute % 10);
  }

  StreamMemory& own(int device, cudaStream_t stream) {
    std::unique_ptr<StreamMemory>& memory = memories_[{device, stream}];
    if (!memory) memory = std::make_unique<StreamMemory>(device);
    return *memory;
  }

  /// A captured stream that has less takes the memory that was set aside, and keeps it.
  void adopt_spare(int device, cudaStream_t stream) {
    std::vector<std::unique_ptr<StreamMemory>>& spares = spares_[device];
    StreamMemory& used = own(device, stream);
    if (spares.empty() || spares.back()->bytes() <= used.bytes()) return;
    std::swap(memories_[{device, stream}], spares.back());
    outgrown_.push_back(std::move(spares.back()));
    spares.pop_back();
  }

  std::pair<StreamMemory*, Device> memory_for(int device, cudaStream_t stream, Memory* given, bool is_captured) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Device described = usable_.at(device);
    if (is_captured && spares_.count(device) == 0) {
      throw std::runtime_error(
          "tokendraw.cuda.warmup must be called before a graph is captured: it loads the kernels and allocates what "
          "they need");
    }
    if (given != nullptr) return {static_cast<StreamMemory*>(given), described};
    if (is_captured) adopt_spare(device, stream);
    return {&own(device, stream), described};
  }

  std::mutex mutex_;
  std::map<int, Device> usable_;
  std::map<std::pair<int, cudaStream_t>, std::unique_ptr<StreamMemory>> memories_;
  std::map<int, std::vector<std::unique_ptr<StreamMemory>>> spares_;  // by device, from the first warmup on
  std::vector<std::unique_ptr<StreamMemory>> outgrown_;               // earlier graphs may use it
};

}  // namespace

Module& module() {
  // Never destroyed: the driver may be gone before the process is.
  static auto* instance = new CudaModule;
  return *instance;
}

}  // namespace tokendraw::cuda
