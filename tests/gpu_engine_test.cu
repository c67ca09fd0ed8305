// SPDX-License-Identifier: MIT
// The GPU engine alone. Build and run: make gpu-sanitize
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdlib>

#include "cc/engine/gpu_recurrence.h"
#include "tests/engine_test.h"

using namespace tf_plr;

namespace {

void Check(cudaError_t error) {
  if (error != cudaSuccess) {
    std::printf("CUDA: %s\n", cudaGetErrorString(error));
    std::exit(2);
  }
}

struct GpuEngine {
  static constexpr const char* kName = "GPU engine";
  using Half = gpu::Half;
  using BFloat16 = gpu::BFloat16;

  // A device array that remembers its size.
  template <typename T>
  struct Array {
    explicit Array(size_t size) : size(size) {
      const int shift = NextShift();
      Check(cudaMalloc(&allocated, (size + shift) * sizeof(T)));
      data = allocated + shift;
    }
    explicit Array(const std::vector<T>& values) : Array(values.size()) {
      Check(cudaMemcpy(data, values.data(), size * sizeof(T), cudaMemcpyHostToDevice));
    }
    Array(const Array&) = delete;
    ~Array() { cudaFree(allocated); }
    std::vector<T> Read() const {
      std::vector<T> values(size);
      Check(cudaMemcpy(values.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost));
      return values;
    }
    T *data = nullptr, *allocated = nullptr;
    size_t size;
  };

  template <typename Cell, typename Element>
  static void Run(const Problem& problem, const Arrays<Cell, Element>& arrays,
                  Algorithm algorithm) {
    const size_t bytes = gpu::WorkspaceBytes(problem, arrays, algorithm);
    void* workspace;
    Check(cudaMalloc(&workspace, bytes + 1));
    Check(cudaMemset(workspace, 0xAB, bytes + 1));
    if (const char* error = gpu::Run(problem, arrays, algorithm, workspace, nullptr)) {
      std::printf("Run: %s\n", error);
      ++failures;
    }
    Check(cudaDeviceSynchronize());
    Check(cudaFree(workspace));
  }
};

}  // namespace

int main() { return TestEngine<GpuEngine, __half, __nv_bfloat16>(); }
