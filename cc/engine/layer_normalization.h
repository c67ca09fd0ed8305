// SPDX-License-Identifier: MIT
// Layer normalisation of the rows of a matrix, and its gradient.
#ifndef TF_PLR_ENGINE_LAYER_NORMALIZATION_H_
#define TF_PLR_ENGINE_LAYER_NORMALIZATION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cc/engine/cpu/workers.h"
#include "cc/engine/types.h"

namespace tf_plr {

// For each row x of `width` elements, 1 or more, with mean m and variance v:
//
//   deviation = sqrt(v + epsilon),   n = (x - m) / deviation,   output = scale n + bias
//
// Sums are float, whatever T is.
template <typename T>
struct LayerNormalization {
  const T* inputs;     // [rows, width]
  const float* scale;  // [width]
  const float* bias;   // [width]; null: zeros.
  int64_t rows, width;
  float epsilon;
  T* outputs;         // [rows, width]
  float* statistics;  // [rows, 2]: m and 1 / deviation.
};

// With g = scale d_output, and means over the row:
//
//   d_input = (g - mean(g) - n mean(g n)) / deviation,
//   d_scale = sum over rows of d_output n,   d_bias = sum over rows of d_output
//
// Here, the rows of each chunk are summed, in a fixed order; the caller sums the chunks.
template <typename T>
struct LayerNormalizationGradient {
  const T *inputs, *d_outputs;      // [rows, width]
  const float *scale, *statistics;  // As above.
  int64_t rows, width;
  T* d_inputs;      // [rows, width]
  float* d_scales;  // [chunks, width]
  float* d_biases;  // [chunks, width]; null: not wanted.

  static constexpr int64_t kMinChunkRows = 16, kMaxChunks = 2048;
  static constexpr int64_t ChunkRows(int64_t rows) {
    return std::max(kMinChunkRows, (rows + kMaxChunks - 1) / kMaxChunks);
  }
  static constexpr int64_t Chunks(int64_t rows) {
    return (rows + ChunkRows(rows) - 1) / ChunkRows(rows);
  }
};

namespace cpu {
// Half, BFloat16 or float. Each returns null, or what went wrong.
template <typename T>
const char* Normalize(const LayerNormalization<T>& rows, const Workers& workers);
template <typename T>
const char* DifferentiateNormalization(const LayerNormalizationGradient<T>& rows,
                                       const Workers& workers);
}  // namespace cpu

namespace gpu {
// Half, BFloat16 or float; on a cudaStream_t. Each returns null, or what went wrong.
template <typename T>
const char* Normalize(const LayerNormalization<T>& rows, void* stream);
template <typename T>
const char* DifferentiateNormalization(const LayerNormalizationGradient<T>& rows, void* stream);
}  // namespace gpu

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_LAYER_NORMALIZATION_H_
