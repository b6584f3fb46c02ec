// SPDX-License-Identifier: Apache-2.0
// What Python tests do with the emulated devices beside calling tokendraw: memory, streams, graphs, schedules. Plain C
// functions for ctypes, in the same library as the kernels; an error is a code of CUDA's.
#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "emulator.h"

namespace tokendraw::cuda {
extern int emulated_driver;
}

namespace {

/// Makes a device current for a statement.
class On {
 public:
  explicit On(int device) {
    cudaGetDevice(&before_);
    cudaSetDevice(device);
  }
  ~On() { cudaSetDevice(before_); }

 private:
  int before_ = 0;
};

cudaStream_t stream_of(std::uintptr_t handle) { return reinterpret_cast<cudaStream_t>(handle); }

std::string report;

}  // namespace

#define EMULATED_API extern "C" __attribute__((visibility("default")))

EMULATED_API void* emulated_malloc(int device, std::uint64_t bytes) {
  const On on(device);
  void* memory = nullptr;
  return cudaMalloc(&memory, bytes) == cudaSuccess ? memory : nullptr;
}

/// As the caching allocator of a library: nothing is waited for, also while a graph is captured.
EMULATED_API int emulated_free(int device, void* memory, std::uintptr_t stream) {
  const On on(device);
  return cudaFreeAsync(memory, stream_of(stream));
}

EMULATED_API int emulated_write(int device, void* to, const void* from, std::uint64_t bytes) {
  const On on(device);
  return cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice);
}

EMULATED_API int emulated_read(int device, void* to, const void* from, std::uint64_t bytes) {
  const On on(device);
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess) return error;
  return cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost);
}

/// Between arrays of the device, in the order of the stream.
EMULATED_API int emulated_copy(int device, void* to, const void* from, std::uint64_t bytes, std::uintptr_t stream) {
  const On on(device);
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(stream));
}

EMULATED_API int emulated_synchronize(int device) {
  const On on(device);
  return cudaDeviceSynchronize();
}

EMULATED_API int emulated_current_device() {
  int device = -1;
  cudaGetDevice(&device);
  return device;
}

EMULATED_API int emulated_set_device(int device) { return cudaSetDevice(device); }

EMULATED_API std::uintptr_t emulated_new_stream(int device) {
  const On on(device);
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  return reinterpret_cast<std::uintptr_t>(stream);
}

EMULATED_API int emulated_begin_capture(int device, std::uintptr_t stream) {
  const On on(device);
  return cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeGlobal);
}

/// The graph, or null where the capture was spoilt.
EMULATED_API void* emulated_end_capture(int device, std::uintptr_t stream) {
  const On on(device);
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(stream_of(stream), &graph) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  cudaGraphExec_t executable = nullptr;
  cudaGraphInstantiate(&executable, graph);
  cudaGraphDestroy(graph);
  return executable;
}

EMULATED_API int emulated_launch_graph(int device, void* graph, std::uintptr_t stream) {
  const On on(device);
  return cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(stream));
}

EMULATED_API void emulated_set_schedule(std::uint64_t seed) { emulated::set_schedule(seed); }

EMULATED_API void emulated_set_compute_capability(int device, int major, int minor) {
  emulated::set_compute_capability(device, major, minor);
}

EMULATED_API void emulated_forget_loaded_kernels() { emulated::forget_loaded_kernels(); }

EMULATED_API void emulated_set_driver(int version) { tokendraw::cuda::emulated_driver = version; }

/// What was wrong with a kernel since the last call, or "".
EMULATED_API const char* emulated_take_report() {
  report = emulated::take_report();
  return report.c_str();
}

EMULATED_API void emulated_counts(std::uint64_t* launches, std::uint64_t* allocations, std::uint64_t* waits) {
  const emulated::Counts counts = emulated::counts();
  *launches = counts.launches;
  *allocations = counts.allocations;
  *waits = counts.synchronisations;
}
