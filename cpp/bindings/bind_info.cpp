// SPDX-License-Identifier: Apache-2.0
// What this build is, and the private hooks of the tests.
#include <tuple>

#include "bindings/bind.h"
#include "bindings/calls.h"
#include "bindings/device.h"
#include "bindings/values.h"
#include "core/philox.h"
#include "cpu/isa.h"
#include "cpu/threads.h"

namespace tokendraw::bindings {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "gcc " __VERSION__;
#endif

py::dict build_info() {
  py::tuple isas(cpu::supported_isas().size());
  for (std::size_t i = 0; i < isas.size(); ++i) isas[i] = cpu::supported_isas()[i].name;
  py::dict info;
  info["version"] = TOKENDRAW_VERSION;
  info["isa"] = cpu::active_isa().name;
  info["isas"] = isas;
  info["cuda"] = has_cuda_module();
  info["threads"] = cpu::default_threads();
  info["compiler"] = kCompiler;
  return info;
}

using Word = std::uint32_t;

std::tuple<Word, Word, Word, Word> philox(std::tuple<Word, Word, Word, Word> counter, std::tuple<Word, Word> key) {
  const auto [c0, c1, c2, c3] = counter;
  const PhiloxBlock block = philox4x32_10({{c0, c1, c2, c3}}, std::get<0>(key), std::get<1>(key));
  return {block.word[0], block.word[1], block.word[2], block.word[3]};
}

const Signature kGetThreads{"get_num_threads", {}, 0};
const Signature kSetThreads{"set_num_threads", {kKeyThreads}, 0};

PyObject* get_num_threads(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kGetThreads,
                   [](const Arguments&) -> py::object { return py::int_(cpu::default_threads()); });
}

PyObject* set_num_threads(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kSetThreads, [](const Arguments& arguments) -> py::object {
    const py::handle threads = arguments[kKeyThreads];
    cpu::set_default_threads(threads ? parse_threads(threads) : 0);
    return py::none();
  });
}

constexpr const char* kGetThreadsDoc = R"(get_num_threads()
--

The number of threads that a call without ``threads=`` may use.

Returns
-------
int
    What `set_num_threads` set, else the environment's TOKENDRAW_THREADS, else the processors this process may use.

Raises
------
ValueError
    If TOKENDRAW_THREADS is no integer >= 1.

Examples
--------
>>> import tokendraw as td
>>> td.get_num_threads() >= 1
True
)";

constexpr const char* kSetThreadsDoc = R"(set_num_threads(threads)
--

Set the number of threads that calls without ``threads=`` may use, in the whole process.

Parameters
----------
threads : int or None
    At least 1; above 1024 means 1024. None returns to TOKENDRAW_THREADS, or to the processors.

Notes
-----
An upper bound: small batches use fewer, and so does a call while the threads are at work for others. Tokens never
depend on it. Threads sleep between calls, and a forked child makes its own.

Examples
--------
>>> import tokendraw as td
>>> td.set_num_threads(2)
>>> td.get_num_threads()
2
>>> td.set_num_threads(None)
)";

}  // namespace

void bind_info(py::module_& module) {
  static PyMethodDef functions[] = {
      fast_method("get_num_threads", get_num_threads, kGetThreadsDoc),
      fast_method("set_num_threads", set_num_threads, kSetThreadsDoc),
      {nullptr, nullptr, 0, nullptr},
  };
  add_functions(module, functions);
  module.attr("__version__") = TOKENDRAW_VERSION;
  module.def("build_info", &build_info, R"(What this build of tokendraw is and where it runs.

Returns
-------
dict
    version; isa (in use) and isas (all that this build holds and this processor runs; the environment's TOKENDRAW_ISA
    takes one); cuda (whether a CUDA backend is built in); threads (what get_num_threads says); compiler.

Raises
------
ValueError
    If TOKENDRAW_ISA or TOKENDRAW_THREADS names what this machine does not have; every call that needs it raises it too.

Examples
--------
>>> import tokendraw as td
>>> info = td.build_info()
>>> info["isa"] in info["isas"]
True
)");
  module.def("_set_isa", &cpu::select_isa, py::arg("name"));
  module.def("_philox", &philox, py::arg("counter"), py::arg("key"));
}

}  // namespace tokendraw::bindings
