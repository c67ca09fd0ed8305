// SPDX-License-Identifier: MIT
// A team of one or more warps has one row at a time. It keeps as much of it in registers as fits,
// which is all of it unless the row is very wide.
#include <algorithm>
#include <cstdint>

#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/run.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/layer_normalization.h"

namespace tf_plr {
namespace gpu {

constexpr int kBlockWarps = 8;  // Of a block: one team of 8 warps, or 2 of 4, or ...

// How the threads of a block share rows. A thread holds kValues elements of a row at a time, in
// packs of kVector neighbours; together, the threads of a team hold a part of the row.
template <int kValues, int kVector>
class RowTeam {
 public:
  static constexpr int kPacks = kValues / kVector;

  struct Shared {
    float sums[2][kBlockWarps];  // Of each warp; used in turns.
  };

  // The warps of the smallest team that holds a row, or of the largest.
  static int WarpsFor(int64_t width) {
    int warps = 1;
    while (warps < kBlockWarps && int64_t{warps} * kWarp * kValues < width) warps *= 2;
    return warps;
  }

  __device__ RowTeam(Shared& shared, int64_t width, int warps)
      : shared_(shared),
        width_(width),
        warps_(warps),
        warp_(threadIdx.x / kWarp),
        thread_(threadIdx.x % (warps * kWarp)) {}

  __device__ int Number() const { return warp_ / warps_; }
  __device__ int64_t PartSize() const { return int64_t{warps_} * kWarp * kValues; }
  // The first column of a pack.
  __device__ int64_t Column(int64_t part, int pack) const {
    return part * PartSize() + (int64_t{pack} * warps_ * kWarp + thread_) * kVector;
  }
  __device__ bool Has(int64_t column) const { return column < width_; }

  // The sum over the team, in a fixed order. All threads of the block call together.
  __device__ float Sum(float value) {
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
      value += Shuffle(value, static_cast<int>(threadIdx.x % kWarp) ^ step);
    }
    if (warps_ == 1) return value;
    float (&sums)[kBlockWarps] = shared_.sums[turn_];
    turn_ ^= 1;
    if (threadIdx.x % kWarp == 0) sums[warp_] = value;
    __syncthreads();  // Publishes the warps' sums.
    value = 0;
    for (int i = 0; i < warps_; ++i) value += sums[Number() * warps_ + i];
    return value;
  }

 private:
  Shared& shared_;
  const int64_t width_;
  const int warps_, warp_, thread_;
  int turn_ = 0;
};

template <typename T, int kVector>
__device__ Pack<T, kVector> LoadPack(const T* from) {
  return *reinterpret_cast<const Pack<T, kVector>*>(from);
}

// Columns of the scale, as packs of up to 16 bytes.
template <int kVector>
__device__ void LoadScale(const float* from, float (&scale)[kVector]) {
  constexpr int kFloats = kVector < 4 ? kVector : 4;
#pragma unroll
  for (int v = 0; v < kVector; v += kFloats) {
    const auto pack = LoadPack<float, kFloats>(from + v);
#pragma unroll
    for (int i = 0; i < kFloats; ++i) scale[v + i] = pack.Get(i);
  }
}

template <typename T>
struct NormalizeParams {
  LayerNormalization<T> rows;
  int warps;  // Of a team.
};

template <int kValues, int kVectorValue>
struct NormalizeKernel {
  static constexpr int kVector = kVectorValue;
  using Team = RowTeam<kValues, kVector>;
};

template <typename Kernel, typename T>
__global__ void __launch_bounds__(kBlockWarps* kWarp)
    NormalizeRows(const __grid_constant__ NormalizeParams<T> params) {
  constexpr int kVector = Kernel::kVector;
  using Team = typename Kernel::Team;
  extern __shared__ __align__(16) char shared[];
  const LayerNormalization<T>& p = params.rows;
  Team team(*reinterpret_cast<typename Team::Shared*>(shared), p.width, params.warps);
  const int64_t row = int64_t{blockIdx.x} * (kBlockWarps / params.warps) + team.Number();
  const int64_t parts = row < p.rows ? (p.width + team.PartSize() - 1) / team.PartSize() : 0;
  const T* const inputs = p.inputs + row * p.width;

  Pack<T, kVector> packs[Team::kPacks];
  const auto load = [&](int64_t part) {
#pragma unroll
    for (int i = 0; i < Team::kPacks; ++i) {
      const int64_t column = team.Column(part, i);
      if (team.Has(column)) packs[i] = LoadPack<T, kVector>(inputs + column);
    }
  };
  // Calls use(pack, its first column) for all packs of a part.
  const auto for_each = [&](int64_t part, const auto& use) {
#pragma unroll
    for (int i = 0; i < Team::kPacks; ++i) {
      const int64_t column = team.Column(part, i);
      if (team.Has(column)) use(packs[i], column);
    }
  };

  float sum = 0, squares = 0;
  for (int64_t part = 0; part < parts; ++part) {
    load(part);
    for_each(part, [&](const auto& pack, int64_t) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) sum += pack.Get(v);
    });
  }
  const float mean = team.Sum(sum) / static_cast<float>(p.width);
  for (int64_t part = 0; part < parts; ++part) {
    if (parts > 1) load(part);
    for_each(part, [&](const auto& pack, int64_t) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        const float centered = pack.Get(v) - mean;
        squares += centered * centered;
      }
    });
  }
  const float variance = team.Sum(squares) / static_cast<float>(p.width);
  const float inverse = 1.0f / sqrtf(variance + p.epsilon);
  for (int64_t part = 0; part < parts; ++part) {
    if (parts > 1) load(part);
    for_each(part, [&](const auto& pack, int64_t column) {
      float scale[kVector], out[kVector];
      LoadScale(p.scale + column, scale);
#pragma unroll
      for (int v = 0; v < kVector; ++v) out[v] = (pack.Get(v) - mean) * inverse * scale[v];
      *reinterpret_cast<Pack<T, kVector>*>(p.outputs + row * p.width + column) =
          Pack<T, kVector>::Of(out);
    });
  }
  if (parts > 0 && team.Column(0, 0) == 0) {
    p.statistics[2 * row] = mean;
    p.statistics[2 * row + 1] = inverse;
  }
}

template <typename T>
struct NormalizationGradientParams {
  LayerNormalizationGradient<T> rows;
  int64_t chunk_rows;
  int warps;  // Of a team.
};

template <typename T, int kVectorValue>
struct NormalizationGradientKernel {
  static constexpr int kVector = kVectorValue;
  using Team = RowTeam<16, kVector>;
  struct Shared {
    typename Team::Shared team;
    float d_scale[kBlockWarps * kWarp * 16];  // [teams, columns]
  };
};

// A block has one chunk of rows; its teams take them in turns. Threads have the same columns of
// every row, so each sums the gradients of its own columns of the scale.
template <typename Kernel, typename T>
__global__ void __launch_bounds__(kBlockWarps* kWarp)
    DifferentiateRows(const __grid_constant__ NormalizationGradientParams<T> params) {
  constexpr int kVector = Kernel::kVector;
  using Team = typename Kernel::Team;
  extern __shared__ __align__(16) char shared[];
  auto& of_block = *reinterpret_cast<typename Kernel::Shared*>(shared);
  const LayerNormalizationGradient<T>& p = params.rows;
  Team team(of_block.team, p.width, params.warps);
  const int teams = kBlockWarps / params.warps;
  const int64_t parts = (p.width + team.PartSize() - 1) / team.PartSize();
  const int64_t first = int64_t{blockIdx.x} * params.chunk_rows;
  const int64_t end = min(first + params.chunk_rows, p.rows);
  float* const d_scale_of_chunk = p.d_scales + int64_t{blockIdx.x} * p.width;
  const auto width = static_cast<float>(p.width);

  // With several parts there is one team, and it sums in memory.
  float d_scale[Team::kPacks][kVector] = {};
  for (int64_t start = first; start < end; start += teams) {
    const int64_t row = start + team.Number();
    const bool exists = row < end;
    const float mean = exists ? p.statistics[2 * row] : 0;
    const float inverse = exists ? p.statistics[2 * row + 1] : 0;
    float normalized[Team::kPacks][kVector], gradients[Team::kPacks][kVector];
    // Calls use(pack number, its first column) for all packs of a part.
    const auto for_each = [&](int64_t part, const auto& use) {
#pragma unroll
      for (int i = 0; i < Team::kPacks; ++i) {
        const int64_t column = team.Column(part, i);
        if (exists && team.Has(column)) use(i, column);
      }
    };
    const auto load = [&](int64_t part, bool sum_d_scale) {
      Pack<T, kVector> inputs[Team::kPacks], d_outputs[Team::kPacks];
      for_each(part, [&](int i, int64_t column) {
        inputs[i] = LoadPack<T, kVector>(p.inputs + row * p.width + column);
        d_outputs[i] = LoadPack<T, kVector>(p.d_outputs + row * p.width + column);
      });
      for_each(part, [&](int i, int64_t column) {
        float scale[kVector];
        LoadScale(p.scale + column, scale);
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          const float d_output = d_outputs[i].Get(v);
          normalized[i][v] = (inputs[i].Get(v) - mean) * inverse;
          gradients[i][v] = d_output * scale[v];
          if (!sum_d_scale) continue;
          const float product = d_output * normalized[i][v];
          if (parts == 1) {
            d_scale[i][v] += product;
          } else {
            float& sum = d_scale_of_chunk[column + v];
            sum = row == first ? product : sum + product;
          }
        }
      });
    };
    float sum = 0, products = 0;
    for (int64_t part = 0; part < parts; ++part) {
      load(part, true);
      for_each(part, [&](int i, int64_t) {
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          sum += gradients[i][v];
          products += gradients[i][v] * normalized[i][v];
        }
      });
    }
    const float mean_gradient = team.Sum(sum) / width, mean_product = team.Sum(products) / width;
    for (int64_t part = 0; part < parts; ++part) {
      if (parts > 1) load(part, false);
      for_each(part, [&](int i, int64_t column) {
        float out[kVector];
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          out[v] = (gradients[i][v] - mean_gradient - normalized[i][v] * mean_product) * inverse;
        }
        *reinterpret_cast<Pack<T, kVector>*>(p.d_inputs + row * p.width + column) =
            Pack<T, kVector>::Of(out);
      });
    }
  }
  if (parts > 1) return;
  const int columns = static_cast<int>(team.PartSize());
#pragma unroll
  for (int i = 0; i < Team::kPacks; ++i) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) {
      of_block.d_scale[team.Number() * columns + team.Column(0, i) + v] = d_scale[i][v];
    }
  }
  __syncthreads();  // Publishes the teams' sums.
  for (int column = threadIdx.x; column < p.width; column += kBlockWarps * kWarp) {
    float sum = 0;
    for (int i = 0; i < teams; ++i) sum += of_block.d_scale[i * columns + column];
    d_scale_of_chunk[column] = sum;
  }
}

// Calls run(kVector) with the elements that can be loaded at once: 16 bytes, 4 bytes, or one.
template <typename T, typename Run>
const char* WithVector(int64_t width, std::initializer_list<const void*> arrays, const Run& run) {
  uintptr_t bits = static_cast<uintptr_t>(width) * sizeof(T);
  for (const void* array : arrays) bits |= reinterpret_cast<uintptr_t>(array);
  constexpr int kMost = 16 / sizeof(T), kFew = 4 / sizeof(T);
  const cudaError_t error = bits % 16 == 0  ? run(std::integral_constant<int, kMost>())
                            : bits % 4 == 0 ? run(std::integral_constant<int, kFew>())
                                            : run(std::integral_constant<int, 1>());
  return error == cudaSuccess ? nullptr : Explain(error);
}

template <typename Kernel, typename T>
cudaError_t LaunchNormalize(const LayerNormalization<T>& rows, cudaStream_t stream) {
  const int warps = Kernel::Team::WarpsFor(rows.width);
  return LaunchKernel<NormalizeRows<Kernel, T>>(
      {CeilDiv(rows.rows, kBlockWarps / warps), kBlockWarps * kWarp,
       sizeof(typename Kernel::Team::Shared), stream},
      NormalizeParams<T>{rows, warps});
}

template <typename T>
const char* Normalize(const LayerNormalization<T>& p, void* stream) {
  using Stored = typename StorageOf<T>::type;
  if (p.rows == 0) return nullptr;
  const LayerNormalization<Stored> rows{
      reinterpret_cast<const Stored*>(p.inputs), p.scale,     p.rows, p.width, p.epsilon,
      reinterpret_cast<Stored*>(p.outputs),      p.statistics};
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  return WithVector<Stored>(p.width, {p.inputs, p.outputs, p.scale}, [&](auto vector) {
    constexpr int kFew = 16,
                  kMany = 32;  // Values of a thread. Many leave threads of short rows idle.
    return p.width <= kFew * kWarp
               ? LaunchNormalize<NormalizeKernel<kFew, vector>>(rows, cuda_stream)
               : LaunchNormalize<NormalizeKernel<kMany, vector>>(rows, cuda_stream);
  });
}

template <typename T>
const char* DifferentiateNormalization(const LayerNormalizationGradient<T>& p, void* stream) {
  using Stored = typename StorageOf<T>::type;
  if (p.rows == 0) return nullptr;
  const auto arrays = {static_cast<const void*>(p.inputs), static_cast<const void*>(p.d_outputs),
                       static_cast<const void*>(p.d_inputs), static_cast<const void*>(p.scale)};
  return WithVector<Stored>(p.width, arrays, [&](auto vector) {
    using Kernel = NormalizationGradientKernel<Stored, vector>;
    const NormalizationGradientParams<Stored> params{
        {reinterpret_cast<const Stored*>(p.inputs), reinterpret_cast<const Stored*>(p.d_outputs),
         p.scale, p.statistics, p.rows, p.width, reinterpret_cast<Stored*>(p.d_inputs), p.d_scales},
        p.ChunkRows(p.rows),
        Kernel::Team::WarpsFor(p.width)};
    return LaunchKernel<DifferentiateRows<Kernel, Stored>>(
        {p.Chunks(p.rows), kBlockWarps * kWarp, sizeof(typename Kernel::Shared),
         static_cast<cudaStream_t>(stream)},
        params);
  });
}

#define TF_PLR_INSTANTIATE(type, element, ...)                                                \
  template const char* Normalize(const LayerNormalization<element>&, void*);                  \
  template const char* DifferentiateNormalization(const LayerNormalizationGradient<element>&, \
                                                  void*);
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE)
#undef TF_PLR_INSTANTIATE

}  // namespace gpu
}  // namespace tf_plr
