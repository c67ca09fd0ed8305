// SPDX-License-Identifier: MIT
// The CPU engine alone, for compilers and processors that the rest is not tested on. Build and run:
// make cpu-engine-test
#include <thread>

#include "Eigen/Core"
#include "cc/engine/cpu_recurrence.h"
#include "tests/engine_test.h"

using namespace tf_plr;

namespace {

struct CpuEngine {
  static constexpr const char* kName = "CPU engine";
  using Half = Eigen::half;
  using BFloat16 = Eigen::bfloat16;

  template <typename T>
  class Array {
   public:
    explicit Array(size_t size) : values_(size + shift) {}
    explicit Array(const std::vector<T>& values) : Array(values.size()) {
      std::copy(values.begin(), values.end(), data);
    }
    std::vector<T> Read() const { return {values_.begin() + shift, values_.end()}; }

   private:
    std::vector<T> values_;

   public:
    T* data = values_.data() + shift;
  };

  template <typename Cell, typename T>
  static void Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm) {
    const Workers workers{2, [](std::function<void()> work) { std::thread(work).detach(); }};
    cpu::Run(problem, arrays, algorithm, workers);
  }
};

}  // namespace

int main() { return TestEngine<CpuEngine, Eigen::half, Eigen::bfloat16>(); }
