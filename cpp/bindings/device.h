// SPDX-License-Identifier: Apache-2.0
// Where a request runs: the module `_cuda`, imported with the first array on a device; what of a request must move
// there; and the call itself, which is the same sentence for the host.
#pragma once

#include <memory>
#include <vector>

#include "bindings/gil.h"
#include "bindings/requests.h"
#include "cpu/backend.h"
#include "cuda/module.h"

namespace tokendraw::bindings {

/// The module, if kernels run on the device; else throws RuntimeError with the reason.
cuda::Module& cuda_module(int device);

/// The module of this build, whatever the machine; null where it has none.
cuda::Module* any_cuda_module();

/// For `build_info`: whether this build has the module, which is not imported for it.
bool has_cuda_module();

/// Takes the module out of a capsule; None forgets it. For tests, which bring one of their own.
void set_cuda_module(const py::object& capsule);

/// The memory that this thread's calls use instead of their stream's; null for none.
void set_memory(std::shared_ptr<cuda::Memory> memory);
std::shared_ptr<cuda::Memory> memory_in_use();

/// A call on the device of the request's logits, whose arguments are there from now on. Needs no GIL.
class DeviceCall {
 public:
  /// `module` and `memory` were found while the GIL was held.
  DeviceCall(ParsedRequest& parsed, cuda::Module& module, cuda::Memory* memory);

  /// Copies one value per row to the device, if there are such and they are not there. T: double, int64_t or uint64_t.
  template <class T>
  void move(PerRow<T>& values, const char* name);

  cuda::Call& operator*() const { return *call_; }
  cuda::Call* operator->() const { return call_.get(); }

 private:
  std::unique_ptr<cuda::Call> call_;
};

/// valid [rows]
void mark_valid(const std::vector<RowStatus>& status, bool* valid);

/// work(backend, status, call): on the host's backend, `call` null, or on that of the device, to which the request's
/// arguments have been moved. Returns the statuses of the rows, or nothing where nobody waits for them. `valid` [rows],
/// at home: whether each row was, where somebody asks.
template <class Work>
std::vector<RowStatus> run_rows(ParsedRequest& parsed, bool* valid, const Work& work) {
  const auto rows = static_cast<std::size_t>(parsed.rows());
  std::vector<RowStatus> status;
  if (!parsed.home.cuda) {
    status.resize(rows);
    {
      const ReleasedGil released(parsed.rows() * parsed.vocab() >= kElementsWorthReleasing);
      work(cpu::backend(), status.data(), static_cast<DeviceCall*>(nullptr));
    }
    if (valid) mark_valid(status, valid);
    return status;
  }
  cuda::Module& module = cuda_module(parsed.home.device);
  const std::shared_ptr<cuda::Memory> memory = memory_in_use();
  const ReleasedGil released;
  DeviceCall call(parsed, module, memory.get());
  auto* on_device = static_cast<RowStatus*>(call->scratch(rows));
  work(call->backend(parsed.wide_tokens), on_device, &call);
  if (valid) call->mark_valid(on_device, parsed.rows(), valid);
  if (!parsed.raise_invalid) return status;
  status.resize(rows);
  call->read_back(status.data(), on_device, rows * sizeof(RowStatus));
  return status;
}

}  // namespace tokendraw::bindings
