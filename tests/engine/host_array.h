// SPDX-License-Identifier: MIT
#ifndef TF_PLR_TESTS_ENGINE_HOST_ARRAY_H_
#define TF_PLR_TESTS_ENGINE_HOST_ARRAY_H_

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/engine/engine_test.h"

namespace tf_plr {

// Memory of an engine that runs on the host.
template <typename T>
class HostArray {
 public:
  // Makes elements that are not written visible: all bits set is NaN.
  explicit HostArray(size_t size) : shift_(NextShift()), values_(size + shift_) {
    if (!values_.empty()) {
      std::memset(static_cast<void*>(values_.data()), 0xFF, values_.size() * sizeof(T));
    }
  }
  explicit HostArray(const std::vector<T>& values) : HostArray(values.size()) {
    std::copy(values.begin(), values.end(), data);
  }
  std::vector<T> Read() const { return {values_.begin() + shift_, values_.end()}; }

 private:
  const int shift_;
  std::vector<T> values_;

 public:
  T* const data = values_.data() + shift_;
};

}  // namespace tf_plr

#endif  // TF_PLR_TESTS_ENGINE_HOST_ARRAY_H_
