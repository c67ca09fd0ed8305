// SPDX-License-Identifier: MIT
// The CPU engine alone, for compilers and processors that the rest is not tested on. Build and run:
// make cpu-engine-test
#include <random>
#include <thread>

#include "Eigen/Core"
#include "cc/engine/cpu/run.h"
#include "tests/engine/broadcast_engine_test.h"
#include "tests/engine/engine_test.h"
#include "tests/engine/gated_engine_test.h"
#include "tests/engine/host_array.h"
#include "tests/engine/row_passes_test.h"

using namespace tf_plr;

namespace {

struct CpuEngine {
  static constexpr bool kHasFixedCells = false;
  static constexpr bool kSumsGradients = false;
  static constexpr const char* kName = "CPU engine";
  using Half = Eigen::half;
  using BFloat16 = Eigen::bfloat16;

  template <typename T>
  using Array = HostArray<T>;

  template <typename Cell, typename T>
  static void Run(const Problem& problem, const Arrays<Cell, T>& arrays, Algorithm algorithm) {
    Check(cpu::Run(problem, arrays, algorithm, Threads()));
  }

  template <typename Cell, typename T, typename A>
  static void Reduce(const Problem& problem, const Arrays<Cell, T>& arrays,
                     const ColumnTransitions<A>& transitions) {
    Check(cpu::Reduce(problem, arrays, transitions, Threads()));
  }

  static void Copy(const CopyRows& copy) { cpu::Copy(copy, Threads()); }
  template <typename T>
  static void Sum(const ColumnSums<T>& sums) {
    Check(cpu::Sum(sums, Threads()));
  }
  template <typename T>
  static void Hold(const HeldRows<T>& rows) {
    cpu::Hold(rows, Threads());
  }
  template <typename T>
  static void SumHeld(const HeldRows<T>& rows) {
    Check(cpu::SumHeld(rows, Threads()));
  }
  template <typename T>
  static void ToWindows(const CausalWindows<T>& windows) {
    cpu::ToWindows(windows, Threads());
  }
  template <typename T>
  static void FromWindows(const CausalWindows<T>& windows) {
    Check(cpu::FromWindows(windows, Threads()));
  }
  template <typename T>
  static void Normalize(const LayerNormalization<T>& rows) {
    Check(cpu::Normalize(rows, Threads()));
  }
  template <typename T>
  static void Differentiate(const BroadcastGradient<T>& gradient, void* workspace) {
    Check(cpu::Differentiate(gradient, workspace, Threads()));
  }
  template <typename T>
  static void DifferentiateNormalization(const LayerNormalizationGradient<T>& rows) {
    Check(cpu::DifferentiateNormalization(rows, Threads()));
  }

  // Pools of 0 to 3 threads; an embedder of XLA may have 0.
  static Workers Threads() {
    static std::mt19937 random(1);
    return {static_cast<int>(random() % 4),
            [](std::function<void()> work) { std::thread(std::move(work)).detach(); }};
  }
  static void Check(const char* error) {
    if (error == nullptr) return;
    std::printf("%s\n", error);
    ++failures;
  }
};

}  // namespace

int main() {
  return TestEngine<CpuEngine, Eigen::half, Eigen::bfloat16>() |
         TestBroadcastEngine<CpuEngine, Eigen::half, Eigen::bfloat16>() |
         TestGatedEngine<CpuEngine, Eigen::half, Eigen::bfloat16>() |
         TestRowPasses<CpuEngine, Eigen::half, Eigen::bfloat16>();
}
