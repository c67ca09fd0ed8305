// SPDX-License-Identifier: MIT
// The Math of activations.h for vectors of floats, on a CPU.
#ifndef TF_PLR_ENGINE_CPU_VECTOR_MATH_H_
#define TF_PLR_ENGINE_CPU_VECTOR_MATH_H_

#include <cstdint>
#include <cstring>

#include "cc/engine/cells/activations.h"
#include "cc/engine/cpu/processor.h"
#include "cc/engine/cpu/simd.h"

namespace tf_plr {

template <typename V>
struct Math {
  static constexpr bool kIsNarrow = false, kIsCoarse = false;
  using Word = cpu::Vector<uint32_t, sizeof(V) / sizeof(uint32_t)>;

  // Selects lane by lane. `condition` is the result of a comparison: all bits are set in the lanes
  // where it holds.
  template <typename Condition>
  TF_PLR_INLINE static V Where(Condition condition, V yes, V no) {
    const Word mask = Cast<Word>(condition);
    return Cast<V>((mask & Cast<Word>(yes)) | (~mask & Cast<Word>(no)));
  }
  TF_PLR_INLINE static V Abs(V x) { return Cast<V>(Cast<Word>(x) & 0x7fffffffu); }
  TF_PLR_INLINE static V Max(V a, V b) { return Where(a < b, b, a); }
  TF_PLR_INLINE static V Min(V a, V b) { return Where(a > b, b, a); }
  TF_PLR_INLINE static V Divide(V a, V b) { return a / b; }

  template <typename Body>
  TF_PLR_INLINE static void OutOfLine(const Body& body) {
    cpu::RunWith<sizeof(V)>(body);
  }

  // Computes 2^n * e^r, where n is the integer nearest to x / ln 2. Returns 0 for x below -87.
  TF_PLR_INLINE static V Exp(V x) {
    constexpr float kLeast = -87.0f;
    constexpr float kLog2E = 1.44269504f;
    constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // n * kLn2High is exact.
    constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: adding it puts n into the low bits.
    constexpr int kFractionBits = 23;
    constexpr uint32_t kOne = 0x3f800000;
    const auto is_tiny = x < kLeast;
    x = Where(is_tiny, V{} + kLeast, x);
    const V shifted = x * kLog2E + kToInteger;
    const V n = shifted - kToInteger;
    const V r = (x - n * kLn2High) - n * kLn2Low;
    const V series = 1.0f + (r + r * r *
                                     Polynomial(r, 0.5f, 0.1666651815f, 0.04166620597f,
                                                0.008368885145f, 0.001395048224f));
    return Where(is_tiny, V{}, series * Cast<V>((Cast<Word>(shifted) << kFractionBits) + kOne));
  }

 private:
  template <typename To, typename From>
  TF_PLR_INLINE static To Cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
  }
};

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_VECTOR_MATH_H_
