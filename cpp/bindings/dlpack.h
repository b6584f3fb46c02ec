// SPDX-License-Identifier: Apache-2.0
// The binary interface of DLPack 1.3 (github.com/dmlc/dlpack), as far as arrays are exchanged here: layouts, codes and
// names only. Versioned tensors keep `version` to `flags` across major versions; legacy ones say no version at all.
#pragma once

#include <cstdint>

namespace tokendraw::bindings::dlpack {

inline constexpr std::uint32_t kMajorVersion = 1;
inline constexpr std::uint32_t kMinorVersion = 3;

inline constexpr char kLegacyName[] = "dltensor";
inline constexpr char kLegacyUsedName[] = "used_dltensor";
inline constexpr char kVersionedName[] = "dltensor_versioned";
inline constexpr char kVersionedUsedName[] = "used_dltensor_versioned";
inline constexpr char kExchangeName[] = "dlpack_exchange_api";

inline constexpr std::uint64_t kReadOnly = 1;
inline constexpr std::uint64_t kIsCopied = 2;

enum DeviceType : std::int32_t { kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13 };

enum TypeCode : std::uint8_t { kInt = 0, kUint = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

struct Device {
  std::int32_t type;  // a DeviceType, or a number this header does not know
  std::int32_t index;
};

struct DataType {
  std::uint8_t code;  // a TypeCode, or a number this header does not know
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null means row-major in producers older than 1.2
  std::uint64_t byte_offset;
};

struct LegacyTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(LegacyTensor*);
};

struct VersionedTensor {
  Version version;
  void* context;
  void (*deleter)(VersionedTensor*);
  std::uint64_t flags;
  Tensor tensor;
};

/// The table a producer's type carries as `__dlpack_c_exchange_api__`. Functions return 0, or -1 with a Python error
/// set; none of them synchronises a stream.
struct ExchangeTable {
  using SetError = void (*)(void* context, const char* kind, const char* message);

  Version version;
  ExchangeTable* previous;  // an older table, for consumers that do not know this major version
  int (*allocate)(Tensor* prototype, VersionedTensor** out, void* context, SetError set_error);
  int (*export_owned)(void* object, VersionedTensor** out);
  int (*import_owned)(VersionedTensor* tensor, void** object);
  int (*export_borrowed)(void* object, Tensor* out);  // may be null; `out` lives until control returns to Python
  int (*current_stream)(std::int32_t device_type, std::int32_t device_index, void** stream);
};

}  // namespace tokendraw::bindings::dlpack
