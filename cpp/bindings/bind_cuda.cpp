// SPDX-License-Identifier: Apache-2.0
// What tokendraw.cuda asks of the core: whether there is a device, memory of the caller's own, readiness for capture.
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "bindings/bind.h"
#include "bindings/device.h"

namespace tokendraw::bindings {
namespace {

/// Why nothing runs on the device; empty where kernels do.
std::string problem_of(int device) {
  cuda::Module* module = any_cuda_module();
  return module ? module->problem_of(device) : "this build of tokendraw is without CUDA";
}

std::shared_ptr<cuda::Memory> new_memory(int device) {
  const std::string problem = problem_of(device);
  if (!problem.empty()) throw std::runtime_error("a workspace must be on a CUDA device, but " + problem);
  return any_cuda_module()->new_memory(device);
}

std::shared_ptr<cuda::Memory> swap_memory(std::shared_ptr<cuda::Memory> memory) {
  std::shared_ptr<cuda::Memory> before = memory_in_use();
  set_memory(std::move(memory));
  return before;
}

/// The device of an array.
int device_of_logits(py::handle logits) {
  const Home home = home_of(logits, view_array(logits, "logits"));
  if (!home.cuda) throw py::value_error("logits must be on a CUDA device, got an array in host memory");
  return home.device;
}

void set_warm(py::handle logits) {
  const Home home = home_of(logits, view_array(logits, "logits"));
  cuda_module(home.device).set_warm(home.device, home.stream);
}

}  // namespace

void bind_cuda(py::module_& module) {
  py::class_<cuda::Memory, std::shared_ptr<cuda::Memory>>(module, "_CudaMemory", "Memory of a CUDA device.",
                                                          py::is_final(),
                                                          py::metaclass(reinterpret_cast<PyObject*>(&PyType_Type)))
      .def(py::init(&new_memory), py::arg("device"))
      .def_property_readonly("device", &cuda::Memory::device)
      .def_property_readonly("bytes", &cuda::Memory::bytes);
  module.def("_swap_cuda_memory", &swap_memory, py::arg("memory").none(true));
  module.def("_cuda_problem", &problem_of, py::arg("device"));
  module.def("_cuda_device_of", &device_of_logits, py::arg("logits"));
  module.def("_set_cuda_warm", &set_warm, py::arg("logits"));
  module.def("_use_cuda", &set_cuda_module, py::arg("capsule").none(true),
             "Private, for tests: takes a module's capsule for that of tokendraw._cuda, or None.");
}

}  // namespace tokendraw::bindings
