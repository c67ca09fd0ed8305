// SPDX-License-Identifier: MIT
// The GPU engine's kernels on a CPU (cuda_on_cpu/). test_gpu_engine.py builds and runs it.
#include <sys/mman.h>

#include "cc/engine/gpu/broadcast_gradient.cu"
#include "cc/engine/gpu/causal_windows.cu"
#include "cc/engine/gpu/column_sums.cu"
#include "cc/engine/gpu/copy_rows.cu"
#include "cc/engine/gpu/held_rows.cu"
#include "cc/engine/gpu/layer_normalization.cu"
#include "cc/engine/gpu/run.cuh"
#include "tests/engine/broadcast_engine_test.h"
#include "tests/engine/engine_test.h"
#include "tests/engine/gated_engine_test.h"
#include "tests/engine/host_array.h"
#include "tests/engine/row_passes_test.h"

using namespace tf_plr;

namespace {

struct EmulatedGpuEngine {
  static constexpr bool kHasFixedCells = true;
  static constexpr bool kSumsGradients = true;
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
    int64_t d_bias_width = 0;
    if constexpr (Cell::kGated) {
      if (arrays.gated.d_bias != nullptr) d_bias_width = arrays.gated.d_bias_width;
    }
    const size_t most = gpu::MaxWorkspaceBytes<Cell, Element>(problem, algorithm, d_bias_width);
    if (words * sizeof(uint4) > most) {
      std::printf("More workspace than the most: %lld x %lld x %lld\n", (long long)problem.outer,
                  (long long)problem.steps, (long long)problem.inner);
      ++failures;
    }
    const gpu::Workspace given{workspace.data(), words * sizeof(uint4)};
    Check(gpu::Run(problem, arrays, algorithm, given, nullptr));
  }

  template <typename Cell, typename Element, typename A>
  static void Reduce(const Problem& problem, const Arrays<Cell, Element>& arrays,
                     const ColumnTransitions<A>& transitions) {
    const size_t words = gpu::ReduceWorkspaceBytes(problem, arrays) / sizeof(uint4) + 1;
    std::vector<uint4> workspace(words, uint4{1, 1, 1, 1});
    const gpu::Workspace given{workspace.data(), words * sizeof(uint4)};
    Check(gpu::Reduce(problem, arrays, transitions, given, nullptr));
  }

  static void Copy(const CopyRows& copy) { Check(gpu::Copy(copy, nullptr)); }
  template <typename Element>
  static void Sum(const ColumnSums<Element>& sums) {
    std::vector<float> workspace(sums.workspace_bytes() / sizeof(float));
    Check(gpu::Sum(sums, workspace.data(), nullptr));
  }
  template <typename Element>
  static void Hold(const HeldRows<Element>& rows) {
    std::vector<int64_t> workspace(gpu::HoldWorkspaceBytes(rows) / sizeof(int64_t));
    Check(gpu::Hold(rows, workspace.data(), nullptr));
  }
  template <typename Element>
  static void SumHeld(const HeldRows<Element>& rows) {
    Check(gpu::SumHeld(rows, nullptr));
  }
  template <typename Element>
  static void ToWindows(const CausalWindows<Element>& windows) {
    Check(gpu::ToWindows(windows, nullptr));
  }
  template <typename Element>
  static void FromWindows(const CausalWindows<Element>& windows) {
    Check(gpu::FromWindows(windows, nullptr));
  }
  template <typename Element>
  static void Normalize(const LayerNormalization<Element>& rows) {
    Check(gpu::Normalize(rows, nullptr));
  }
  template <typename Element>
  static void Differentiate(const BroadcastGradient<Element>& gradient, void* workspace) {
    Check(gpu::Differentiate(gradient, workspace, nullptr));
  }
  template <typename Element>
  static void DifferentiateNormalization(const LayerNormalizationGradient<Element>& rows) {
    Check(gpu::DifferentiateNormalization(rows, nullptr));
  }

  static void Check(const char* error) {
    if (error == nullptr) return;
    std::printf("%s\n", error);
    ++failures;
  }
};

// Runs chains whose tiles form a cluster, and again with no room for clusters. No bit may differ.
template <typename Cell>
void TestClusters(const Problem& problem) {
  std::mt19937 random(1);
  std::vector<std::vector<float>> inputs = {DrawDecays<float>(problem, random)};
  while (inputs.size() < Cell::kInputs) inputs.push_back(Draw<float>(problem.size(), random));
  const std::vector<float> initial = Draw<float>(problem.columns(), random);
  std::vector<std::vector<float>> results[2];
  for (int in_clusters : {0, 1}) {
    cuda_on_cpu::clusters_at_once = in_clusters * 1000;
    cuda_on_cpu::cluster_launches = 0;
    std::vector<std::vector<float>>& outputs = results[in_clusters];
    outputs.assign(Cell::kOutputs, std::vector<float>(problem.size()));
    Arrays<Cell, float> arrays{};
    for (int k = 0; k < Cell::kInputs; ++k) arrays.inputs[k] = inputs[k].data();
    for (int k = 0; k < Cell::kOutputs; ++k) arrays.outputs[k] = outputs[k].data();
    arrays.initial_carry = initial.data();
    EmulatedGpuEngine::Run(problem, arrays, Algorithm::kParallel);
    if (cuda_on_cpu::cluster_launches != in_clusters) {
      std::printf("%d cluster launches, not %d\n", cuda_on_cpu::cluster_launches, in_clusters);
      ++failures;
    }
  }
  if (results[0] != results[1]) {
    std::printf("Clusters and look-backs differ: %lld steps\n", (long long)problem.steps);
    ++failures;
  }
}

// Steps that all columns of a block have forgotten must not be read: a read of their memory would
// end the program.
void TestUnreadSteps() {
  const Problem p{1, 9000, 32, false};
  constexpr int64_t kBlocks = 2, kLast = 4096, kPage = 4096;
  const size_t row_bytes = kBlocks * p.inner * sizeof(float), bytes = p.steps * row_bytes;
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED ||
      mprotect(memory, (p.steps - kLast) * row_bytes / kPage * kPage, PROT_NONE) != 0) {
    std::printf("No memory that must not be read\n");
    ++failures;
    return;
  }
  Arrays<CoupledPreviousCell, float> arrays{};  // Of zeros: gates are 0.5.
  for (int block = 0; block < kBlocks; ++block) {
    arrays.inputs[block] = static_cast<const float*>(memory) + block * p.inner;
    arrays.gated.input_strides[block] = kBlocks * p.inner;
  }
  const std::vector<double> zeros(p.inner);
  TestReduce<EmulatedGpuEngine, float>(p, arrays, zeros, zeros, 0);
  munmap(memory, bytes);
}

// No GPU needs more workspace than XLA is told.
template <typename T>
void TestMostWorkspace() {
  std::mt19937 random(1);
  const auto draw = [&](double most) {  // Log-uniform.
    return int64_t(std::exp(std::uniform_real_distribution<double>(0, std::log(most))(random)));
  };
  for (int i = 0; i < 2000; ++i) {
    const Problem problem{draw(300), draw(3e6), draw(i % 2 ? 33 : 3000), false};
    const size_t most = gpu::MaxWorkspaceBytes<RecurrenceCell, T>(problem, Algorithm::kParallel);
    for (int multiprocessors : {1, 2, 14, 80, 108, 132, 160, 200}) {
      cuda_on_cpu::multiprocessors = multiprocessors;
      const size_t bytes =
          gpu::WorkspaceBytes(problem, Arrays<RecurrenceCell, T>{}, Algorithm::kParallel);
      if (bytes <= most) continue;
      std::printf("%zu bytes of workspace, but %zu at most: %lld x %lld x %lld\n", bytes, most,
                  (long long)problem.outer, (long long)problem.steps, (long long)problem.inner);
      ++failures;
    }
  }
}

}  // namespace

int main() {
  int failed = 0;
  TestMostWorkspace<float>();
  TestMostWorkspace<gpu::Half>();
  TestMostWorkspace<Complex<double>>();
  cuda_on_cpu::multiprocessors = 200;
  TestClusters<RecurrenceCell>({1, 3000, 40, false});
  TestClusters<RecurrenceCell>({2, 4096, 64, true});
  TestClusters<RecurrenceGradientCell>({1, 2000, 40, true});
  cuda_on_cpu::clusters_at_once = 1000;
  TestUnreadSteps();
  TestForgottenSteps<EmulatedGpuEngine>({1, 9000, 72, false});
  TestForgottenSteps<EmulatedGpuEngine>({1, 9000, 72, true});
  TestForgottenSteps<EmulatedGpuEngine>({1, 70000, 2, false});
  failed += TestRowPasses<EmulatedGpuEngine, Eigen::half, Eigen::bfloat16>();
  // Large tiles, without clusters; many tiles, with clusters.
  for (const auto& [multiprocessors, architecture] : {std::pair{1, 80}, {200, 90}}) {
    cuda_on_cpu::multiprocessors = multiprocessors;
    cuda_on_cpu::architecture = architecture;
    failed += TestEngine<EmulatedGpuEngine, Eigen::half, Eigen::bfloat16>();
    failed += TestBroadcastEngine<EmulatedGpuEngine, Eigen::half, Eigen::bfloat16>();
    failed += TestGatedEngine<EmulatedGpuEngine, Eigen::half, Eigen::bfloat16>();
  }
  return failed;
}
