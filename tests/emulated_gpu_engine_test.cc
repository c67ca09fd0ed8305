// SPDX-License-Identifier: MIT
// The GPU engine's kernels on a CPU (cuda_on_cpu/). test_gpu_engine.py builds and runs it.
#include "cc/engine/gpu_recurrence.cuh"
#include "tests/engine_test.h"
#include "tests/host_array.h"

using namespace tf_plr;

namespace {

struct EmulatedGpuEngine {
  static constexpr const char* kName = "GPU engine on a CPU";
  using Half = gpu::Half;
  using BFloat16 = gpu::BFloat16;
  template <typename T>
  using Array = HostArray<T>;

  template <typename Cell, typename Element>
  static void Run(const Problem& problem, const Arrays<Cell, Element>& arrays,
                  Algorithm algorithm) {
    const size_t words = gpu::WorkspaceBytes(problem, arrays, algorithm) / sizeof(uint4);
    std::vector<uint4> workspace(words, uint4{1, 1, 1, 1});
    gpu::Run(problem, arrays, algorithm, workspace.data(), nullptr);
  }
};

}  // namespace

int main() {
  int failed = 0;
  for (int multiprocessors : {1, 200}) {  // Large tiles, many tiles.
    cuda_on_cpu::multiprocessors = multiprocessors;
    failed += TestEngine<EmulatedGpuEngine, Eigen::half, Eigen::bfloat16>();
  }
  return failed;
}
