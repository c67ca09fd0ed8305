// SPDX-License-Identifier: MIT
#include "cc/engine/column_sums.h"

#include <algorithm>
#include <memory>
#include <new>

#include "cc/engine/cpu/add_row.h"
#include "cc/engine/cpu/half_precision.h"
#include "cc/engine/cpu/processor.h"

namespace tf_plr {
namespace cpu {

template <typename T>
const char* Sum(const ColumnSums<T>& sums, const Workers& workers) {
  const int64_t width = sums.width, chunks = sums.chunks();
  const std::unique_ptr<float[]> partial(new (std::nothrow) float[chunks * width]());
  if (partial == nullptr) return "the CPU engine could not allocate the sums of its chunks";
  RunTasks(workers, chunks, [&](int64_t chunk, int) noexcept {
    const int64_t begin = chunk * sums.chunk_rows();
    const int64_t end = std::min(begin + sums.chunk_rows(), sums.rows);
    DispatchSimd([&](auto register_bytes) TF_PLR_INLINE_LAMBDA {
      for (int64_t row = begin; row < end; ++row) {
        AddRow<register_bytes>(sums.matrix + row * sums.stride, width,
                               partial.get() + chunk * width);
      }
    });
  });
  std::fill_n(sums.sums, width, 0.0f);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (int64_t i = 0; i < width; ++i) sums.sums[i] += partial[chunk * width + i];
  }
  return nullptr;
}

#define TF_PLR_INSTANTIATE(type, element, ...) \
  template const char* Sum(const ColumnSums<element>&, const Workers&);
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE)
#undef TF_PLR_INSTANTIATE

}  // namespace cpu
}  // namespace tf_plr
