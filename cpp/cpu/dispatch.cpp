// SPDX-License-Identifier: Apache-2.0
// Which instruction set runs: chosen once from what the processor offers, or by name.
#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tokendraw::cpu {
namespace {

#if defined(__x86_64__)
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// __builtin_cpu_supports also asks the operating system whether it saves the wide registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

std::vector<Isa> find_isas() {
  std::vector<Isa> isas{{"scalar", &kScalarKernels}};
#if defined(__x86_64__)
  if (has_avx2()) isas.push_back({"avx2", &kAvx2Kernels});
  if (has_avx512()) isas.push_back({"avx512", &kAvx512Kernels});
#elif defined(__aarch64__)
  isas.push_back({"neon", &kNeonKernels});  // part of the architecture: nothing to ask
#endif
  return isas;
}

const Isa& named_isa(const std::string& name) {
  std::string known;
  for (const Isa& isa : supported_isas()) {
    if (name == isa.name) return isa;
    known += (known.empty() ? "" : ", ") + std::string(isa.name);
  }
  throw std::invalid_argument("TOKENDRAW_ISA must be one of " + known + " on this machine, got " + name);
}

const Isa& initial_isa() {
  const char* name = std::getenv("TOKENDRAW_ISA");
  return name ? named_isa(name) : supported_isas().back();
}

// Read on first use and not on import, so that a command can report a wrong name in one line.
std::atomic<const Isa*>& active() {
  static std::atomic<const Isa*> isa{&initial_isa()};
  return isa;
}

}  // namespace

const std::vector<Isa>& supported_isas() {
  // Never destroyed: threads may still be at work while the process ends.
  static const auto* isas = new std::vector<Isa>(find_isas());
  return *isas;
}

const Isa& active_isa() { return *active().load(std::memory_order_relaxed); }

void select_isa(const std::string& name) { active().store(&named_isa(name), std::memory_order_relaxed); }

}  // namespace tokendraw::cpu
