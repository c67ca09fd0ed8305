// SPDX-License-Identifier: MIT
// The inner loops of the CPU engine: one pass over consecutive rows of one range of columns.
//
// There are two passes. A scan moves a carry through the rows and writes the outputs. A reduction
// writes nothing; it composes the rows into one transition per column. And there are two ways to
// fill vectors:
//
//   columns   neighbouring columns of one row; the carries are vectors too, in registers if they
//             fit;
//   packed    several rows that are shorter than a vector. Their steps are composed within the
//             vector, in log2(rows) rounds, before the carry is applied: the chain of dependent
//             operations has one multiply-add per vector instead of one per row.
#ifndef TF_PLR_ENGINE_CPU_ROWS_H_
#define TF_PLR_ENGINE_CPU_ROWS_H_

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cc/engine/cpu/simd.h"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace cpu {

// `in` and `out` point to the first row in processing order. `stride` is the distance in elements
// from each row to the next one; it is negative in reverse.
template <typename Cell, typename T>
struct Rows {
  const T* in[Cell::kInputs];
  T* out[Cell::kOutputs];
  int64_t stride, count, columns;
  bool stream_out;  // Outputs bypass the caches, where stores can.
  void* vectors;    // Room for the carries of a row, as vectors of any width.
};

template <typename Cell>
struct ScanPass {
  static constexpr int kInputs = Cell::kInputs;
  static constexpr int kOutputs = Cell::kOutputs;
  static int CountInputs(const typename Cell::Functions&) { return kInputs; }
  template <typename A>
  using Carry = A;

  template <typename A>
  TF_PLR_INLINE static A Next(Transition<A> step, A carry) {
    return step.Apply(carry);
  }
};

template <typename Cell>
struct ReducePass {
  static constexpr int kInputs = Cell::kStepInputs;
  static constexpr int kOutputs = 0;
  static int CountInputs(const typename Cell::Functions& functions) {
    return Cell::StepInputs(functions);
  }
  template <typename A>
  using Carry = Transition<A>;

  template <typename A>
  TF_PLR_INLINE static Transition<A> Next(Transition<A> step, Transition<A> carry) {
    return Compose(carry, step);
  }
};

// T: the arrays' type. A: the accumulator's type. kLanes: the number of lanes of a vector.
template <typename Cell, typename T, typename A, template <typename> class PassOf, int kLanes>
class RowWalker {
  using Pass = PassOf<Cell>;
  using Carry = typename Pass::template Carry<A>;
  using V = Vector<A, kLanes>;
  using CarryV = Vector<Carry, kLanes>;
  using M = Memory<A, T, kLanes>;
  using NarrowerWalker = RowWalker<Cell, T, A, PassOf, kLanes / 2>;
  static constexpr int kMaxVectors = 4;

 public:
  // carry: one for each column, updated in place.
  TF_PLR_INLINE static void Walk(const Rows<Cell, T>& rows, Carry* carry) {
    if (Packed<1>(rows, carry)) return;
    if (rows.columns < kLanes) {
      if constexpr (kLanes > 1) NarrowerWalker::WalkNarrow(rows, carry);
    } else if (!InRegisters<1, kMaxVectors>(rows, carry)) {
      InMemory(rows, carry);
    }
  }

  // Walks rows that have fewer columns than a full vector has lanes.
  TF_PLR_INLINE static void WalkNarrow(const Rows<Cell, T>& rows, Carry* carry) {
    if (rows.columns >= kLanes) {
      InRegisters<1, 2>(rows, carry);
    } else if constexpr (kLanes > 1) {
      NarrowerWalker::WalkNarrow(rows, carry);
    }
  }

 private:
  struct Inputs {
    V values[Cell::kInputs];
  };

  TF_PLR_INLINE static Inputs LoadInputs(const Rows<Cell, T>& rows, int64_t at) {
    Inputs in;
    for (int k = 0; k < Pass::kInputs; ++k) in.values[k] = M::Load(rows.in[k] + at);
    return in;
  }

  template <bool kStreamOut = false>
  TF_PLR_INLINE static CarryV VectorStep(const Rows<Cell, T>& rows, const Inputs& in, int64_t at,
                                         CarryV before) {
    V out[Cell::kOutputs];
    const CarryV after = Pass::Next(Cell::template Step<void>(in.values), before);
    if constexpr (Pass::kOutputs > 0) Cell::template Emit<void>(in.values, before, after, out);
    for (int k = 0; k < Pass::kOutputs; ++k) {
      if constexpr (kStreamOut) {
        M::Stream(out[k], rows.out[k] + at);
      } else {
        M::Store(out[k], rows.out[k] + at);
      }
    }
    return after;
  }
  template <bool kStreamOut = false>
  TF_PLR_INLINE static CarryV VectorStep(const Rows<Cell, T>& rows, int64_t at, CarryV before) {
    return VectorStep<kStreamOut>(rows, LoadInputs(rows, at), at, before);
  }

  // The last vector ends where the row ends, so it may overlap the one before and compute some
  // columns twice. Its inputs are loaded first, because outputs may overwrite them.
  TF_PLR_INLINE static int64_t FirstColumn(const Rows<Cell, T>& rows, int64_t vector) {
    return std::min(vector * kLanes, rows.columns - kLanes);
  }

  // Keeps the carries in registers. Recursion increases kVectors to the number of vectors that a
  // row needs. Returns false if that number exceeds kLimit.
  template <int kVectors, int kLimit>
  TF_PLR_INLINE static bool InRegisters(const Rows<Cell, T>& rows, Carry* carry) {
    if constexpr (kVectors > kLimit) {
      return false;
    } else {
      if (rows.columns > kVectors * kLanes) {
        return InRegisters<kVectors + 1, kLimit>(rows, carry);
      }
      CarryV carries[kVectors];
      for (int v = 0; v < kVectors; ++v) carries[v] = LoadCarry(carry + FirstColumn(rows, v));
      for (int64_t row = 0, at = 0; row < rows.count; ++row, at += rows.stride) {
        const int64_t last = at + rows.columns - kLanes;
        const Inputs last_in = LoadInputs(rows, last);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors - 1; ++v) {
          carries[v] = VectorStep(rows, at + v * kLanes, carries[v]);
        }
        carries[kVectors - 1] = VectorStep(rows, last_in, last, carries[kVectors - 1]);
      }
      for (int v = 0; v < kVectors; ++v) StoreCarry(carries[v], carry + FirstColumn(rows, v));
      return true;
    }
  }

  TF_PLR_INLINE static void InMemory(const Rows<Cell, T>& rows, Carry* carry) {
    if constexpr (kCanStream<typename M::Streamed> && Pass::kOutputs > 0) {
      uintptr_t alignment = (rows.stride | rows.columns) * sizeof(T);
      for (const T* out : rows.out) alignment |= reinterpret_cast<uintptr_t>(out);
      if (rows.stream_out && alignment % (kLanes * sizeof(T)) == 0) {
        InMemory<true>(rows, carry);
        FinishStreaming();
        return;
      }
    }
    InMemory<false>(rows, carry);
  }

  template <bool kStreamOut>
  TF_PLR_INLINE static void InMemory(const Rows<Cell, T>& rows, Carry* carry) {
    const int64_t count = (rows.columns - 1) / kLanes;  // Vectors before the last one.
    CarryV* const carries = static_cast<CarryV*>(rows.vectors);
    for (int64_t v = 0; v <= count; ++v) carries[v] = LoadCarry(carry + FirstColumn(rows, v));
    for (int64_t row = 0, at = 0; row < rows.count; ++row, at += rows.stride) {
      const int64_t last = at + rows.columns - kLanes;
      const Inputs last_in = LoadInputs(rows, last);
      if (rows.stride > 0) {
        for (int64_t v = 0; v < count; ++v) {
          carries[v] = VectorStep<kStreamOut>(rows, at + v * kLanes, carries[v]);
        }
      } else {  // Memory is read fastest in one direction.
        for (int64_t v = count - 1; v >= 0; --v) {
          carries[v] = VectorStep<kStreamOut>(rows, at + v * kLanes, carries[v]);
        }
      }
      carries[count] = VectorStep<kStreamOut>(rows, last_in, last, carries[count]);
    }
    for (int64_t v = 0; v <= count; ++v) StoreCarry(carries[v], carry + FirstColumn(rows, v));
  }

  // Doubles kColumns until it equals the number of columns. Returns false if that is not a power of
  // two, if a row fills a vector, or if rows are not contiguous.
  template <int kColumns>
  TF_PLR_INLINE static bool Packed(const Rows<Cell, T>& rows, Carry* carry) {
    if constexpr (kColumns >= kLanes) {
      return false;
    } else {
      if (rows.columns != kColumns) return Packed<2 * kColumns>(rows, carry);
      if (rows.stride != kColumns && rows.stride != -kColumns) return false;
      if (rows.stride > 0) {
        PackedTowards<kColumns, false>(rows, carry);
      } else {
        PackedTowards<kColumns, true>(rows, carry);
      }
      return true;
    }
  }

  template <int kColumns, bool kReverse>
  TF_PLR_INLINE static void PackedTowards(const Rows<Cell, T>& rows, Carry* carry) {
    constexpr int64_t kRows = kLanes / kColumns;
    CarryV after;
    for (int lane = 0; lane < kLanes; ++lane) SetLane(after, lane, carry[lane % kColumns]);
    Rows<Cell, T> at = rows;
    const auto advance = [&at](int64_t elements) TF_PLR_INLINE_LAMBDA {
      for (int k = 0; k < Pass::kInputs; ++k) at.in[k] += elements;
      for (int k = 0; k < Pass::kOutputs; ++k) at.out[k] += elements;
    };
    if (kReverse) advance(kColumns - kLanes);
    for (; at.count >= kRows; at.count -= kRows) {
      after = PackedStep<kColumns, kReverse>(at, after);
      advance(kReverse ? -kLanes : kLanes);
    }
    int last = kLanes;
    if (at.count > 0) {  // Pad the last rows with zeros to a full vector.
      last = static_cast<int>(at.count) * kColumns;
      const int skip = kReverse ? kLanes - last : 0;
      T in[Cell::kInputs][kLanes] = {}, out[Cell::kOutputs][kLanes];
      Rows<Cell, T> copy;
      for (int k = 0; k < Cell::kInputs; ++k) copy.in[k] = in[k];
      for (int k = 0; k < Cell::kOutputs; ++k) copy.out[k] = out[k];
      for (int k = 0; k < Pass::kInputs; ++k) std::copy_n(at.in[k] + skip, last, in[k] + skip);
      after = PackedStep<kColumns, kReverse>(copy, after);
      for (int k = 0; k < Pass::kOutputs; ++k) std::copy_n(out[k] + skip, last, at.out[k] + skip);
    }
    for (int c = 0; c < kColumns; ++c) GetLane(after, last - kColumns + c, carry[c]);
  }

  // Processes the rows that fill one vector. `rows` points to the lowest address of that vector.
  // The last kColumns lanes of `before` are the carries of the row before.
  template <int kColumns, bool kReverse>
  TF_PLR_INLINE static CarryV PackedStep(const Rows<Cell, T>& rows, CarryV before) {
    using LastRow = RepeatLastOrder<kLanes, kColumns>;
    using PreviousRow = ShiftOrder<kLanes, kColumns>;
    using ProcessingOrder =
        std::conditional_t<kReverse, ReverseRowsOrder<kLanes, kColumns>, SameOrder>;
    V in[Cell::kInputs], out[Cell::kOutputs];
    for (int k = 0; k < Pass::kInputs; ++k) {
      const V loaded = M::Load(rows.in[k]);
      in[k] = Shuffle<ProcessingOrder>(loaded, loaded);
    }
    const CarryV after = Pass::Next(ComposeRows<kColumns>(Cell::template Step<void>(in)),
                                    Shuffle<LastRow>(before, before));
    if constexpr (Pass::kOutputs > 0) {
      Cell::template Emit<void>(in, Shuffle<PreviousRow>(before, after), after, out);
    }
    for (int k = 0; k < Pass::kOutputs; ++k) {
      M::Store(Shuffle<ProcessingOrder>(out[k], out[k]), rows.out[k]);
    }
    return after;
  }

  // Scans the steps over the rows of the vector: each lane's step becomes the transition over its
  // row and all earlier rows. This round composes rows that are kDistance lanes apart.
  template <int kDistance>
  TF_PLR_INLINE static Transition<V> ComposeRows(Transition<V> steps) {
    if constexpr (kDistance >= kLanes) {
      return steps;
    } else {
      const Transition<V> identity = Broadcast<kLanes>(Transition<A>::Identity());
      const auto earlier = Shuffle<ShiftOrder<kLanes, kDistance>>(identity, steps);
      return ComposeRows<2 * kDistance>(Compose(earlier, steps));
    }
  }

  TF_PLR_INLINE static CarryV LoadCarry(const Carry* from) {
    CarryV v;
    for (int lane = 0; lane < kLanes; ++lane) SetLane(v, lane, from[lane]);
    return v;
  }
  TF_PLR_INLINE static void StoreCarry(CarryV v, Carry* to) {
    for (int lane = 0; lane < kLanes; ++lane) GetLane(v, lane, to[lane]);
  }
};

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_ROWS_H_
