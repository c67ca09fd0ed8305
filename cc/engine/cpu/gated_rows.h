// SPDX-License-Identifier: MIT
// The inner loops of the CPU engine for gated cells; rows.h has the loops for other cells.
// Loading the carries costs little next to the arithmetic, so one loop serves every width. It takes
// groups of vectors of neighbouring columns, keeps the carries in memory, and pads the last vector
// if the row does not fill it.
#ifndef TF_PLR_ENGINE_CPU_GATED_ROWS_H_
#define TF_PLR_ENGINE_CPU_GATED_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "cc/engine/cpu/rows.h"
#include "cc/engine/cpu/simd.h"
#include "cc/engine/cpu/vector_math.h"
#include "cc/engine/problem.h"

namespace tf_plr {
namespace cpu {

// Like Rows, but each array has its own stride, and rows may have flags.
template <typename Cell, typename T>
struct GatedRows {
  const T* in[Cell::kInputs];
  T* out[Cell::kOutputs];
  int64_t in_strides[Cell::kInputs], out_strides[Cell::kOutputs];  // From row to row.
  const float* biases[Cell::kInputs];                              // One for each column; or null.
  StepFlags flags;                                                 // At the first row.
  int64_t flag_stride;
  typename Cell::Functions functions;
  int inputs;  // The first ones, which the pass reads.
  int64_t count, columns;
  void* vectors;  // Room for the carries of a row, as vectors of any width.
};

template <typename Cell, typename T, template <typename> class PassOf, int kLanes>
class GatedRowWalker {
  using Pass = PassOf<Cell>;
  using Carry = typename Pass::template Carry<float>;
  using V = Vector<float, kLanes>;
  using CarryV = Vector<Carry, kLanes>;
  using M = Memory<float, T, kLanes>;

 public:
  // carry: one for each column, updated in place.
  TF_PLR_INLINE static void Walk(GatedRows<Cell, T> rows, Carry* carry) {
    CarryV* const carries = static_cast<CarryV*>(rows.vectors);
    const int64_t whole = rows.columns / kLanes;
    const int rest = static_cast<int>(rows.columns % kLanes);
    for (int64_t v = 0; v < whole; ++v) carries[v] = LoadCarry(carry + v * kLanes, kLanes);
    if (rest > 0) carries[whole] = LoadCarry(carry + whole * kLanes, rest);
    for (int64_t row = 0; row < rows.count; ++row) {
      const bool masked = rows.flags.mask != nullptr && !*rows.flags.mask;
      const bool reset = rows.flags.resets != nullptr && *rows.flags.resets;
      const int64_t vectors = whole + (rest > 0);
      if (!Cell::kIsGradient && reset) std::fill_n(carries, vectors, CarryV{});
      int64_t v = 0;
      for (; v + kGroup <= whole; v += kGroup)
        Step<kGroup>(rows, v * kLanes, {masked, reset}, carries + v);
      for (; v < whole; ++v) Step<1>(rows, v * kLanes, {masked, reset}, carries + v);
      if (rest > 0) Step<1, true>(rows, v * kLanes, {masked, reset}, carries + v, rest);
      if (Cell::kIsGradient && reset) std::fill_n(carries, vectors, CarryV{});
      for (int k = 0; k < rows.inputs; ++k) rows.in[k] += rows.in_strides[k];
      for (int k = 0; k < Pass::kOutputs; ++k) {
        if (rows.out[k] != nullptr) rows.out[k] += rows.out_strides[k];
      }
      if (rows.flags.mask != nullptr) rows.flags.mask += rows.flag_stride;
      if (rows.flags.resets != nullptr) rows.flags.resets += rows.flag_stride;
    }
    for (int64_t v = 0; v < whole; ++v) StoreCarry(carries[v], carry + v * kLanes, kLanes);
    if (rest > 0) StoreCarry(carries[whole], carry + whole * kLanes, rest);
  }

 private:
  // Vectors that are computed together, so that a choice of functions serves all of them.
  static constexpr int kGroup = 4;

  struct FlagsOfStep {
    bool masked, reset;
  };

  // Runs one step of kCount vectors of columns. If kPart, only the first `width` columns exist.
  template <int kCount, bool kPart = false>
  TF_PLR_INLINE static void Step(const GatedRows<Cell, T>& rows, int64_t column, FlagsOfStep flags,
                                 CarryV* carries, int width = kLanes) {
    V in[Cell::kInputs][kCount];
    for (int k = 0; k < rows.inputs; ++k) {
      const bool has_bias = Cell::HasBias(k) && rows.biases[k] != nullptr;
      for (int i = 0; i < kCount; ++i) {
        const int64_t at = column + i * kLanes;
        if (flags.masked && Cell::WhereMasked(k) != Masked::kKept) {
          in[k][i] = V{} + ValueOf(Cell::WhereMasked(k));
          continue;
        }
        if (flags.reset && k == Cell::kLookahead) {
          in[k][i] = V{};
          continue;
        }
        in[k][i] = Load<T, kPart>(rows.in[k] + at, width);
        if (has_bias) in[k][i] = in[k][i] + Load<float, kPart>(rows.biases[k] + at, width);
      }
    }
    Transition<V> steps[kCount];
    Cell::template Step<Math<V>>(rows.functions, in, steps);
    if constexpr (Pass::kOutputs == 0) {
      for (int i = 0; i < kCount; ++i) carries[i] = Pass::Next(steps[i], carries[i]);
    } else {
      V before[kCount], after[kCount], out[Cell::kOutputs][kCount];
      for (int i = 0; i < kCount; ++i) {
        before[i] = carries[i];
        carries[i] = after[i] = Pass::Next(steps[i], before[i]);
      }
      Cell::template Emit<Math<V>>(rows.functions, in, before, after, out);
      for (int k = 0; k < Cell::kOutputs; ++k) {
        if (rows.out[k] == nullptr) continue;
        for (int i = 0; i < kCount; ++i) {
          Store<kPart>(out[k][i], rows.out[k] + column + i * kLanes, width);
        }
      }
    }
  }

  TF_PLR_INLINE static CarryV LoadCarry(const Carry* from, int width) {
    CarryV v;
    for (int lane = 0; lane < kLanes; ++lane) SetLane(v, lane, lane < width ? from[lane] : Carry{});
    return v;
  }
  TF_PLR_INLINE static void StoreCarry(const CarryV& v, Carry* to, int width) {
    for (int lane = 0; lane < width; ++lane) GetLane(v, lane, to[lane]);
  }

  template <typename Element, bool kPart>
  TF_PLR_INLINE static V Load(const Element* from, int width) {
    if constexpr (!kPart) return Memory<float, Element, kLanes>::Load(from);
    Element filled_up[kLanes] = {};
    std::copy_n(from, width, filled_up);
    return Memory<float, Element, kLanes>::Load(filled_up);
  }

  template <bool kPart>
  TF_PLR_INLINE static void Store(V v, T* to, int width) {
    if constexpr (!kPart) return M::Store(v, to);
    T filled_up[kLanes];
    M::Store(v, filled_up);
    std::copy_n(filled_up, width, to);
  }
};

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_GATED_ROWS_H_
