// SPDX-License-Identifier: MIT
// The CPU engine alone, for compilers and processors that the rest is not tested on. Build and run:
// make cpu-engine-test
#include <thread>

#include "Eigen/Core"
#include "cc/engine/cpu/run.h"
#include "tests/engine_test.h"
#include "tests/gated_engine_test.h"
#include "tests/host_array.h"

using namespace tf_plr;

namespace {

struct CpuEngine {
  static constexpr const char* kName = "CPU engine";
  using Half = Eigen::half;
  using BFloat16 = Eigen::bfloat16;

  template <typename T>
  using Array = HostArray<T>;

  template <typename Cell, typename T>
  static void Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm) {
    const Workers workers{2, [](std::function<void()> work) { std::thread(work).detach(); }};
    if (const char* error = cpu::Run(problem, arrays, algorithm, workers)) {
      std::printf("Run: %s\n", error);
      ++failures;
    }
  }
};

}  // namespace

int main() {
  return TestEngine<CpuEngine, Eigen::half, Eigen::bfloat16>() |
         TestGatedEngine<CpuEngine, Eigen::half, Eigen::bfloat16>();
}
