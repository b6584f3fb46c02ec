// SPDX-License-Identifier: Apache-2.0
// What this build is, and the private hooks of the tests.
#include <tuple>

#include "bindings/bind.h"
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
  info["cuda"] = false;
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

}  // namespace

void bind_info(py::module_& module) {
  module.attr("__version__") = TOKENDRAW_VERSION;
  module.def("build_info", &build_info, R"(What this build of tokendraw is and where it runs.

Returns
-------
dict
    version; isa (in use) and isas (all that this build holds and this processor runs; the environment's TOKENDRAW_ISA
    takes one); cuda (whether a CUDA backend is built in); threads (the default; TOKENDRAW_THREADS sets it); compiler.

Raises
------
ValueError
    If TOKENDRAW_ISA or TOKENDRAW_THREADS names what this machine does not have; every other call raises it too.

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
