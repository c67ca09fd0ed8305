// SPDX-License-Identifier: MIT
// The GPU engine alone, small enough for compute-sanitizer. Build and run: make gpu-sanitize
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cc/engine/gpu_recurrence.h"

using namespace tf_plr;

namespace {

int failures = 0;

void Check(cudaError_t error) {
  if (error != cudaSuccess) {
    std::printf("CUDA: %s\n", cudaGetErrorString(error));
    std::exit(2);
  }
}

// Elements between an array and the aligned memory before it.
int shift = 0;

// A device array that remembers its size.
template <typename T>
struct Array {
  explicit Array(size_t size) : size(size) {
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

template <typename T>
std::vector<T> Draw(size_t size, std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<T> values(size);
  for (T& value : values) value = T(uniform(random));
  return values;
}

template <typename T>
void Expect(const char* name, const std::vector<T>& actual, const std::vector<double>& expected,
            double tolerance, const Problem& p, Algorithm algorithm) {
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(double(float(actual[i])) - expected[i]);
    if (!(error <= tolerance * (1 + std::abs(expected[i])))) {
      std::printf("%s[%zu] is %g, not %g: %lld x %lld x %lld, reverse %d, algorithm %d\n", name, i,
                  double(float(actual[i])), expected[i], (long long)p.outer, (long long)p.steps,
                  (long long)p.inner, p.reverse, int(algorithm));
      ++failures;
      return;
    }
  }
}

template <typename Cell, typename Element>
void Launch(const Problem& problem, const Arrays<Cell, Element>& arrays, Algorithm algorithm) {
  const size_t bytes = gpu::WorkspaceBytes(problem, arrays, algorithm);
  const int shift_of_arrays = shift;
  shift = 0;
  Array<char> workspace(bytes + 1);
  shift = shift_of_arrays;
  Check(cudaMemset(workspace.data, 0xAB, bytes + 1));
  if (const char* error = gpu::Run(problem, arrays, algorithm, workspace.data, nullptr)) {
    std::printf("Run: %s\n", error);
    ++failures;
  }
  Check(cudaDeviceSynchronize());
}

// T is how the host sees gpu::Run's Element.
template <typename Element, typename T>
void Test(Problem p, Algorithm algorithm, double tolerance) {
  std::mt19937 random(1);
  const auto decays = Draw<T>(p.size(), random), impulses = Draw<T>(p.size(), random);
  const auto d_states = Draw<T>(p.size(), random), initial = Draw<T>(p.columns(), random);
  std::vector<double> states(p.size()), d_decays(p.size()), d_impulses(p.size());
  std::vector<double> d_initial(p.columns());
  std::vector<T> rounded(p.size());
  for (int64_t column = 0; column < p.columns(); ++column) {
    const int64_t base = column / p.inner * p.steps * p.inner + column % p.inner;
    auto at = [&](int64_t t) { return base + (p.reverse ? p.steps - 1 - t : t) * p.inner; };
    double state = float(initial[column]);
    for (int64_t t = 0; t < p.steps; ++t) {
      state = float(decays[at(t)]) * state + float(impulses[at(t)]);
      states[at(t)] = state;
      rounded[at(t)] = T(float(state));
    }
    double carried = 0;
    for (int64_t t = p.steps - 1; t >= 0; --t) {
      const double gradient = carried + float(d_states[at(t)]);
      const double previous = t > 0 ? float(rounded[at(t - 1)]) : float(initial[column]);
      d_decays[at(t)] = previous * gradient;
      d_impulses[at(t)] = gradient;
      carried = float(decays[at(t)]) * gradient;
    }
    d_initial[column] = carried;
  }

  Array<T> a(decays), x(impulses), d(d_states), h(initial), r(rounded);
  auto element = [](Array<T>& array) { return reinterpret_cast<Element*>(array.data); };
  {
    Array<T> out(p.size());
    Arrays<RecurrenceCell, Element> arrays{
        {element(a), element(x)}, {element(out)}, element(h), nullptr, nullptr};
    Launch(p, arrays, algorithm);
    Expect("states", out.Read(), states, tolerance, p, algorithm);
  }
  {
    Array<T> by_a(p.size()), by_x(p.size()), by_h(p.columns());
    Arrays<RecurrenceGradientCell, Element> arrays{{element(a), element(d), element(r)},
                                                   {element(by_a), element(by_x)},
                                                   nullptr,
                                                   element(by_h),
                                                   element(h)};
    Problem backward = p;
    backward.reverse = !p.reverse;
    Launch(backward, arrays, algorithm);
    Expect("d_decays", by_a.Read(), d_decays, tolerance, p, algorithm);
    Expect("d_impulses", by_x.Read(), d_impulses, tolerance, p, algorithm);
    Expect("d_initial_state", by_h.Read(), d_initial, tolerance, p, algorithm);
  }
}

}  // namespace

int main() {
  const Problem problems[] = {
      // Rows: one tile, several of a chain, several chains in a block, odd columns, many columns.
      {1, 1, 40, false},
      {3, 40, 32, false},
      {20, 16, 64, true},
      {2, 700, 33, false},
      {1, 9000, 36, true},
      {1, 5000, 66, false},
      {2, 1500, 100, true},
      // Columns that share a tile: several chains of one, several tiles of a chain.
      {1, 1, 1, false},
      {9, 300, 1, true},
      {50, 9, 3, false},
      {300, 41, 5, true},
      {1, 70000, 1, false},
      {2, 9000, 6, true},
      {3, 2000, 31, false},
  };
  for (const Problem& problem : problems) {
    for (shift = 0; shift < 2; ++shift) {
      for (Algorithm algorithm : {Algorithm::kParallel, Algorithm::kSerial}) {
        Test<float, float>(problem, algorithm, 1e-5);
        Test<double, double>(problem, algorithm, 1e-6);  // The host draws and rounds floats.
        Test<gpu::Half, __half>(problem, algorithm, 4e-3);
        Test<gpu::BFloat16, __nv_bfloat16>(problem, algorithm, 3e-2);
      }
    }
    shift = 0;
    Test<float, float>(problem, Algorithm::kAuto, 1e-5);
  }
  std::printf(failures ? "%d failures\n" : "GPU engine: all right (%d failures)\n", failures);
  return failures != 0;
}
