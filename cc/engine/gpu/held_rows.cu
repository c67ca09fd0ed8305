// SPDX-License-Identifier: MIT
// Each warp handles kWarp consecutive steps of a sequence. Each lane reads the mask of one step; in
// a row, each lane handles columns. Usually few steps are masked, so the kernels access only
// those valid rows that they must read or write.
#include <cstdint>

#include "cc/engine/gpu/addresses.cuh"
#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/run.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/held_rows.h"

namespace tf_plr {
namespace gpu {

constexpr int kHeldWarps = 32, kHeldThreads = kHeldWarps * kWarp;
static_assert(kHeldThreads == kHoldSteps);

template <typename T>
struct HeldParams {
  HeldRows<T> rows;
  int64_t blocks;           // Blocks of kHeldThreads steps in one sequence.
  int64_t groups;           // Groups of columns. Consecutive thread blocks have consecutive groups.
  int64_t* last = nullptr;  // For Hold: [outer, blocks], written by FindLastBreak.
};

// The steps of one warp.
template <typename T>
class WarpSteps {
 public:
  __device__ explicit WarpSteps(const HeldParams<T>& p)
      : rows_(p.rows),
        chunk_(Divide(blockIdx.x, p.groups)),
        group_(blockIdx.x - chunk_ * p.groups),
        outer_(Divide(chunk_, p.blocks)),
        block_first_((chunk_ - outer_ * p.blocks) * kHeldThreads) {}

  __device__ int64_t Group() const { return group_; }
  __device__ int64_t Chunk() const { return chunk_; }  // Index into [outer, blocks].
  __device__ int64_t First() const { return block_first_ + threadIdx.x / kWarp * kWarp; }
  __device__ T* Row(T* array, int64_t step) const {
    return array + rows_.Row(outer_, step) * rows_.width;
  }
  __device__ const T* Row(const T* array, int64_t step) const {
    return array + rows_.Row(outer_, step) * rows_.width;
  }
  __device__ bool Exists(int64_t step) const { return step >= 0 && step < rows_.steps; }
  __device__ bool IsValid(int64_t step) const {
    return Exists(step) && rows_.IsValid(outer_, step);
  }
  // Bit i of Valid is set if step first + i exists and is valid. Bit i of Breaks is set if that
  // step does not exist or breaks a run. All lanes of the warp must call these functions together.
  __device__ unsigned Valid(int64_t first) const {
    return __ballot_sync(~0u, IsValid(first + Lane()));
  }
  __device__ unsigned Breaks(int64_t first) const {
    const int64_t step = first + Lane();
    return __ballot_sync(~0u, !Exists(step) || rows_.BreaksRun(outer_, step));
  }

  __device__ static int Lane() { return threadIdx.x % kWarp; }
  __device__ static int LastBit(unsigned bits) { return kWarp - 1 - __clz(bits); }

 private:
  const HeldRows<T>& rows_;
  const int64_t chunk_, group_, outer_, block_first_;
};

// For each block of kHeldThreads steps, finds the last step before the block that breaks a run, or
// -1. One thread block handles one sequence and reads its flags at most once; a search from every
// masked step would take quadratic time.
template <typename Word>
__global__ void __launch_bounds__(kHeldThreads)
    FindLastBreak(const __grid_constant__ HeldParams<Word> p) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t steps = p.rows.steps, blocks = p.blocks;
  int64_t* const last = p.last + blockIdx.x * blocks;
  for (int64_t block = warp; block < blocks; block += kHeldWarps) {
    constexpr int kAtOnce = 8;  // Loads in flight.
    int64_t found = -1;
    for (int64_t end = min((block + 1) * kHeldThreads, steps);
         found < 0 && end > block * kHeldThreads; end -= kAtOnce * kWarp) {
      unsigned breaks[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int64_t step = end - (i + 1) * kWarp + lane;
        breaks[i] = __ballot_sync(
            ~0u, step >= block * kHeldThreads && p.rows.BreaksRun(int64_t{blockIdx.x}, step));
      }
#pragma unroll
      for (int i = kAtOnce - 1; i >= 0; --i) {
        if (breaks[i] != 0) found = end - (i + 1) * kWarp + kWarp - 1 - __clz(breaks[i]);
      }
    }
    if (lane == 0) last[block] = found;
  }
  __syncthreads();  // Publishes the last break in each block.
  if (warp != 0) return;
  int64_t before = -1;  // The last break before this turn's blocks.
  for (int64_t first = 0; first < blocks; first += kWarp) {
    int64_t own = first + lane < blocks ? last[first + lane] : -1;
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const int64_t other = Shuffle(own, max(lane - distance, 0));
      if (lane >= distance) own = max(own, other);
    }
    const int64_t earlier = Shuffle(own, max(lane - 1, 0));
    if (first + lane < blocks) last[first + lane] = lane == 0 ? before : max(before, earlier);
    before = max(before, Shuffle(own, kWarp - 1));
  }
}

// Copies rows as words, whatever their type.
template <typename Word>
__global__ void __launch_bounds__(kHeldThreads)
    HoldRows(const __grid_constant__ HeldParams<Word> p) {
  extern __shared__ __align__(16) char shared[];
  auto* const breaks_of_warps = reinterpret_cast<unsigned*>(shared);
  const WarpSteps<Word> steps(p);
  const int warp = threadIdx.x / kWarp;
  const int64_t first = steps.First();
  const unsigned breaks = steps.Breaks(first);
  unsigned repeats = ~breaks;
  if (steps.Lane() == 0) breaks_of_warps[warp] = breaks;
  __syncthreads();  // Publishes which steps of the block break a run.
  if (repeats == 0) return;
  int64_t before = p.last[steps.Chunk()];
  for (int i = 0; i < warp; ++i) {
    if (breaks_of_warps[i] != 0) {
      before = first - (warp - i) * kWarp + WarpSteps<Word>::LastBit(breaks_of_warps[i]);
    }
  }
  for (; repeats != 0; repeats &= repeats - 1) {
    const int i = __ffs(repeats) - 1;
    const unsigned earlier = breaks & ((1u << i) - 1);
    const int64_t from_step = earlier != 0 ? first + WarpSteps<Word>::LastBit(earlier) : before;
    if (!steps.IsValid(from_step)) continue;
    const Word* const from = steps.Row(p.rows.to, from_step);
    Word* const to = steps.Row(p.rows.to, first + i);
    for (int64_t k = steps.Lane(); k < p.rows.width; k += kWarp) to[k] = from[k];
  }
}

// Each lane has one column. A run is a valid step and the masked steps that repeat it. A warp sums
// the short runs that begin in its own steps; all warps of the block share the rows of a long run.
template <typename T>
class HeldSums {
 public:
  struct Shared {
    float sums[kHeldWarps][kWarp];
    unsigned long_runs[kHeldWarps];
    int ends[kHeldWarps];
  };

  __device__ HeldSums(const HeldParams<T>& p, Shared& shared)
      : p_(p),
        shared_(shared),
        steps_(p),
        warp_(threadIdx.x / kWarp),
        lane_(threadIdx.x % kWarp),
        column_(steps_.Group() * kWarp + lane_) {}

  __device__ void Run() {
    const int64_t first = steps_.First();
    const unsigned valid = steps_.Valid(first), next_breaks = steps_.Breaks(first + 1);
    // The steps to write: valid ones that the next step repeats; all valid ones if not in place.
    unsigned heads = p_.rows.from == p_.rows.to ? valid & ~next_breaks : valid;
    unsigned long_runs = 0;
    for (; heads != 0; heads &= heads - 1) {
      const int i = __ffs(heads) - 1;
      const unsigned end = steps_.Breaks(first + i + 1);
      if (end == 0) {
        long_runs |= 1u << i;
        continue;
      }
      float sum = Get(first + i);
      for (int j = 1; j < __ffs(end); ++j) sum += Get(first + i + j);
      Set(first + i, sum);
    }
    if (lane_ == 0) shared_.long_runs[warp_] = long_runs;
    __syncthreads();  // Publishes all warps' long runs.
    const int64_t block_first = first - warp_ * kWarp;
    for (int warp = 0; warp < kHeldWarps; ++warp) {
      for (unsigned runs = shared_.long_runs[warp]; runs != 0; runs &= runs - 1) {
        SumLongRun(block_first + warp * kWarp + __ffs(runs) - 1);
      }
    }
  }

 private:
  __device__ void SumLongRun(int64_t head) {
    float sum = warp_ == 0 ? Get(head) : 0.0f;
    int count;
    int64_t next = head + 1;
    do {
      const unsigned end = steps_.Breaks(next + warp_ * kWarp);
      if (lane_ == 0)
        shared_.ends[warp_] = end == 0 ? kHeldThreads : warp_ * kWarp + __ffs(end) - 1;
      __syncthreads();  // Publishes where each warp's part of the run ends.
      count = kHeldThreads;
      for (int warp = 0; warp < kHeldWarps; ++warp) count = min(count, shared_.ends[warp]);
      __syncthreads();  // Everyone has read the ends.
#pragma unroll 8
      for (int i = warp_; i < count; i += kHeldWarps) sum += Get(next + i);
      next += kHeldThreads;
    } while (count == kHeldThreads);
    shared_.sums[warp_][lane_] = sum;
    __syncthreads();  // Publishes the warps' sums.
    if (warp_ == 0) {
      for (int warp = 1; warp < kHeldWarps; ++warp) sum += shared_.sums[warp][lane_];
      Set(head, sum);
    }
    __syncthreads();  // Warp 0 has read the sums.
  }

  __device__ float Get(int64_t step) const {
    if (column_ >= p_.rows.width) return 0;
    return static_cast<float>(steps_.Row(p_.rows.from, step)[column_]);
  }
  __device__ void Set(int64_t step, float sum) const {
    if (column_ < p_.rows.width) steps_.Row(p_.rows.to, step)[column_] = T(sum);
  }

  const HeldParams<T>& p_;
  Shared& shared_;
  const WarpSteps<T> steps_;
  const int warp_, lane_;
  const int64_t column_;
};

template <typename T>
__global__ void __launch_bounds__(kHeldThreads)
    SumHeldRows(const __grid_constant__ HeldParams<T> p) {
  extern __shared__ __align__(16) char shared[];
  HeldSums<T>(p, *reinterpret_cast<typename HeldSums<T>::Shared*>(shared)).Run();
}

// Views the same memory as rows of elements of type To.
template <typename To, typename From>
HeldParams<To> HeldParamsOf(const HeldRows<From>& rows, int64_t groups) {
  using Stored = typename StorageOf<From>::type;
  const int64_t width = rows.width * static_cast<int64_t>(sizeof(Stored)) / sizeof(To);
  return {{reinterpret_cast<const To*>(rows.from), reinterpret_cast<To*>(rows.to), rows.flags,
           rows.outer, rows.steps, width},
          CeilDiv(rows.steps, kHeldThreads),
          groups};
}

template <typename Word, typename T>
cudaError_t LaunchHold(const HeldRows<T>& rows, int64_t* last, cudaStream_t stream) {
  HeldParams<Word> params = HeldParamsOf<Word>(rows, 1);
  params.last = last;
  const cudaError_t error =
      LaunchKernel<FindLastBreak<Word>>({rows.outer, kHeldThreads, 0, stream}, params);
  if (error != cudaSuccess) return error;
  constexpr int kSharedBytes = kHeldWarps * sizeof(unsigned);
  return LaunchKernel<HoldRows<Word>>(
      {rows.outer * params.blocks, kHeldThreads, kSharedBytes, stream}, params);
}

template <typename T>
const char* Hold(const HeldRows<T>& rows, void* workspace, void* stream) {
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  auto* const last = static_cast<int64_t*>(workspace);
  if (rows.outer * rows.steps * rows.width == 0) return nullptr;
  const size_t row_bytes = rows.width * sizeof(typename StorageOf<T>::type);
  const uintptr_t bits = row_bytes | reinterpret_cast<uintptr_t>(rows.to);
  const cudaError_t error = bits % sizeof(uint4) == 0 ? LaunchHold<uint4>(rows, last, cuda_stream)
                            : bits % sizeof(uint32_t) == 0
                                ? LaunchHold<uint32_t>(rows, last, cuda_stream)
                                : LaunchHold<uint16_t>(rows, last, cuda_stream);
  return error == cudaSuccess ? nullptr : Explain(error);
}

template <typename T>
const char* SumHeld(const HeldRows<T>& rows, void* stream) {
  using Stored = typename StorageOf<T>::type;
  using Sums = HeldSums<Stored>;
  if (rows.outer * rows.steps * rows.width == 0) return nullptr;
  const HeldParams<Stored> params = HeldParamsOf<Stored>(rows, CeilDiv(rows.width, kWarp));
  const int64_t blocks = rows.outer * params.blocks * params.groups;
  const cudaError_t error = LaunchKernel<SumHeldRows<Stored>>(
      {blocks, kHeldThreads, sizeof(typename Sums::Shared), static_cast<cudaStream_t>(stream)},
      params);
  return error == cudaSuccess ? nullptr : Explain(error);
}

#define TF_PLR_INSTANTIATE(type, element, ...)                       \
  template const char* Hold(const HeldRows<element>&, void*, void*); \
  template const char* SumHeld(const HeldRows<element>&, void*);
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE)
#undef TF_PLR_INSTANTIATE

}  // namespace gpu
}  // namespace tf_plr
