// SPDX-License-Identifier: Apache-2.0
#include "runtime.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "emulator.h"
#include "memory.h"
#include "scheduler.h"
#include "symbols.h"

using emulated::kDevices;

/// One entry of a stream: returns what is wrong, or "".
using Work = std::function<std::string()>;

struct CUgraph_st {
  std::vector<Work> work;
  int device = 0;
};
struct CUgraphExec_st {
  std::vector<Work> work;
  int device = 0;
};
struct CUstream_st {
  int device = 0;
  bool is_blocking = true;  // ordered with the default stream
  bool is_destroyed = false;
  std::deque<Work> queue;
  std::uint64_t added = 0;  // entries ever
  std::uint64_t done = 0;
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  CUgraph_st* graph = nullptr;
};
struct CUevent_st {
  CUstream_st* stream = nullptr;  // where it was recorded last, and behind which entry
  std::uint64_t entry = 0;
};

namespace emulated {
namespace {

struct Device {
  int major = 9;
  int minor = 0;
  CUstream_st standard;
};

struct State {
  State() {
    for (int device = 0; device < kDevices; ++device) devices[device].standard.device = device;
  }

  std::recursive_mutex lock;
  Device devices[kDevices];
  std::vector<std::unique_ptr<CUstream_st>> streams;
  std::set<CUevent_st*> events;
  std::set<const void*> loaded;  // kernels
  std::map<const void*, int> dynamic_limits;
  std::set<const void*> large_clusters;
  std::string report;
  cudaError_t sticky = cudaSuccess;
  std::uint64_t seed = 0;
  std::uint64_t launch = 0;  // since the seed was set
  Counts counts;
};

/// Never destroyed: whoever exits may still free memory.
State& state() {
  static State* all = new State;
  return *all;
}

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

using Lock = std::lock_guard<std::recursive_mutex>;

cudaError_t noted(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

std::uint64_t mixed(std::uint64_t seed, std::uint64_t number) {  // the finaliser of SplitMix64
  std::uint64_t z = seed + number * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

CUstream_st* stream_of(cudaStream_t stream) {
  const bool is_standard = stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
  if (is_standard) return &state().devices[current_device].standard;
  for (const auto& known : state().streams) {
    if (known.get() == stream && !known->is_destroyed) return stream;
  }
  return nullptr;
}

bool is_standard(const CUstream_st& stream) { return &stream == &state().devices[stream.device].standard; }

void run_one(CUstream_st& stream) {
  Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  ++stream.done;
  if (state().sticky != cudaSuccess) return;  // a device that has failed does nothing more
  const std::string report = work();
  if (report.empty()) return;
  state().report = report;
  state().sticky = cudaErrorLaunchFailure;
}

void run_up_to(CUstream_st& stream, std::uint64_t entry) {
  while (stream.done < entry && !stream.queue.empty()) run_one(stream);
}

std::vector<CUstream_st*> streams_of(int device) {
  std::vector<CUstream_st*> all{&state().devices[device].standard};
  for (const auto& stream : state().streams) {
    if (stream->device == device) all.push_back(stream.get());
  }
  return all;
}

/// Streams take turns as the schedule says.
void run_all(int device) {
  std::uint64_t turn = 0;
  for (;;) {
    std::vector<CUstream_st*> waiting;
    for (CUstream_st* stream : streams_of(device)) {
      if (!stream->queue.empty()) waiting.push_back(stream);
    }
    if (waiting.empty()) return;
    const std::uint64_t choice = state().seed == 0 ? 0 : mixed(state().seed, ~turn++);
    run_one(*waiting[choice % waiting.size()]);
  }
}

/// The default stream and the blocking ones wait for each other: whoever comes second finds the first done.
void order_with_standard(CUstream_st& stream) {
  if (is_standard(stream)) {
    for (CUstream_st* other : streams_of(stream.device)) {
      if (other->is_blocking && other != &stream) run_up_to(*other, other->added);
    }
  } else if (stream.is_blocking) {
    CUstream_st& standard = state().devices[stream.device].standard;
    run_up_to(standard, standard.added);
  }
}

cudaError_t add(CUstream_st& stream, Work work) {
  if (stream.capture == cudaStreamCaptureStatusInvalidated) return cudaErrorStreamCaptureInvalidated;
  if (stream.capture == cudaStreamCaptureStatusActive) {
    stream.graph->work.push_back(std::move(work));
    return cudaSuccess;
  }
  order_with_standard(stream);
  stream.queue.push_back(std::move(work));
  ++stream.added;
  return cudaSuccess;
}

CUstream_st* capturing() {
  for (const auto& stream : state().streams) {
    if (!stream->is_destroyed && stream->capture == cudaStreamCaptureStatusActive) return stream.get();
  }
  return nullptr;
}

/// What waits for the device, or allocates, has no place in a capture, and ends it.
cudaError_t forbidden_under_capture() {
  CUstream_st* stream = capturing();
  if (stream == nullptr) return cudaSuccess;
  stream->capture = cudaStreamCaptureStatusInvalidated;
  return cudaErrorStreamCaptureUnsupported;
}

// ---- launches ----

cudaError_t cluster_of(const cudaLaunchConfig_t& config, unsigned& size) {
  size = 1;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    if (attribute.id == cudaLaunchAttributeIgnore) continue;
    if (attribute.id != cudaLaunchAttributeClusterDimension) return cudaErrorNotSupported;
    if (attribute.val.clusterDim.y != 1 || attribute.val.clusterDim.z != 1) return cudaErrorNotSupported;
    size = attribute.val.clusterDim.x;
  }
  return cudaSuccess;
}

cudaError_t check_shape(const cudaLaunchConfig_t& config, const void* kernel, unsigned cluster, int device) {
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  const auto threads = std::uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0) return cudaErrorInvalidConfiguration;
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  if (threads > 1024 || block.x > 1024 || block.y > 1024 || block.z > 64) return cudaErrorInvalidConfiguration;
  const auto limit = state().dynamic_limits.find(kernel);
  const std::size_t bytes =
      limit == state().dynamic_limits.end() ? kStaticLimit : static_cast<std::size_t>(limit->second);
  if (config.dynamicSmemBytes > bytes) return cudaErrorInvalidValue;
  if (cluster == 1) return cudaSuccess;
  if (state().devices[device].major < 9) return cudaErrorNotSupported;
  const unsigned largest = state().large_clusters.count(kernel) > 0 ? 16 : 8;
  const bool is_size = cluster >= 1 && cluster <= largest && (cluster & (cluster - 1)) == 0;
  return is_size && grid.x % cluster == 0 ? cudaSuccess : cudaErrorInvalidConfiguration;
}

/// As if all were compiled for 7.5 and later.
bool has_kernels_for(int device) {
  const Device& of = state().devices[device];
  return 10 * of.major + of.minor >= 75;
}

/// A pointer that no kernel on this device may follow, before the kernel runs: the only look a plain build takes.
std::string check_parameter(const Parameter& parameter, std::size_t number, int device) {
  const std::string which = "parameter " + std::to_string(number) + " is ";
  for (std::size_t at = 0; at + sizeof(void*) <= parameter.size; at += sizeof(void*)) {
    const char* pointer = nullptr;
    std::memcpy(&pointer, static_cast<const char*>(parameter.bytes) + at, sizeof pointer);
    if (pointer == nullptr) continue;
    const Allocation* found = find_allocation(pointer);
    if (found == nullptr) {
      if (parameter.is_pointer) return "not device memory: " + which + "memory of the host";
      continue;
    }
    const bool is_inside = pointer >= found->base && pointer <= found->base + found->bytes;
    if (!parameter.is_pointer && !is_inside) continue;
    if (found->is_freed && parameter.is_pointer) return "use after cudaFree: " + which + description(pointer);
    if (!found->is_freed && found->kind == MemoryKind::kDevice && found->device != device) {
      return "wrong device: the kernel runs on device " + std::to_string(device) + ", " + which + description(pointer);
    }
    if (parameter.is_pointer && !is_inside) return "out of bounds: " + which + description(pointer);
  }
  return "";
}

std::string check_parameters(const std::vector<Parameter>& parameters, const Call& call, int device) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string wrong = check_parameter(parameters[i], i, device);
    if (!wrong.empty()) return wrong + "\n  kernel " + function_at(call.kernel);
  }
  return "";
}

}  // namespace

cudaError_t enqueue(const cudaLaunchConfig_t& config, Call call, const Parameter* parameters, std::size_t count) {
  const Lock lock(state().lock);
  if (state().sticky != cudaSuccess) return noted(state().sticky);
  CUstream_st* stream = stream_of(config.stream);
  if (stream == nullptr || stream->device != current_device) return noted(cudaErrorInvalidResourceHandle);
  if (!has_kernels_for(current_device)) return noted(cudaErrorNoKernelImageForDevice);
  Shape shape;
  cudaError_t error = cluster_of(config, shape.cluster);
  if (error == cudaSuccess) error = check_shape(config, call.kernel, shape.cluster, current_device);
  if (error != cudaSuccess) return noted(error);
  const bool is_first = state().loaded.insert(call.kernel).second;
  if (is_first && capturing() != nullptr) {
    state().loaded.erase(call.kernel);
    return noted(forbidden_under_capture());
  }
  shape.grid = config.gridDim;
  shape.block = config.blockDim;
  shape.dynamic_bytes = config.dynamicSmemBytes;
  const std::vector<Parameter> described(parameters, parameters + count);
  const int device = current_device;
  return noted(add(*stream, [=, call = std::move(call)] {
    std::string report = check_parameters(described, call, device);
    ++state().counts.launches;
    const std::uint64_t seed = state().seed == 0 ? 0 : mixed(state().seed, state().launch++) | 1;
    return report.empty() ? run(call, shape, device, seed) : report;
  }));
}

cudaError_t set_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const Lock lock(state().lock);
  state().loaded.insert(kernel);
  switch (attribute) {
    case cudaFuncAttributeMaxDynamicSharedMemorySize:
      if (value < 0 || static_cast<std::size_t>(value) > kDynamicLimit) return noted(cudaErrorInvalidValue);
      state().dynamic_limits[kernel] = value;
      return cudaSuccess;
    case cudaFuncAttributeNonPortableClusterSizeAllowed:
      if (value != 0) state().large_clusters.insert(kernel);
      return cudaSuccess;
    default: return cudaSuccess;
  }
}

cudaError_t get_attributes(cudaFuncAttributes* attributes, const void* kernel) {
  const Lock lock(state().lock);
  if (!has_kernels_for(current_device)) return noted(cudaErrorNoKernelImageForDevice);
  state().loaded.insert(kernel);
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  const auto limit = state().dynamic_limits.find(kernel);
  attributes->maxDynamicSharedSizeBytes = limit == state().dynamic_limits.end() ? int{kStaticLimit} : limit->second;
  return cudaSuccess;
}

// ---- what tests ask ----

void set_schedule(std::uint64_t seed) {
  const Lock lock(state().lock);
  state().seed = seed;
  state().launch = 0;
}

std::string take_report() {
  const Lock lock(state().lock);
  std::string report;
  std::swap(report, state().report);
  state().sticky = cudaSuccess;
  last_error = cudaSuccess;
  return report;
}

void set_compute_capability(int device, int major, int minor) {
  const Lock lock(state().lock);
  state().devices[device].major = major;
  state().devices[device].minor = minor;
}

void forget_loaded_kernels() {
  const Lock lock(state().lock);
  state().loaded.clear();
}

Counts counts() {
  const Lock lock(state().lock);
  Counts all = state().counts;
  all.switches = statistics.switches;
  return all;
}

}  // namespace emulated

using namespace emulated;

// ---- errors ----

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define EMULATED_NAME(name) \
  case name: return #name
    EMULATED_NAME(cudaSuccess);
    EMULATED_NAME(cudaErrorInvalidValue);
    EMULATED_NAME(cudaErrorMemoryAllocation);
    EMULATED_NAME(cudaErrorInvalidConfiguration);
    EMULATED_NAME(cudaErrorInvalidDevice);
    EMULATED_NAME(cudaErrorNoKernelImageForDevice);
    EMULATED_NAME(cudaErrorInvalidResourceHandle);
    EMULATED_NAME(cudaErrorNotReady);
    EMULATED_NAME(cudaErrorIllegalAddress);
    EMULATED_NAME(cudaErrorLaunchFailure);
    EMULATED_NAME(cudaErrorNotSupported);
    EMULATED_NAME(cudaErrorStreamCaptureUnsupported);
    EMULATED_NAME(cudaErrorStreamCaptureInvalidated);
    EMULATED_NAME(cudaErrorStreamCaptureUnmatched);
    EMULATED_NAME(cudaErrorStreamCaptureImplicit);
#undef EMULATED_NAME
  }
  return "unrecognised error";
}

const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

cudaError_t cudaPeekAtLastError() {
  const Lock lock(state().lock);
  return state().sticky != cudaSuccess ? state().sticky : last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

// ---- devices ----

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kDevices) return noted(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device < 0 || device >= kDevices) return noted(cudaErrorInvalidDevice);
  const Lock lock(state().lock);
  const Device& of = state().devices[device];
  switch (attribute) {  // an H100's, SXM5
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = int{kStaticLimit}; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrL2CacheSize: *value = 50 * 1024 * 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    case cudaDevAttrComputeCapabilityMajor: *value = of.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = of.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = 228 * 1024; break;
    case cudaDevAttrCooperativeLaunch: *value = 1; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = int{kDynamicLimit}; break;
    case cudaDevAttrClusterLaunch: *value = of.major >= 9; break;
    default: return noted(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const Lock lock(state().lock);
  ++state().counts.synchronisations;
  if (const cudaError_t error = forbidden_under_capture(); error != cudaSuccess) return noted(error);
  run_all(current_device);
  return noted(state().sticky);
}

// ---- memory ----

namespace {

cudaError_t allocate_of(void** pointer, std::size_t bytes, MemoryKind kind) {
  const Lock lock(state().lock);
  ++state().counts.allocations;
  if (const cudaError_t error = forbidden_under_capture(); error != cudaSuccess) return noted(error);
  *pointer = bytes == 0 ? nullptr : allocate(bytes, current_device, kind);
  return noted(bytes == 0 || *pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

bool is_device_range(const void* pointer, std::size_t bytes) {
  const Allocation* found = find_allocation(pointer);
  if (found == nullptr || found->is_freed) return false;
  const char* begin = static_cast<const char*>(pointer);
  return begin >= found->base && begin + bytes <= found->base + found->bytes;
}

/// Is each side what the kind of copy says? Memory that is not known belongs to the host.
bool is_copy(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const auto fits = [bytes](const void* side, bool must_be_device) {
    return find_allocation(side) != nullptr ? is_device_range(side, bytes) : !must_be_device;
  };
  return fits(to, to_device) && fits(from, from_device);
}

bool is_pageable(const void* pointer) { return find_allocation(pointer) == nullptr; }

}  // namespace

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) { return allocate_of(pointer, bytes, MemoryKind::kDevice); }

cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t) {
  return allocate_of(pointer, bytes, MemoryKind::kDevice);
}

cudaError_t cudaMallocManaged(void** pointer, std::size_t bytes, unsigned) {
  return allocate_of(pointer, bytes, MemoryKind::kManaged);
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  return allocate_of(pointer, bytes, MemoryKind::kPinned);
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  return allocate_of(pointer, bytes, MemoryKind::kPinned);
}

cudaError_t cudaFree(void* pointer) {
  const Lock lock(state().lock);
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t error = forbidden_under_capture(); error != cudaSuccess) return noted(error);
  for (int device = 0; device < kDevices; ++device) run_all(device);  // cudaFree waits for all that may use it
  return noted(release(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  const Lock lock(state().lock);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr) return noted(cudaErrorInvalidResourceHandle);
  return noted(add(*of, [pointer] {
    return release(pointer) ? std::string() : "cudaFreeAsync of what is no allocation: " + description(pointer);
  }));
}

cudaError_t cudaFreeHost(void* pointer) { return cudaFree(pointer); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Lock lock(state().lock);
  if (state().sticky != cudaSuccess) return noted(state().sticky);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr) return noted(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  if (!is_copy(to, from, bytes, kind)) return noted(cudaErrorInvalidValue);
  if (of->capture == cudaStreamCaptureStatusNone && is_pageable(from)) {
    // Pageable memory is staged: the caller may change it as soon as the call returns.
    const auto* begin = static_cast<const char*>(from);
    return noted(add(*of, [to, staged = std::vector<char>(begin, begin + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
      return std::string();
    }));
  }
  return noted(add(*of, [=] {
    std::memmove(to, from, bytes);
    return std::string();
  }));
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const Lock lock(state().lock);
  if (const cudaError_t error = forbidden_under_capture(); error != cudaSuccess) return noted(error);
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error != cudaSuccess ? error : cudaStreamSynchronize(nullptr);
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  const Lock lock(state().lock);
  if (state().sticky != cudaSuccess) return noted(state().sticky);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr) return noted(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  if (!is_device_range(to, bytes)) return noted(cudaErrorInvalidValue);
  return noted(add(*of, [=] {
    std::memset(to, value, bytes);
    return std::string();
  }));
}

cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
  const Lock lock(state().lock);
  if (const cudaError_t error = forbidden_under_capture(); error != cudaSuccess) return noted(error);
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const Lock lock(state().lock);
  *attributes = {};
  attributes->device = -1;
  const Allocation* found = find_allocation(pointer);
  auto* address = const_cast<void*>(pointer);
  if (found == nullptr || found->is_freed || !is_device_range(pointer, 0)) {
    attributes->hostPointer = address;
    return cudaSuccess;
  }
  constexpr cudaMemoryType kTypes[] = {cudaMemoryTypeDevice, cudaMemoryTypeHost, cudaMemoryTypeManaged};
  attributes->type = kTypes[static_cast<int>(found->kind)];
  attributes->device = found->device;
  attributes->devicePointer = address;
  attributes->hostPointer = found->kind == MemoryKind::kDevice ? nullptr : address;
  return cudaSuccess;
}

// ---- streams ----

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Lock lock(state().lock);
  state().streams.push_back(std::make_unique<CUstream_st>());
  *stream = state().streams.back().get();
  (*stream)->device = current_device;
  (*stream)->is_blocking = (flags & cudaStreamNonBlocking) == 0;
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(state().lock);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr || is_standard(*of)) return noted(cudaErrorInvalidResourceHandle);
  run_up_to(*of, of->added);
  of->is_destroyed = true;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(state().lock);
  ++state().counts.synchronisations;
  if (const cudaError_t error = forbidden_under_capture(); error != cudaSuccess) return noted(error);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr) return noted(cudaErrorInvalidResourceHandle);
  order_with_standard(*of);
  run_up_to(*of, of->added);
  return noted(state().sticky);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Lock lock(state().lock);
  if (const cudaError_t error = forbidden_under_capture(); error != cudaSuccess) return noted(error);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr) return noted(cudaErrorInvalidResourceHandle);
  if (of->queue.empty()) return noted(state().sticky);
  run_one(*of);  // who polls sees progress
  return of->queue.empty() ? noted(state().sticky) : cudaErrorNotReady;
}

cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device) {
  const Lock lock(state().lock);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr) return noted(cudaErrorInvalidResourceHandle);
  *device = of->device;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(state().lock);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr) return noted(cudaErrorInvalidResourceHandle);
  if (is_standard(*of) && capturing() != nullptr) return noted(cudaErrorStreamCaptureImplicit);
  *status = of->capture;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(state().lock);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr || is_standard(*of)) return noted(cudaErrorStreamCaptureUnsupported);
  if (of->capture != cudaStreamCaptureStatusNone || capturing() != nullptr) return noted(cudaErrorNotSupported);
  of->capture = cudaStreamCaptureStatusActive;
  of->graph = new CUgraph_st;
  of->graph->device = of->device;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(state().lock);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr || of->capture == cudaStreamCaptureStatusNone) return noted(cudaErrorStreamCaptureUnmatched);
  const bool is_valid = of->capture == cudaStreamCaptureStatusActive;
  of->capture = cudaStreamCaptureStatusNone;
  *graph = of->graph;
  of->graph = nullptr;
  if (is_valid) return cudaSuccess;
  delete *graph;
  *graph = nullptr;
  return noted(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(state().lock);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr || state().events.count(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  if (of->capture != cudaStreamCaptureStatusNone) return noted(cudaErrorNotSupported);
  CUstream_st* other = event->stream;
  const std::uint64_t entry = event->entry;
  if (other == nullptr) return cudaSuccess;
  return noted(add(*of, [other, entry] {
    run_up_to(*other, entry);
    return std::string();
  }));
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const Lock lock(state().lock);
  *event = new CUevent_st;
  state().events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(state().lock);
  if (state().events.erase(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(state().lock);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr || state().events.count(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  if (of->capture != cudaStreamCaptureStatusNone) return noted(cudaErrorNotSupported);
  event->stream = of;
  event->entry = of->added;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(state().lock);
  ++state().counts.synchronisations;
  if (const cudaError_t error = forbidden_under_capture(); error != cudaSuccess) return noted(error);
  if (state().events.count(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  if (event->stream != nullptr) run_up_to(*event->stream, event->entry);
  return noted(state().sticky);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(state().lock);
  if (state().events.count(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  CUstream_st* stream = event->stream;
  if (stream == nullptr || stream->done >= event->entry) return noted(state().sticky);
  run_one(*stream);
  return cudaErrorNotReady;
}

// ---- graphs ----

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work, graph->device};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Lock lock(state().lock);
  if (state().sticky != cudaSuccess) return noted(state().sticky);
  CUstream_st* of = stream_of(stream);
  if (of == nullptr || of->device != executable->device) return noted(cudaErrorInvalidResourceHandle);
  for (const Work& work : executable->work) {
    if (const cudaError_t error = add(*of, work); error != cudaSuccess) return noted(error);
  }
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
