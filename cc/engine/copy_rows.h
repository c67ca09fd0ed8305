// SPDX-License-Identifier: MIT
// Copies rows into the first columns of wider rows, filled up with zeros: what stands in front of
// the surrogate's outputs, so that one product takes both.
#ifndef TF_PLR_ENGINE_COPY_ROWS_H_
#define TF_PLR_ENGINE_COPY_ROWS_H_

#include <cstdint>

#include "cc/engine/cpu/workers.h"

namespace tf_plr {

// In bytes, multiples of 2: rows of `width`, one after the other, are copied to rows that are
// `stride` apart, and zeros are written behind each up to `filled`.
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
