// SPDX-License-Identifier: MIT
// A task has one chunk of rows. Each row is widened once, into memory that stays in the cache.
#include "cc/engine/layer_normalization.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "cc/engine/cpu/half_precision.h"
#include "cc/engine/cpu/processor.h"
#include "cc/engine/cpu/simd.h"

namespace tf_plr {
namespace cpu {
namespace {

template <int kLanes>
using Floats = Vector<float, kLanes>;

template <int kLanes, typename T>
TF_PLR_INLINE Floats<kLanes> Load(const T* from) {
  return Memory<float, T, kLanes>::Load(from);
}
template <int kLanes, typename T>
TF_PLR_INLINE void Store(Floats<kLanes> v, T* to) {
  Memory<float, T, kLanes>::Store(v, to);
}

// A sum in several vectors, so that additions need not wait for each other.
template <int kLanes>
struct LongSum {
  static constexpr int kVectors = 4;
  Floats<kLanes> vectors[kVectors] = {};
  float rest = 0;

  TF_PLR_INLINE void Add(int vector, Floats<kLanes> v) { vectors[vector] += v; }
  TF_PLR_INLINE void Add(int, Floats<1> v) { rest += v[0]; }
  TF_PLR_INLINE float Total() const {
    const Floats<kLanes> all = (vectors[0] + vectors[1]) + (vectors[2] + vectors[3]);
    float total = rest;
    for (int lane = 0; lane < kLanes; ++lane) total += all[lane];
    return total;
  }
};

// Calls use(lanes, column, vector of LongSum) for all columns: for a register's lanes while it is
// full, then for one lane.
template <int kLanes, typename Use>
TF_PLR_INLINE void ForEachColumn(int64_t width, const Use& use) {
  constexpr int kVectors = LongSum<kLanes>::kVectors;
  using Lanes = std::integral_constant<int, kLanes>;
  int64_t column = 0;
  for (; column + kVectors * kLanes <= width; column += kVectors * kLanes) {
    for (int i = 0; i < kVectors; ++i) use(Lanes(), column + i * kLanes, i);
  }
  for (; column + kLanes <= width; column += kLanes) use(Lanes(), column, 0);
  for (; column < width; ++column) use(std::integral_constant<int, 1>(), column, 0);
}

template <int kRegisterBytes, typename T>
TF_PLR_INLINE void NormalizeRow(const LayerNormalization<T>& p, int64_t row, float* wide) {
  constexpr int kLanes = LanesOf<float>(kRegisterBytes);
  const T* const inputs = p.inputs + row * p.width;
  T* const outputs = p.outputs + row * p.width;
  const auto width = static_cast<float>(p.width);
  LongSum<kLanes> sum, squares;
  ForEachColumn<kLanes>(p.width, [&](auto n, int64_t i, int vector) TF_PLR_INLINE_LAMBDA {
    const auto x = Load<n>(inputs + i);
    Store<n>(x, wide + i);
    sum.Add(vector, x);
  });
  const float mean = sum.Total() / width;
  ForEachColumn<kLanes>(p.width, [&](auto n, int64_t i, int vector) TF_PLR_INLINE_LAMBDA {
    const auto centered = Load<n>(wide + i) - mean;
    Store<n>(centered, wide + i);
    squares.Add(vector, centered * centered);
  });
  const float inverse = 1 / std::sqrt(squares.Total() / width + p.epsilon);
  p.statistics[2 * row] = mean;
  p.statistics[2 * row + 1] = inverse;
  ForEachColumn<kLanes>(p.width, [&](auto n, int64_t i, int) TF_PLR_INLINE_LAMBDA {
    auto y = Load<n>(wide + i) * inverse * Load<n>(p.scale + i);
    if (p.bias != nullptr) y += Load<n>(p.bias + i);
    Store<n>(y, outputs + i);
  });
}

template <int kRegisterBytes, typename T>
TF_PLR_INLINE void DifferentiateRow(const LayerNormalizationGradient<T>& p, int64_t row,
                                    float* normalized, float* gradients, float* d_scale,
                                    float* d_bias) {
  constexpr int kLanes = LanesOf<float>(kRegisterBytes);
  const T *const inputs = p.inputs + row * p.width, *const d_outputs = p.d_outputs + row * p.width;
  T* const d_inputs = p.d_inputs + row * p.width;
  const auto width = static_cast<float>(p.width);
  const float mean = p.statistics[2 * row], inverse = p.statistics[2 * row + 1];
  LongSum<kLanes> sum, products;
  ForEachColumn<kLanes>(p.width, [&](auto n, int64_t i, int vector) TF_PLR_INLINE_LAMBDA {
    const auto x = (Load<n>(inputs + i) - mean) * inverse;
    const auto d_output = Load<n>(d_outputs + i);
    const auto g = d_output * Load<n>(p.scale + i);
    Store<n>(x, normalized + i);
    Store<n>(g, gradients + i);
    Store<n>(Load<n>(d_scale + i) + d_output * x, d_scale + i);
    if (d_bias != nullptr) Store<n>(Load<n>(d_bias + i) + d_output, d_bias + i);
    sum.Add(vector, g);
    products.Add(vector, g * x);
  });
  const float mean_gradient = sum.Total() / width, mean_product = products.Total() / width;
  ForEachColumn<kLanes>(p.width, [&](auto n, int64_t i, int) TF_PLR_INLINE_LAMBDA {
    const auto x = Load<n>(normalized + i), g = Load<n>(gradients + i);
    Store<n>((g - mean_gradient - x * mean_product) * inverse, d_inputs + i);
  });
}

// Calls run(row, memory, chunk) for all rows, with memory for `arrays` rows of floats.
template <typename T, typename Run>
const char* ForEachRow(int64_t rows, int64_t width, int arrays, const Workers& workers,
                       const Run& run) {
  using Chunks = LayerNormalizationGradient<T>;
  const int64_t chunk_rows = Chunks::ChunkRows(rows), size = arrays * width;
  const std::unique_ptr<float[]> memory(new (std::nothrow) float[workers.threads * size]);
  if (memory == nullptr) return "the CPU engine could not allocate memory for rows";
  RunTasks(workers, Chunks::Chunks(rows), [&](int64_t chunk, int worker) noexcept {
    const int64_t end = std::min((chunk + 1) * chunk_rows, rows);
    DispatchSimd([&](auto register_bytes) TF_PLR_INLINE_LAMBDA {
      for (int64_t row = chunk * chunk_rows; row < end; ++row) {
        run(register_bytes, row, memory.get() + worker * size, chunk);
      }
    });
  });
  return nullptr;
}

}  // namespace

template <typename T>
const char* Normalize(const LayerNormalization<T>& p, const Workers& workers) {
  return ForEachRow<T>(p.rows, p.width, 1, workers,
                       [&](auto register_bytes, int64_t row, float* memory, int64_t)
                           TF_PLR_INLINE_LAMBDA { NormalizeRow<register_bytes>(p, row, memory); });
}

template <typename T>
const char* DifferentiateNormalization(const LayerNormalizationGradient<T>& p,
                                       const Workers& workers) {
  const int64_t sums = p.Chunks(p.rows) * p.width;
  std::fill_n(p.d_scales, sums, 0.0f);
  if (p.d_biases != nullptr) std::fill_n(p.d_biases, sums, 0.0f);
  const auto differentiate = [&](auto register_bytes, int64_t row, float* memory,
                                 int64_t chunk) TF_PLR_INLINE_LAMBDA {
    float* const d_bias = p.d_biases == nullptr ? nullptr : p.d_biases + chunk * p.width;
    DifferentiateRow<register_bytes>(p, row, memory, memory + p.width, p.d_scales + chunk * p.width,
                                     d_bias);
  };
  return ForEachRow<T>(p.rows, p.width, 2, workers, differentiate);
}

#define TF_PLR_INSTANTIATE(type, element, ...)                                                \
  template const char* Normalize(const LayerNormalization<element>&, const Workers&);         \
  template const char* DifferentiateNormalization(const LayerNormalizationGradient<element>&, \
                                                  const Workers&);
TF_PLR_FOR_EACH_GATED_TYPE(TF_PLR_INSTANTIATE)
#undef TF_PLR_INSTANTIATE

}  // namespace cpu
}  // namespace tf_plr
