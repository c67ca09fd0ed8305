// SPDX-License-Identifier: MIT
// A team of one or more warps has one row at a time. It keeps as much of it in registers as fits,
// which is all of it unless the row is very wide.
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "cc/engine/gpu/launch.cuh"
#include "cc/engine/gpu/pack.cuh"
#include "cc/engine/gpu/run.cuh"
#include "cc/engine/gpu/warp.cuh"
#include "cc/engine/layer_normalization.h"

namespace tf_plr {
namespace gpu {

constexpr int kBlockWarps = 8;  // Of a block. They are 1, 2, 4 or 8 teams.

// How the threads of a block share rows. A thread holds kValues elements of a row at a time, in
// packs of kVector neighbours; together, the threads of a team hold a part of the row.
template <int kValues, int kVector>
class RowTeam {
 public:
  static constexpr int kPacks = kValues / kVector, kMostSums = 2;

  struct Shared {
    float sums[2][kBlockWarps][kMostSums];  // Of each warp; used in turns.
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

  // Replaces values by their sums over the team, in a fixed order. All threads of the block call
  // together.
  template <int kCount>
  __device__ void Sum(float (&values)[kCount]) {
    static_assert(kCount <= kMostSums);
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
#pragma unroll
      for (float& value : values) {
        value += Shuffle(value, static_cast<int>(threadIdx.x % kWarp) ^ step);
      }
    }
    if (warps_ == 1) return;
    auto& sums = shared_.sums[turn_];
    turn_ ^= 1;
    if (threadIdx.x % kWarp == 0) {
      for (int k = 0; k < kCount; ++k) sums[warp_][k] = values[k];
    }
    __syncthreads();  // Publishes the warps' sums.
    for (int k = 0; k < kCount; ++k) {
      values[k] = 0;
      for (int i = 0; i < warps_; ++i) values[k] += sums[Number() * warps_ + i][k];
    }
  }

 private:
  Shared& shared_;
  const int64_t width_;
  const int warps_, warp_, thread_;
  int turn_ = 0;
};

// Load and store kVector floats, up to 16 bytes at once.
template <int kVector>
__device__ void LoadFloats(const float* from, float (&floats)[kVector]) {
  constexpr int kAtOnce = kVector < 4 ? kVector : 4;
#pragma unroll
  for (int v = 0; v < kVector; v += kAtOnce) {
    const auto pack = *reinterpret_cast<const Pack<float, kAtOnce>*>(from + v);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) floats[v + i] = pack.Get(i);
  }
}
template <int kVector>
__device__ void StoreFloats(const float (&floats)[kVector], float* to) {
  constexpr int kAtOnce = kVector < 4 ? kVector : 4;
#pragma unroll
  for (int v = 0; v < kVector; v += kAtOnce) {
    float part[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) part[i] = floats[v + i];
    *reinterpret_cast<Pack<float, kAtOnce>*>(to + v) = Pack<float, kAtOnce>::Of(part);
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
      if (team.Has(column)) packs[i] = *reinterpret_cast<const Pack<T, kVector>*>(inputs + column);
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

  float sum[1] = {}, squares[1] = {};
  for (int64_t part = 0; part < parts; ++part) {
    load(part);
    for_each(part, [&](const auto& pack, int64_t) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) sum[0] += pack.Get(v);
    });
  }
  team.Sum(sum);
  const float mean = sum[0] / static_cast<float>(p.width);
  for (int64_t part = 0; part < parts; ++part) {
    if (parts > 1) load(part);
    for_each(part, [&](const auto& pack, int64_t) {
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        const float centered = pack.Get(v) - mean;
        squares[0] += centered * centered;
      }
    });
  }
  team.Sum(squares);
  const float variance = squares[0] / static_cast<float>(p.width);
  const float inverse = 1.0f / sqrtf(variance + p.epsilon);
  for (int64_t part = 0; part < parts; ++part) {
    if (parts > 1) load(part);
    for_each(part, [&](const auto& pack, int64_t column) {
      float scale[kVector], bias[kVector] = {}, out[kVector];
      LoadFloats(p.scale + column, scale);
      if (p.bias != nullptr) LoadFloats(p.bias + column, bias);
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        out[v] = (pack.Get(v) - mean) * inverse * scale[v] + bias[v];
      }
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
  static constexpr int kValues = 64 / sizeof(T);
  static constexpr int kBlocks = sizeof(T) == 4 && kVector == 4 ? 3 : 2;  // As registers allow.
  using Team = RowTeam<kValues, kVector>;
  struct Shared {
    typename Team::Shared team;
    alignas(16) float d_scale[kBlockWarps * kWarp * kValues];  // [teams, columns]
    alignas(16) float d_bias[kBlockWarps * kWarp * kValues];
  };
};

// A block has one chunk of rows; its teams take them in turns. A thread has the same columns of
// every row, and sums the gradients of their scales and biases: in shared memory if a team holds a
// row, otherwise in the results, as there is then one team.
template <typename Kernel, typename T>
__global__ void __launch_bounds__(kBlockWarps* kWarp, Kernel::kBlocks)
    DifferentiateRows(const __grid_constant__ NormalizationGradientParams<T> params) {
  constexpr int kVector = Kernel::kVector;
  using Team = typename Kernel::Team;
  using RowPack = Pack<T, kVector>;
  extern __shared__ __align__(16) char shared[];
  auto& of_block = *reinterpret_cast<typename Kernel::Shared*>(shared);
  const LayerNormalizationGradient<T>& p = params.rows;
  Team team(of_block.team, p.width, params.warps);
  const int teams = kBlockWarps / params.warps;
  const int64_t parts = (p.width + team.PartSize() - 1) / team.PartSize();
  const int64_t first = int64_t{blockIdx.x} * params.chunk_rows;
  const int64_t end = min(first + params.chunk_rows, p.rows);
  const auto width = static_cast<float>(p.width);
  const bool has_bias = p.d_biases != nullptr;
  float* const d_scale_of_chunk = p.d_scales + int64_t{blockIdx.x} * p.width;
  float* const d_bias_of_chunk = p.d_biases + (has_bias ? int64_t{blockIdx.x} * p.width : 0);
  const int64_t team_offset = team.Number() * team.PartSize();
  float* const d_scale = parts == 1 ? of_block.d_scale + team_offset : d_scale_of_chunk;
  float* const d_bias = parts == 1 ? of_block.d_bias + team_offset : d_bias_of_chunk;

  // Calls use(pack number, its first column) for all packs of a part.
  const auto for_each = [&](int64_t part, const auto& use) {
#pragma unroll
    for (int i = 0; i < Team::kPacks; ++i) {
      const int64_t column = team.Column(part, i);
      if (team.Has(column)) use(i, column);
    }
  };
  for (int64_t part = 0; part < parts; ++part) {
    for_each(part, [&](int, int64_t column) {
      const float zeros[kVector] = {};
      StoreFloats(zeros, d_scale + column);
      if (has_bias) StoreFloats(zeros, d_bias + column);
    });
  }
  for (int64_t start = first; start < end; start += teams) {
    const int64_t row = start + team.Number();
    const int64_t parts_of_row = row < end ? parts : 0;
    const float mean = row < end ? p.statistics[2 * row] : 0;
    const float inverse = row < end ? p.statistics[2 * row + 1] : 0;
    RowPack inputs[Team::kPacks], d_outputs[Team::kPacks];
    const auto load = [&](int64_t part) {
      for_each(part, [&](int i, int64_t column) {
        inputs[i] = *reinterpret_cast<const RowPack*>(p.inputs + row * p.width + column);
        d_outputs[i] = *reinterpret_cast<const RowPack*>(p.d_outputs + row * p.width + column);
      });
    };
    const auto normalized = [&](int i, int v) { return (inputs[i].Get(v) - mean) * inverse; };
    float sums_of_row[2] = {};  // Of g and g n.
    for (int64_t part = 0; part < parts_of_row; ++part) {
      load(part);
      for_each(part, [&](int i, int64_t column) {
        float scale[kVector], sums[kVector];
        LoadFloats(p.scale + column, scale);
        LoadFloats(d_scale + column, sums);
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          const float d_output = d_outputs[i].Get(v), product = d_output * normalized(i, v);
          sums_of_row[0] += scale[v] * d_output;
          sums_of_row[1] += scale[v] * product;
          sums[v] += product;
        }
        StoreFloats(sums, d_scale + column);
        if (!has_bias) return;
        LoadFloats(d_bias + column, sums);
#pragma unroll
        for (int v = 0; v < kVector; ++v) sums[v] += d_outputs[i].Get(v);
        StoreFloats(sums, d_bias + column);
      });
    }
    team.Sum(sums_of_row);
    const float mean_gradient = sums_of_row[0] / width, mean_product = sums_of_row[1] / width;
    for (int64_t part = 0; part < parts_of_row; ++part) {
      if (parts > 1) load(part);
      for_each(part, [&](int i, int64_t column) {
        float scale[kVector], out[kVector];
        LoadFloats(p.scale + column, scale);
#pragma unroll
        for (int v = 0; v < kVector; ++v) {
          // Rounded as it was summed: in a row of one element, the difference must be 0.
          const float gradient = __fmul_rn(scale[v], d_outputs[i].Get(v));
          out[v] = (gradient - mean_gradient - normalized(i, v) * mean_product) * inverse;
        }
        *reinterpret_cast<RowPack*>(p.d_inputs + row * p.width + column) = RowPack::Of(out);
      });
    }
  }
  if (parts > 1) return;
  __syncthreads();  // Publishes the teams' sums.
  const auto add_teams = [&](const float* of_teams, float* to) {
    for (int column = threadIdx.x; column < p.width; column += kBlockWarps * kWarp) {
      float sum = 0;
      for (int i = 0; i < teams; ++i) sum += of_teams[i * team.PartSize() + column];
      to[column] = sum;
    }
  };
  add_teams(of_block.d_scale, d_scale_of_chunk);
  if (has_bias) add_teams(of_block.d_bias, d_bias_of_chunk);
}

// Calls run(kVector) with the elements that can be loaded at once: 16 bytes, 4 bytes, or one.
// `floats` are accessed at the same columns.
template <typename T, typename Run>
const char* WithVector(int64_t width, std::initializer_list<const T*> arrays,
                       std::initializer_list<const float*> floats, const Run& run) {
  constexpr int kMost = 16 / sizeof(T), kFew = sizeof(T) < 4 ? 4 / sizeof(T) : 1;
  const auto suits = [&](int vector) {
    const size_t bytes = vector * sizeof(T), bytes_of_floats = std::min(vector, 4) * sizeof(float);
    bool suits = width % vector == 0;
    for (const T* array : arrays) suits &= reinterpret_cast<uintptr_t>(array) % bytes == 0;
    for (const float* array : floats) {
      suits &= reinterpret_cast<uintptr_t>(array) % bytes_of_floats == 0;
    }
    return suits;
  };
  const cudaError_t error = suits(kMost)  ? run(std::integral_constant<int, kMost>())
                            : suits(kFew) ? run(std::integral_constant<int, kFew>())
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
      reinterpret_cast<const Stored*>(p.inputs), p.scale,     p.bias, p.rows, p.width, p.epsilon,
      reinterpret_cast<Stored*>(p.outputs),      p.statistics};
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  constexpr int kFew = 16, kMany = 32;  // Values of a thread. In short rows, few keep all busy.
  return WithVector<Stored>(
      p.width, {rows.inputs, rows.outputs}, {p.scale, p.bias}, [&](auto vector) {
        return p.width <= kFew * kWarp
                   ? LaunchNormalize<NormalizeKernel<kFew, vector>>(rows, cuda_stream)
                   : LaunchNormalize<NormalizeKernel<kMany, vector>>(rows, cuda_stream);
      });
}

template <typename T>
const char* DifferentiateNormalization(const LayerNormalizationGradient<T>& p, void* stream) {
  using Stored = typename StorageOf<T>::type;
  if (p.rows == 0) return nullptr;
  const LayerNormalizationGradient<Stored> rows{reinterpret_cast<const Stored*>(p.inputs),
                                                reinterpret_cast<const Stored*>(p.d_outputs),
                                                p.scale,
                                                p.statistics,
                                                p.rows,
                                                p.width,
                                                reinterpret_cast<Stored*>(p.d_inputs),
                                                p.d_scales,
                                                p.d_biases};
  return WithVector<Stored>(
      p.width, {rows.inputs, rows.d_outputs, rows.d_inputs}, {p.scale, p.d_scales, p.d_biases},
      [&](auto vector) {
        using Kernel = NormalizationGradientKernel<Stored, vector>;
        const int warps = Kernel::Team::WarpsFor(p.width);
        return LaunchKernel<DifferentiateRows<Kernel, Stored>>(
            {p.Chunks(p.rows), kBlockWarps * kWarp, sizeof(typename Kernel::Shared),
             static_cast<cudaStream_t>(stream)},
            NormalizationGradientParams<Stored>{rows, p.ChunkRows(p.rows), warps});
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
