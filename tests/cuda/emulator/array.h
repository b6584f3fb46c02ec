// SPDX-License-Identifier: Apache-2.0
// Memory of the emulated device as a test's value.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "check.h"

namespace tokendraw::test {

/// Memory of the device that a test fills and reads.
template <class T>
class Array {
 public:
  explicit Array(std::size_t size) : size_(size) {
    CHECK_EQUAL(static_cast<int>(cudaMalloc(&data_, size * sizeof(T))), 0);
  }
  explicit Array(const std::vector<T>& values) : Array(values.size()) { set(values); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cudaFree(data_); }

  T* get() const { return data_; }
  void set(const std::vector<T>& values) {
    cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  }
  std::vector<T> values() const {
    std::vector<T> copied(size_);
    CHECK_EQUAL(static_cast<int>(cudaMemcpy(copied.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost)), 0);
    return copied;
  }
  T last() const { return values().back(); }

 private:
  T* data_ = nullptr;
  std::size_t size_;
};

}  // namespace tokendraw::test
