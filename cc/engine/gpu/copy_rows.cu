// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>

#include "cc/engine/copy_rows.h"
#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/run.cuh"

namespace tf_plr {
namespace gpu {
namespace {

// Each thread copies one Word per iteration.
template <typename Word>
__global__ void CopyWords(const __grid_constant__ CopyRows copy) {
  const int64_t width = copy.width / sizeof(Word), filled = copy.filled / sizeof(Word);
  const int64_t count = copy.rows * filled, threads = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += threads) {
    const int64_t row = Divide(i, filled), word = i - row * filled;
    const auto* from = reinterpret_cast<const Word*>(copy.from) + row * width + word;
    reinterpret_cast<Word*>(copy.to + row * copy.stride)[word] = word < width ? *from : Word{};
  }
}

template <typename Word>
cudaError_t LaunchCopy(const CopyRows& copy, cudaStream_t stream) {
  constexpr int kThreads = 256, kMaxBlocks = 4096;
  const int64_t words = copy.rows * copy.filled / static_cast<int64_t>(sizeof(Word));
  if (words == 0) return cudaSuccess;
  const int64_t blocks = std::min<int64_t>(CeilDiv(words, kThreads), kMaxBlocks);
  return LaunchKernel<CopyWords<Word>>({blocks, kThreads, 0, stream}, copy);
}

}  // namespace

const char* Copy(const CopyRows& copy, void* stream) {
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  const auto bits = static_cast<uintptr_t>(copy.width | copy.filled | copy.stride) |
                    reinterpret_cast<uintptr_t>(copy.from) | reinterpret_cast<uintptr_t>(copy.to);
  const cudaError_t error = bits % sizeof(uint4) == 0 ? LaunchCopy<uint4>(copy, cuda_stream)
                            : bits % sizeof(uint32_t) == 0
                                ? LaunchCopy<uint32_t>(copy, cuda_stream)
                                : LaunchCopy<uint16_t>(copy, cuda_stream);
  return error == cudaSuccess ? nullptr : Explain(error);
}

}  // namespace gpu
}  // namespace tf_plr
