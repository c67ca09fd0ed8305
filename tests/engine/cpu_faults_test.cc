// SPDX-License-Identifier: MIT
// The CPU engine when memory runs out: each of its allocations fails once, in turn. A function must
// then return an error or the right result; it must not throw, hang or write anything else. Build
// and run: pytest tests/engine/test_faults.py
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "cc/engine/causal_windows.h"
#include "cc/engine/column_sums.h"
#include "cc/engine/cpu/run.h"
#include "cc/engine/held_rows.h"
#include "cc/engine/layer_normalization.h"

namespace {

std::atomic<int> left{-1};  // Allocations before the one that fails; none does if negative.

void* Allocate(size_t size, size_t alignment) {
  if (left.fetch_sub(1) == 0) throw std::bad_alloc();
  void* const memory = std::aligned_alloc(alignment, (size / alignment + 1) * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// What all other forms of new and delete call.
void* operator new(size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }

namespace tf_plr {
namespace {

int failures = 0;

Workers ThreeThreads() {
  return {3, [](std::function<void()> work) { std::thread(work).detach(); }};
}

// `run` returns null, or what went wrong; it writes `results`.
template <typename Run>
void Test(const char* name, std::vector<float>& results, const Run& run) {
  const Workers workers = ThreeThreads();
  std::fill(results.begin(), results.end(), -1.0f);
  if (run(workers) != nullptr) std::abort();
  const std::vector<float> expected = results;
  int allocations = 0, refused = 0;
  for (bool failed = true; failed; ++allocations) {
    std::fill(results.begin(), results.end(), -1.0f);
    left = allocations;
    const char* const error = run(workers);
    failed = left < 0;
    left = -1;
    refused += error != nullptr;
    const std::vector<float> untouched(results.size(), -1.0f);
    if (results != (error == nullptr ? expected : untouched)) {
      std::printf("%s: wrong after allocation %d failed\n", name, allocations);
      ++failures;
    }
  }
  std::printf("%s: %d allocations, of which %d are needed\n", name, allocations - 1, refused);
}

std::vector<float> Draw(int64_t size) {
  std::vector<float> values(size);
  for (int64_t i = 0; i < size; ++i) values[i] = static_cast<float>(i * 37 % 101) / 128;
  return values;
}

void TestAll() {
  const Problem problem{2, 20000, 40, false};
  const std::vector<float> a = Draw(problem.size()), x = Draw(problem.size());
  std::vector<float> results(problem.size());
  for (Algorithm algorithm : {Algorithm::kSerial, Algorithm::kParallel}) {
    Test("recurrence", results, [&](const Workers& workers) {
      const Arrays<RecurrenceCell, float> arrays{
          {a.data(), x.data()}, {results.data()}, nullptr, nullptr, nullptr};
      return cpu::Run(problem, arrays, algorithm, workers);
    });
    std::vector<float> d_decays(problem.size());
    Test("its gradient", results, [&](const Workers& workers) {
      const Arrays<RecurrenceGradientCell, float> arrays{{a.data(), x.data(), a.data()},
                                                         {d_decays.data(), results.data()},
                                                         nullptr,
                                                         nullptr,
                                                         nullptr};
      return cpu::Run({2, 20000, 40, true}, arrays, algorithm, workers);
    });
  }
  const int64_t rows = problem.outer * problem.steps;
  std::vector<char> valid(rows);
  for (int64_t row = 0; row < rows; ++row) valid[row] = row % 3 != 1;
  const bool* const mask = reinterpret_cast<const bool*>(valid.data());

  std::vector<float> sums(problem.inner);
  Test("column sums", sums, [&](const Workers& workers) {
    return cpu::Sum(ColumnSums<float>{x.data(), rows, problem.inner, problem.inner, sums.data()},
                    workers);
  });
  Test("held rows", results, [&](const Workers& workers) {
    std::copy(x.begin(), x.end(), results.begin());
    cpu::Hold(HeldRows<float>{nullptr, results.data(), {mask, nullptr}, 2, 20000, 40}, workers);
    return static_cast<const char*>(nullptr);
  });
  Test("sums of held rows", results, [&](const Workers& workers) {
    return cpu::SumHeld(HeldRows<float>{x.data(), results.data(), {mask, nullptr}, 2, 20000, 40},
                        workers);
  });
  std::vector<float> history(2 * 2 * 40), last(history.size()), windows(3 * problem.size());
  std::vector<float> inputs = x;
  const auto of = [&](float* from) {
    return CausalWindows<float>{
        from, history.data(), windows.data(), last.data(), {mask, nullptr}, 2, 20000, 40, 2};
  };
  Test("windows", windows, [&](const Workers& workers) {
    cpu::ToWindows(of(inputs.data()), workers);
    return static_cast<const char*>(nullptr);
  });
  std::vector<float> scale(problem.inner, 2.0f), statistics(2 * rows), chunks(2048 * problem.inner);
  Test("layer normalisation", results, [&](const Workers& workers) {
    return cpu::Normalize(
        LayerNormalization<float>{x.data(), scale.data(), scale.data(), rows, problem.inner, 1e-3f,
                                  results.data(), statistics.data()},
        workers);
  });
  Test("its gradient", results, [&](const Workers& workers) {
    return cpu::DifferentiateNormalization(
        LayerNormalizationGradient<float>{x.data(), x.data(), scale.data(), statistics.data(), rows,
                                          problem.inner, results.data(), chunks.data(), nullptr},
        workers);
  });
  std::iota(windows.begin(), windows.end(), 0.0f);
  Test("their gradient", results,
       [&](const Workers& workers) { return cpu::FromWindows(of(results.data()), workers); });
}

}  // namespace
}  // namespace tf_plr

int main() {
  tf_plr::TestAll();
  std::printf("%d failures\n", tf_plr::failures);
  return tf_plr::failures != 0;
}
