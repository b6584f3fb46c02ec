// SPDX-License-Identifier: Apache-2.0
#include "bindings/device.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "bindings/values.h"

namespace tokendraw::bindings {
namespace {

constexpr char kModule[] = "tokendraw._cuda";

std::atomic<cuda::Module*> found_module{nullptr};

thread_local std::shared_ptr<cuda::Memory> thread_memory;

cuda::Module& module_in(const py::object& capsule) {
  auto* module = static_cast<cuda::Module*>(PyCapsule_GetPointer(capsule.ptr(), cuda::kModuleName));
  if (module == nullptr) throw py::error_already_set();
  if (module->version != cuda::kModuleVersion || module->request_bytes != sizeof(Request) ||
      std::string(module->package_version) != TOKENDRAW_VERSION) {
    throw std::runtime_error("tokendraw._cuda is of another build than tokendraw._core: install tokendraw again");
  }
  return *module;
}

/// The module of this build; null where it has none.
cuda::Module* find_module() {
  if (cuda::Module* module = found_module.load()) return module;
  if (!has_cuda_module()) return nullptr;
  cuda::Module& module = module_in(py::module_::import(kModule).attr("module"));
  found_module.store(&module);
  return &module;
}

template <class T>
constexpr Dtype kDtypeOf = std::is_same_v<T, double>         ? Dtype::kFloat64
                           : std::is_same_v<T, std::int64_t> ? Dtype::kInt64
                                                             : Dtype::kUint64;

}  // namespace

bool has_cuda_module() {
  if (found_module.load() != nullptr) return true;
  const py::object spec = py::module_::import("importlib.util").attr("find_spec")(kModule);
  return !spec.is_none();
}

cuda::Module& cuda_module(int device) {
  cuda::Module* module = find_module();
  if (module == nullptr) {
    throw std::runtime_error("logits are on CUDA device " + std::to_string(device) +
                             ", and this build of tokendraw is without CUDA: build it with TOKENDRAW_CUDA=ON "
                             "(docs/cuda.md), or copy them to the host");
  }
  const std::string problem = module->problem_of(device);
  if (!problem.empty()) {
    throw std::runtime_error("logits are on CUDA device " + std::to_string(device) + ", but " + problem);
  }
  return *module;
}

cuda::Module* any_cuda_module() { return find_module(); }

void set_cuda_module(const py::object& capsule) {
  found_module.store(capsule.is_none() ? nullptr : &module_in(capsule));
}

void set_memory(std::shared_ptr<cuda::Memory> memory) { thread_memory = std::move(memory); }

std::shared_ptr<cuda::Memory> memory_in_use() { return thread_memory; }

void mark_valid(const std::vector<RowStatus>& status, bool* valid) {
  std::transform(status.begin(), status.end(), valid, [](RowStatus row) { return row == RowStatus::kValid; });
}

DeviceCall::DeviceCall(ParsedRequest& parsed, cuda::Module& module, cuda::Memory* memory) {
  const Home& home = parsed.home;
  if (memory != nullptr && memory->device() != home.device) {
    throw std::runtime_error("the workspace in use is on CUDA device " + std::to_string(memory->device()) +
                             ", and logits are on CUDA device " + std::to_string(home.device));
  }
  call_ = module.call(home.device, home.stream, memory);
  if (parsed.raise_invalid && call_->is_captured()) {
    throw std::runtime_error("on_invalid must be \"mark\" while a graph is captured, got \"raise\", which waits");
  }
  FilterParams& params = parsed.request.params;
  move(params.temperature, "temperature");
  move(params.top_k, "top_k");
  move(params.top_p, "top_p");
  move(params.min_p, "min_p");
  Randomness& randomness = parsed.request.randomness;
  move(randomness.seed, "seed");
  move(randomness.stream, "stream");
  move(randomness.step, "step");
  for (const HostEdit& edit : parsed.host_edits) *edit.data = call_->copied(*edit.data, edit.bytes, edit.name);
}

template <class T>
void DeviceCall::move(PerRow<T>& values, const char* name) {
  if (values.values == nullptr) return;
  const auto bytes = static_cast<std::size_t>(values.count) * sizeof(T);
  values.device = {call_->copied(values.values, bytes, name), kDtypeOf<T>};
  values.values = nullptr;
  values.count = 1;
}

template void DeviceCall::move(PerRow<double>&, const char*);
template void DeviceCall::move(PerRow<std::int64_t>&, const char*);
template void DeviceCall::move(PerRow<std::uint64_t>&, const char*);

}  // namespace tokendraw::bindings
