// SPDX-License-Identifier: MIT
// The 16-bit types on the CPU. They exist in memory only: vectors are widened to float32,
// accumulated, and narrowed again. The conversions use no special instructions, because not every
// processor has them. They use integers and normal float32 numbers only, so they stay exact if the
// caller has switched subnormal numbers off.
#ifndef TF_PLR_ENGINE_CPU_HALF_PRECISION_H_
#define TF_PLR_ENGINE_CPU_HALF_PRECISION_H_

#include <cstdint>
#include <cstring>

#include "Eigen/Core"
#include "cc/engine/cpu/simd.h"

namespace tf_plr {
namespace cpu {

template <>
struct AccumulatorOf<Eigen::half> {
  using type = float;
};
template <>
struct AccumulatorOf<Eigen::bfloat16> {
  using type = float;
};

// The vector types that convert kLanes values at once.
template <int kLanes>
struct Bits {
  using Float = Vector<float, kLanes>;
  using Word = Vector<uint32_t, kLanes>;
  using Short = Vector<uint16_t, kLanes>;

  template <typename To, typename From>
  TF_PLR_INLINE static To Cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
  }
  // Selects lane by lane. `condition` is the result of a comparison: all bits are set in the lanes
  // where it holds.
  template <typename Condition>
  TF_PLR_INLINE static Word Select(Condition condition, Word yes, Word no) {
    const Word mask = Cast<Word>(condition);
    return (mask & yes) | (~mask & no);
  }
};

// bfloat16 is the upper half of float32.
template <int kLanes>
struct Bfloat16Format : Bits<kLanes> {
  using typename Bits<kLanes>::Word;

  TF_PLR_INLINE static Word Widen(Word narrow) { return narrow << 16; }

  // To nearest, ties to even.
  TF_PLR_INLINE static Word Narrow(Word wide) {
    const Word rounded = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
    const Word quiet_nan = (wide >> 16) | 0x40;
    return Bits<kLanes>::Select((wide & 0x7fffffff) > 0x7f800000, quiet_nan, rounded);
  }
};

// float16 has 5 bits of exponent and 10 of fraction, float32 has 8 and 23. The method is that of
// Fabian Giesen, "Float->half variants" (https://gist.github.com/rygorous/2156668, public domain),
// here on vectors.
template <int kLanes>
struct Float16Format : Bits<kLanes> {
  using typename Bits<kLanes>::Float;
  using typename Bits<kLanes>::Word;
  template <typename To, typename From>
  TF_PLR_INLINE static To Cast(From from) {
    return Bits<kLanes>::template Cast<To>(from);
  }

  TF_PLR_INLINE static Word Widen(Word narrow) {
    const Word sign = (narrow & 0x8000) << 16;
    const Word magnitude = (narrow & 0x7fff) << 13;  // The exponent is 127 - 15 too small.
    const Word normal = magnitude + (112u << 23);
    const Word infinite_or_nan = magnitude + (224u << 23);
    // 0.fraction * 2^-14 is 1.fraction * 2^-14 less 2^-14.
    const Float first = Cast<Float>(magnitude + (113u << 23));
    const Word subnormal = Cast<Word>(first - Cast<Float>(Word{} + (113u << 23)));
    const Word finite = Bits<kLanes>::Select(magnitude < (1u << 23), subnormal, normal);
    return sign | Bits<kLanes>::Select(magnitude >= (31u << 23), infinite_or_nan, finite);
  }

  // Rounds to nearest, ties to even; numbers that are too large become infinite.
  TF_PLR_INLINE static Word Narrow(Word wide) {
    const Word sign = (wide >> 16) & 0x8000;
    const Word magnitude = wide & 0x7fffffff;
    const Word normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    // Adding 0.5 leaves 2^-24, float16's smallest, as the last bit of the fraction.
    const Float half = Cast<Float>(Word{} + (126u << 23));
    const Word subnormal = Cast<Word>(Cast<Float>(magnitude) + half) - (126u << 23);
    const Word finite = Bits<kLanes>::Select(magnitude < (113u << 23), subnormal, normal);
    const Word infinite_or_nan =
        Bits<kLanes>::Select(magnitude > (255u << 23), Word{} + 0x7e00, Word{} + 0x7c00);
    // 65520 and more round past the largest finite number.
    return sign | Bits<kLanes>::Select(magnitude >= 0x477ff000, infinite_or_nan, finite);
  }
};

template <typename T, typename Format, int kLanes>
struct HalfPrecisionMemory {
  using F = Bits<kLanes>;
  using Streamed = typename F::Short;  // The vector that one streaming store writes.

  TF_PLR_INLINE static typename F::Float Load(const T* from) {
    typename F::Short narrow;
    std::memcpy(&narrow, from, sizeof(narrow));
    return F::template Cast<typename F::Float>(
        Format::Widen(__builtin_convertvector(narrow, typename F::Word)));
  }
  TF_PLR_INLINE static void Store(typename F::Float v, T* to) {
    const Streamed narrow = Narrow(v);
    std::memcpy(static_cast<void*>(to), &narrow, sizeof(narrow));
  }
  TF_PLR_INLINE static void Stream(typename F::Float v, T* to) { StreamOut(Narrow(v), to); }

 private:
  TF_PLR_INLINE static Streamed Narrow(typename F::Float v) {
    return __builtin_convertvector(Format::Narrow(F::template Cast<typename F::Word>(v)), Streamed);
  }
};
template <int kLanes>
struct Memory<float, Eigen::bfloat16, kLanes>
    : HalfPrecisionMemory<Eigen::bfloat16, Bfloat16Format<kLanes>, kLanes> {};
template <int kLanes>
struct Memory<float, Eigen::half, kLanes>
    : HalfPrecisionMemory<Eigen::half, Float16Format<kLanes>, kLanes> {};

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_HALF_PRECISION_H_
