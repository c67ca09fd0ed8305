// SPDX-License-Identifier: MIT
#include "cc/engine/broadcast_gradient.h"
#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/run.cuh"
#include "cc/engine/gpu/warp.cuh"

namespace tf_plr {
namespace gpu {

// What the first pass sums: conj(states_{t-1}) d_impulses_t at each element of the problem.
template <typename T>
struct Products {
  using A = Accumulator<T>;

  const T *states, *d_impulses, *initial_state;
  const bool* resets;
  int64_t steps, inner;
  bool reverse;

  // The sum over `count` elements at equal distances, from `element` on.
  __device__ A Sum(int64_t element, int64_t distance, int64_t count) const {
    if (count <= 0) return A(0);
    const int64_t slice = steps * inner;  // Elements of an outer slice.
    const bool same_step = distance == Divide(distance, slice) * slice;
    A sum(0);
    while (count > 0) {
      const int64_t outer = Divide(element, slice), place = element - outer * slice;
      const int64_t from_first = reverse ? slice - inner - place : place - inner;
      const bool is_first = reverse ? from_first <= 0 : from_first < 0;
      // Up to the next first step, or up to the end of the slice.
      const int64_t left = (reverse ? slice - inner : slice) - place;
      int64_t run = same_step ? count : min(count, Divide(left + distance - 1, distance));
      if (resets != nullptr) run = 1;
      if (resets != nullptr && resets[Divide(element, inner)]) {
        // Nothing comes from the state before.
      } else if (is_first) {
        run = 1;
        const int64_t column = reverse ? -from_first : place;
        const A initial =
            initial_state == nullptr ? A(0) : A(initial_state[outer * inner + column]);
        sum = sum + Conjugate(initial) * A(d_impulses[element]);
      } else {
        sum = sum + SumOfRun(element, distance, run);
      }
      element += run * distance;
      count -= run;
    }
    return sum;
  }

 private:
  // No element is of a first step.
  __device__ A SumOfRun(int64_t element, int64_t distance, int64_t count) const {
    const T* previous = states + (reverse ? element + inner : element - inner);
    const T* gradient = d_impulses + element;
    A sum(0);
#pragma unroll 8
    for (int64_t i = 0; i < count; ++i) {
      sum = sum + Conjugate(A(*previous)) * A(*gradient);
      previous += distance;
      gradient += distance;
    }
    return sum;
  }
};

// What later passes sum.
template <typename Accumulator>
struct Sums {
  using A = Accumulator;

  const A* sums;

  __device__ A Sum(int64_t element, int64_t distance, int64_t count) const {
    const A* from = sums + element;
    A sum(0);
#pragma unroll 8
    for (int64_t i = 0; i < count; ++i, from += distance) sum = sum + *from;
    return sum;
  }
};

template <typename Source, typename To>
struct SumPassParams {
  Source source;
  SumPass pass;
  int64_t chunks;
  To* to;
};

constexpr int kSumThreads = 256;

// Each thread sums one column of a chunk.
template <typename Source, typename To>
__global__ void __launch_bounds__(kSumThreads)
    SumWideRows(const __grid_constant__ SumPassParams<Source, To> p) {
  const SumPass& pass = p.pass;
  const int64_t result = int64_t{blockIdx.x} * kSumThreads + threadIdx.x;
  const int64_t number = Divide(result, pass.after), before = Divide(number, p.chunks);
  if (before >= pass.before) return;
  const int64_t first = (number - before * p.chunks) * pass.chunk;
  const int64_t count = min(pass.chunk, pass.size - first);
  const int64_t begin = (before * pass.size + first) * pass.after + result - number * pass.after;
  p.to[result] = To(p.source.Sum(begin, pass.after, count));
}

// Each warp sums a chunk of short rows. It reads whole rows together; each lane has one column.
template <typename Source, typename To>
__global__ void __launch_bounds__(kSumThreads)
    SumShortRows(const __grid_constant__ SumPassParams<Source, To> p) {
  using A = typename Source::A;
  const SumPass& pass = p.pass;
  const int lane = threadIdx.x % kWarp, after = static_cast<int>(pass.after);
  const int rows = kWarp / after, lanes = rows * after;
  const int64_t number = (int64_t{blockIdx.x} * kSumThreads + threadIdx.x) / kWarp;
  const int64_t before = Divide(number, p.chunks);
  if (before >= pass.before) return;
  const int64_t first = (number - before * p.chunks) * pass.chunk;
  const int64_t count = min(pass.chunk, pass.size - first) * after;
  const int64_t begin = (before * pass.size + first) * after;
  const bool has_any = lane < min(int64_t{lanes}, count);
  const A sum =
      has_any ? p.source.Sum(begin + lane, lanes, (count - lane + lanes - 1) / lanes) : A(0);
  A total = sum;
  for (int row = 1; row < rows; ++row) {
    total = total + Shuffle(sum, lane % after + row * after);
  }
  if (lane < after) p.to[number * after + lane] = To(total);
}

template <typename Source, typename To>
cudaError_t LaunchSum(const Source& source, const SumPass& pass, To* to, cudaStream_t stream) {
  if (pass.results() == 0) return cudaSuccess;
  const SumPassParams<Source, To> params{source, pass, pass.chunks(), to};
  if (pass.after >= SumPass::kWide) {
    const int64_t blocks = CeilDiv(pass.results(), kSumThreads);
    return LaunchKernel<SumWideRows<Source, To>>({blocks, kSumThreads, 0, stream}, params);
  }
  const int64_t blocks = CeilDiv(pass.before * pass.chunks(), kSumThreads / kWarp);
  return LaunchKernel<SumShortRows<Source, To>>({blocks, kSumThreads, 0, stream}, params);
}

template <typename T>
const char* Differentiate(const BroadcastGradient<T>& gradient, void* workspace, void* stream) {
  using Stored = typename StorageOf<T>::type;
  using A = Accumulator<Stored>;
  if (gradient.results() == 0) return nullptr;
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  const auto stored = [](const T* array) { return reinterpret_cast<const Stored*>(array); };
  const Problem& problem = gradient.problem;
  const Products<Stored> products{stored(gradient.states),
                                  stored(gradient.d_impulses),
                                  stored(gradient.initial_state),
                                  gradient.resets,
                                  problem.steps,
                                  problem.inner,
                                  problem.reverse};
  cudaError_t error = cudaSuccess;
  A *from = nullptr, *to = static_cast<A*>(workspace);
  ForEachSumPass(gradient.axes, [&](const SumPass& pass) {
    if (error != cudaSuccess) return;
    A* next = from;  // Passes take turns between two places.
    if (from == nullptr) {
      error = LaunchSum(products, pass, to, cuda_stream);
      next = to + pass.results();
    } else {
      error = LaunchSum(Sums<A>{from}, pass, to, cuda_stream);
    }
    from = to;
    to = next;
  });
  if (error == cudaSuccess) {
    error = LaunchSum(Sums<A>{from}, SumPass(1, 1, gradient.results()),
                      reinterpret_cast<Stored*>(gradient.d_decays), cuda_stream);
  }
  return error == cudaSuccess ? nullptr : Explain(error);
}

#define TF_PLR_INSTANTIATE(type, element, ...) \
  template const char* Differentiate(const BroadcastGradient<element>&, void*, void*);
TF_PLR_FOR_EACH_TYPE(TF_PLR_INSTANTIATE)
#undef TF_PLR_INSTANTIATE

}  // namespace gpu
}  // namespace tf_plr
