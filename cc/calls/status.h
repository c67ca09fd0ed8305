// SPDX-License-Identifier: MIT
// What a call returns, and the checks that calls share.
#ifndef TF_PLR_CALLS_STATUS_H_
#define TF_PLR_CALLS_STATUS_H_

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#define TF_PLR_RETURN_IF_ERROR(expression)                      \
  if (::tf_plr::Status status_ = (expression); !status_.ok()) { \
    return status_;                                             \
  }

namespace tf_plr {

using Shape = std::vector<int64_t>;

struct Status {
  enum Code { kOk, kInvalidArgument, kResourceExhausted, kInternal };
  Code code = kOk;
  std::string message;

  bool ok() const { return code == kOk; }
};

inline std::string Text(const std::string& text) { return text; }
inline std::string Text(int64_t number) { return std::to_string(number); }
inline std::string Text(size_t number) { return std::to_string(number); }
inline std::string Text(float number) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", number);
  return text;
}
inline std::string Text(const Shape& shape) {
  std::string text;
  for (int64_t size : shape) text += (text.empty() ? "[" : ",") + std::to_string(size);
  return text.empty() ? "[]" : text + "]";
}

template <typename... Parts>
Status InvalidArgument(const Parts&... parts) {
  return {Status::kInvalidArgument, (std::string() + ... + Text(parts))};
}

// The elements of an array, 0 if any size is; -1 if no int64 holds their number.
inline int64_t CountElements(const Shape& shape) {
  int64_t count = 1;
  bool fits = true;
  for (int64_t size : shape) {
    if (size == 0) return 0;
    fits = fits && !__builtin_mul_overflow(count, size, &count);
  }
  return fits ? count : -1;
}

}  // namespace tf_plr

#endif  // TF_PLR_CALLS_STATUS_H_
