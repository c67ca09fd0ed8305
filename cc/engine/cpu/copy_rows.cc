// SPDX-License-Identifier: MIT
#include "cc/engine/copy_rows.h"

#include <algorithm>
#include <cstring>

namespace tf_plr {
namespace cpu {

const char* Copy(const CopyRows& copy, const Workers& workers) {
  constexpr int64_t kTaskBytes = 256 << 10;
  const int64_t rows_of_task = std::max<int64_t>(1, kTaskBytes / std::max<int64_t>(1, copy.filled));
  const int64_t tasks = (copy.rows + rows_of_task - 1) / rows_of_task;
  RunTasks(workers, tasks, [&](int64_t task, int) {
    const int64_t end = std::min(copy.rows, (task + 1) * rows_of_task);
    for (int64_t row = task * rows_of_task; row < end; ++row) {
      char* const to = copy.to + row * copy.stride;
      std::memcpy(to, copy.from + row * copy.width, copy.width);
      std::memset(to + copy.width, 0, copy.filled - copy.width);
    }
  });
  return nullptr;
}

}  // namespace cpu
}  // namespace tf_plr
