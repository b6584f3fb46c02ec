// SPDX-License-Identifier: Apache-2.0
#include "cuda/driver.h"

#include <dlfcn.h>

namespace tokendraw::cuda {

int driver_version() {
  static const int version = [] {
    // Never closed: the runtime opens the same library, and keeps it.
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return 0;
    const auto ask = reinterpret_cast<int (*)(int*)>(dlsym(library, "cuDriverGetVersion"));
    int found = 0;
    return ask != nullptr && ask(&found) == 0 ? found : 0;
  }();
  return version;
}

}  // namespace tokendraw::cuda
