// SPDX-License-Identifier: MIT
// The GPU engine alone. Build and run: make gpu-sanitize
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdlib>

#include "cc/engine/gpu/run.h"
#include "tests/engine/broadcast_engine_test.h"
#include "tests/engine/engine_test.h"
#include "tests/engine/gated_engine_test.h"
#include "tests/engine/row_passes_test.h"

using namespace tf_plr;

namespace {

void Check(cudaError_t error) {
  if (error != cudaSuccess) {
    std::printf("CUDA: %s\n", cudaGetErrorString(error));
    std::exit(2);
  }
}

struct GpuEngine {
  static constexpr bool kHasFixedCells = true;
  static constexpr bool kSumsGradients = true;
  static constexpr const char* kName = "GPU engine";
  using Half = gpu::Half;
  using BFloat16 = gpu::BFloat16;

  // A device array that remembers its size.
  template <typename T>
  struct Array {
    explicit Array(size_t size) : size(size) {
      const int shift = NextShift();
      // One word more, for memcheck: the machine code of an asynchronous copy of half a word adds 2
      // to the address, and memcheck believes that it reads four bytes from there.
      const size_t bytes = (size + shift) * sizeof(T) + 4;
      Check(cudaMalloc(&allocated, bytes));
      // Makes elements that are not written visible: all bits set is NaN.
      Check(cudaMemset(allocated, 0xFF, bytes));
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
    CheckRun(gpu::Run(problem, arrays, algorithm, gpu::Workspace{workspace, bytes}, nullptr));
    Check(cudaFree(workspace));
  }

  template <typename Cell, typename Element, typename A>
  static void Reduce(const Problem& problem, const Arrays<Cell, Element>& arrays,
                     const ColumnTransitions<A>& transitions) {
    const size_t bytes = gpu::ReduceWorkspaceBytes(problem, arrays);
    void* workspace;
    Check(cudaMalloc(&workspace, bytes + 1));
    Check(cudaMemset(workspace, 0xAB, bytes + 1));
    const gpu::Workspace given{workspace, bytes};
    CheckRun(gpu::Reduce(problem, arrays, transitions, given, nullptr));
    Check(cudaFree(workspace));
  }

  static void Copy(const CopyRows& copy) { CheckRun(gpu::Copy(copy, nullptr)); }
  template <typename Element>
  static void Sum(const ColumnSums<Element>& sums) {
    Array<float> workspace(sums.workspace_bytes() / sizeof(float));
    CheckRun(gpu::Sum(sums, workspace.data, nullptr));
  }
  template <typename Element>
  static void Hold(const HeldRows<Element>& rows) {
    Array<int64_t> workspace(gpu::HoldWorkspaceBytes(rows) / sizeof(int64_t));
    CheckRun(gpu::Hold(rows, workspace.data, nullptr));
  }
  template <typename Element>
  static void SumHeld(const HeldRows<Element>& rows) {
    CheckRun(gpu::SumHeld(rows, nullptr));
  }
  template <typename Element>
  static void ToWindows(const CausalWindows<Element>& windows) {
    CheckRun(gpu::ToWindows(windows, nullptr));
  }
  template <typename Element>
  static void FromWindows(const CausalWindows<Element>& windows) {
    CheckRun(gpu::FromWindows(windows, nullptr));
  }
  template <typename Element>
  static void Normalize(const LayerNormalization<Element>& rows) {
    CheckRun(gpu::Normalize(rows, nullptr));
  }
  template <typename Element>
  static void Differentiate(const BroadcastGradient<Element>& gradient, void* workspace) {
    CheckRun(gpu::Differentiate(gradient, workspace, nullptr));
  }
  template <typename Element>
  static void DifferentiateNormalization(const LayerNormalizationGradient<Element>& rows) {
    CheckRun(gpu::DifferentiateNormalization(rows, nullptr));
  }

  static void CheckRun(const char* error) {
    if (error != nullptr) {
      std::printf("%s\n", error);
      ++failures;
    }
    Check(cudaDeviceSynchronize());
  }
};

// A workspace that is too small is an error, and nothing is written.
void TestSmallWorkspace() {
  const Problem problem{1, 9000, 36, false};
  GpuEngine::Array<float> array(problem.size());
  const Arrays<RecurrenceCell, float> arrays{
      {array.data, array.data}, {array.data}, nullptr, nullptr, nullptr};
  const size_t bytes = gpu::WorkspaceBytes(problem, arrays, Algorithm::kParallel);
  if (bytes == 0 || gpu::Run(problem, arrays, Algorithm::kParallel,
                             gpu::Workspace{nullptr, bytes - 1}, nullptr) == nullptr) {
    std::printf("A workspace that is too small was taken\n");
    ++failures;
  }
  Check(cudaDeviceSynchronize());
}

// A CUDA graph replayed with new values, and updated to other buffers, as XLA does.
void TestGraph(const Problem& problem) {
  std::mt19937 random(1);
  cudaStream_t stream;
  Check(cudaStreamCreate(&stream));
  cudaGraphExec_t executable = nullptr;
  for (int buffers = 0; buffers < 2; ++buffers) {
    GpuEngine::Array<float> a(problem.size()), x(problem.size()), y(problem.size());
    GpuEngine::Array<float> expected(problem.size());
    const Arrays<RecurrenceCell, float> arrays{
        {a.data, x.data}, {y.data}, nullptr, nullptr, nullptr};
    GpuEngine::Array<uint4> words(1 + gpu::WorkspaceBytes(problem, arrays, Algorithm::kParallel) /
                                          sizeof(uint4));
    Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    if (const char* error = gpu::Run(problem, arrays, Algorithm::kParallel,
                                     gpu::Workspace{words.data, words.size * 16}, stream)) {
      std::printf("Run: %s\n", error);
      ++failures;
    }
    cudaGraph_t graph;
    Check(cudaStreamEndCapture(stream, &graph));
    if (executable == nullptr) {
      Check(cudaGraphInstantiate(&executable, graph, 0));
    } else {
      cudaGraphExecUpdateResultInfo info;
      Check(cudaGraphExecUpdate(executable, graph, &info));
    }
    Check(cudaGraphDestroy(graph));
    for (int replay = 0; replay < 3; ++replay) {
      const auto decays = DrawDecays<float>(problem, random);
      const auto impulses = Draw<float>(problem.size(), random);
      const size_t bytes = problem.size() * sizeof(float);
      Check(cudaMemcpy(a.data, decays.data(), bytes, cudaMemcpyHostToDevice));
      Check(cudaMemcpy(x.data, impulses.data(), bytes, cudaMemcpyHostToDevice));
      Check(cudaMemset(y.data, 0xFF, bytes));
      Check(cudaGraphLaunch(executable, stream));
      Check(cudaStreamSynchronize(stream));
      Arrays<RecurrenceCell, float> again = arrays;
      again.outputs[0] = expected.data;
      GpuEngine::Run(problem, again, Algorithm::kParallel);
      if (y.Read() != expected.Read()) {
        std::printf("A replayed graph differs: %lld steps, buffers %d, replay %d\n",
                    (long long)problem.steps, buffers, replay);
        ++failures;
      }
    }
  }
  Check(cudaGraphExecDestroy(executable));
  Check(cudaStreamDestroy(stream));
}

}  // namespace

int main() {
  for (int64_t inner : {1, 36}) {
    TestGraph({2, 9000, inner, false});
    TestGraph({1, 3000, inner, true});
  }
  TestSmallWorkspace();
  TestForgottenSteps<GpuEngine>({1, 9000, 72, false});
  TestForgottenSteps<GpuEngine>({1, 9000, 72, true});
  TestForgottenSteps<GpuEngine>({1, 70000, 2, false});
  return TestEngine<GpuEngine, __half, __nv_bfloat16>() |
         TestBroadcastEngine<GpuEngine, __half, __nv_bfloat16>() |
         TestGatedEngine<GpuEngine, __half, __nv_bfloat16>() |
         TestRowPasses<GpuEngine, __half, __nv_bfloat16>();
}
