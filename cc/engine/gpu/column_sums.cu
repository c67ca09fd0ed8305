// SPDX-License-Identifier: MIT
#include <cstring>

#include "cc/engine/column_sums.h"
#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/run.cuh"
#include "cc/engine/gpu/warp.cuh"

namespace tf_plr {
namespace gpu {

constexpr int kSumWarps = 8;

template <typename T>
struct SumParams {
  const T* matrix;
  int64_t rows, width, stride, chunk_rows, chunks;
  float *partial, *sums;
};

// A block sums one chunk of rows over kWarp columns, one per lane. Its warps take rows in turn.
template <typename T>
__global__ void __launch_bounds__(kSumWarps* kWarp)
    SumChunks(const __grid_constant__ SumParams<T> p) {
  extern __shared__ __align__(16) char shared[];
  auto& of_warp = *reinterpret_cast<float (*)[kSumWarps][kWarp]>(shared);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t column = int64_t{blockIdx.x} * kWarp + lane, chunk = blockIdx.y;
  const int64_t end = min((chunk + 1) * p.chunk_rows, p.rows);
  float sum = 0;
  if (column < p.width) {
#pragma unroll 8
    for (int64_t row = chunk * p.chunk_rows + warp; row < end; row += kSumWarps) {
      sum += static_cast<float>(p.matrix[row * p.stride + column]);
    }
  }
  of_warp[warp][lane] = sum;
  __syncthreads();  // Publishes the warps' sums.
  if (warp != 0 || column >= p.width) return;
#pragma unroll
  for (int i = 1; i < kSumWarps; ++i) sum += of_warp[i][lane];
  p.partial[chunk * p.width + column] = sum;
}

template <typename T>
__global__ void SumPartial(const __grid_constant__ SumParams<T> p) {
  const int64_t column = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (column >= p.width) return;
  float sum = 0;
#pragma unroll 8
  for (int64_t chunk = 0; chunk < p.chunks; ++chunk) sum += p.partial[chunk * p.width + column];
  p.sums[column] = sum;
}

template <typename T>
const char* Sum(const ColumnSums<T>& sums, void* workspace, void* stream) {
  using Stored = typename StorageOf<T>::type;
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  if (sums.width == 0) return nullptr;
  const SumParams<Stored> params{reinterpret_cast<const Stored*>(sums.matrix),
                                 sums.rows,
                                 sums.width,
                                 sums.stride,
                                 sums.chunk_rows(),
                                 sums.chunks(),
                                 static_cast<float*>(workspace),
                                 sums.sums};
  const int64_t groups = CeilDiv(sums.width, kWarp);
  cudaError_t error = cudaSuccess;
  if (params.chunks > 0) {
    error = LaunchKernel<SumChunks<Stored>>({Grid{groups, params.chunks}, kSumWarps * kWarp,
                                             kSumWarps * kWarp * sizeof(float), cuda_stream},
                                            params);
  }
  constexpr int kThreads = 128;
  if (error == cudaSuccess) {
    error = LaunchKernel<SumPartial<Stored>>(
        {CeilDiv(sums.width, kThreads), kThreads, 0, cuda_stream}, params);
  }
  return error == cudaSuccess ? nullptr : Explain(error);
}

#define TF_PLR_INSTANTIATE(type, element, ...) \
  template const char* Sum(const ColumnSums<element>&, void*, void*);
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE)
#undef TF_PLR_INSTANTIATE

}  // namespace gpu
}  // namespace tf_plr
