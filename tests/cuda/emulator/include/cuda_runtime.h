// SPDX-License-Identifier: Apache-2.0
// What <cuda_runtime.h> is where kernels are compiled for the host. Found by the include path, before NVIDIA's.
#pragma once

#if defined(__CUDACC__) || !defined(TOKENDRAW_CUDA_EMULATED)
#error "the emulator's <cuda_runtime.h> is for the host compiler, with -DTOKENDRAW_CUDA_EMULATED"
#endif

#include "../device.h"
#include "../runtime.h"
