// SPDX-License-Identifier: MIT
// The buffers of a custom call, checked against what they must be.
#ifndef TF_PLR_XLA_BUFFERS_H_
#define TF_PLR_XLA_BUFFERS_H_

#include <cstdint>
#include <type_traits>
#include <vector>

#include "cc/xla/platforms.h"

namespace tf_plr {

constexpr char kWrongBuffers[] =
    "operands or results are too many, too few or too small, or of another dtype";

// The least elements of a buffer, and of which type.
struct Expected {
  int64_t elements;
  ffi::DataType type;
};

// Appends the buffers; false if they are not as expected, which only a call that somebody wrote by
// hand can be.
template <typename Buffers>
bool Take(const Buffers& buffers, const std::vector<Expected>& expected, size_t others,
          std::vector<void*>* data) {
  if (buffers.size() != expected.size() + others) return false;
  for (size_t i = 0; i < expected.size(); ++i) {
    auto buffer = buffers.template get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return false;
    const ffi::AnyBuffer* array;
    if constexpr (std::is_same_v<Buffers, ffi::RemainingRets>) {
      array = &**buffer;
    } else {
      array = &*buffer;
    }
    if (array->element_type() != expected[i].type ||
        static_cast<int64_t>(array->element_count()) < expected[i].elements) {
      return false;
    }
    data->push_back(array->untyped_data());
  }
  return true;
}

}  // namespace tf_plr

#endif  // TF_PLR_XLA_BUFFERS_H_
