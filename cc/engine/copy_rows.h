// SPDX-License-Identifier: MIT
// Copies rows into the first columns of wider rows, and pads them with zeros. The surrogate's op
// puts its prefix in front of its outputs this way, so that one matrix product takes both.
#ifndef TF_PLR_ENGINE_COPY_ROWS_H_
#define TF_PLR_ENGINE_COPY_ROWS_H_

#include <cstdint>

#include "cc/engine/cpu/workers.h"

namespace tf_plr {

// All sizes are in bytes, multiples of 2. The source rows are contiguous, `width` bytes each. The
// target rows are `stride` bytes apart; zeros fill each of them from `width` up to `filled`.
struct CopyRows {
  const char* from;
  char* to;
  int64_t rows, width, filled, stride;
};

// Each returns null, or what went wrong.
namespace cpu {
const char* Copy(const CopyRows& copy, const Workers& workers);
}
namespace gpu {
// On a cudaStream_t.
const char* Copy(const CopyRows& copy, void* stream);
}  // namespace gpu

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_COPY_ROWS_H_
