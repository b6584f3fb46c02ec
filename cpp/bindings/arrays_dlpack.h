// SPDX-License-Identifier: Apache-2.0
// Arrays through DLPack: the producer's table of C functions, or a capsule from its `__dlpack__`.
#pragma once

#include "bindings/arrays.h"
#include "bindings/dlpack.h"

namespace tokendraw::bindings {

/// The table that `type` carries as `__dlpack_c_exchange_api__`, in a version this build knows, or null.
const dlpack::ExchangeTable* find_exchange_table(PyTypeObject* type);

/// The array behind `object`, whose type carries `table`. `borrow` allows a view that lives no longer than the call
/// and cannot tell read-only memory: half the price, and enough for reading.
ArrayView view_exchanged(py::handle object, const char* name, const dlpack::ExchangeTable& table, bool borrow);

/// The device that `object` says it is on, by its `__dlpack_device__`; type 0 where it has none.
dlpack::Device device_of(py::handle object, const char* name);

/// Whether `object` has a method `__dlpack__`, and the array that it gives.
bool has_dlpack(py::handle object);
ArrayView view_dlpack(py::handle object, const char* name);

}  // namespace tokendraw::bindings
