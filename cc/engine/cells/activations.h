// SPDX-License-Identifier: MIT
// The functions that make up gates, candidates and outputs, and their derivatives. Each is written
// once, for a float on a GPU and for a vector of floats on a CPU; Math holds what differs between
// the two.
//
// All but the coarse ones keep relative accuracy near zero, as TensorFlow's activations do, and
// have no branches. The polynomials are minimax fits with a relative error below 5e-9, or 1.2e-7 in
// gelu. The rest of the error is float32 rounding, including that of the exponential's argument.
#ifndef TF_PLR_ENGINE_CELLS_ACTIVATIONS_H_
#define TF_PLR_ENGINE_CELLS_ACTIVATIONS_H_

#include <cmath>

#include "cc/engine/numeric.h"

namespace tf_plr {

// Has Exp (for arguments up to 88; Exp of -infinity is 0), Divide (by at least 1), Abs, Max and Min
// (of a number, which may be NaN, and a bound) and Where (by lanes). cpu/vector_math.h defines it
// for vectors. On a CPU, OutOfLine calls a body that is compiled once, not in each of its callers.
template <typename A>
struct Math;

template <>
struct Math<float> {
  static constexpr bool kIsNarrow = false, kIsCoarse = false;

  TF_PLR_HOST_DEVICE static float Exp(float x) {
#if defined(__CUDA_ARCH__)
    constexpr float kLog2E = 1.44269504f;
    float value;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x * kLog2E));
    return value;
#else
    return std::exp(x);
#endif
  }
  TF_PLR_HOST_DEVICE static float Divide(float a, float b) {
#if defined(__CUDA_ARCH__)
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(b));
    return a * reciprocal;
#else
    return a / b;
#endif
  }
  template <typename Body>
  static void OutOfLine(const Body& body) {
    body(0);
  }
  TF_PLR_HOST_DEVICE static float Abs(float x) { return fabsf(x); }
  TF_PLR_HOST_DEVICE static float Max(float a, float b) {
#if __CUDA_ARCH__ >= 800
    float value;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(value) : "f"(a), "f"(b));
    return value;
#else
    return a < b ? b : a;
#endif
  }
  TF_PLR_HOST_DEVICE static float Min(float a, float b) {
#if __CUDA_ARCH__ >= 800
    float value;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(value) : "f"(a), "f"(b));
    return value;
#else
    return a > b ? b : a;
#endif
  }
  TF_PLR_HOST_DEVICE static float Where(bool condition, float yes, float no) {
    return condition ? yes : no;
  }
};

// For 16-bit arrays. Gates take fewer instructions, at the cost of the last two bits. Rounding
// their pre-activations to 16 bits changes them by more than that.
struct NarrowMath : Math<float> {
  static constexpr bool kIsNarrow = true;
};

// For activations and output gates of bfloat16 arrays, which have 8 bits. Tanh is one instruction:
// it is accurate to 11 bits of the largest values, but not relative to values near zero. Forget and
// input gates are as with NarrowMath: what they let through may be small, and is summed over many
// steps. So are the gates of silu and gelu_tanh, which are multiplied by large numbers.
struct CoarseMath : NarrowMath {
  static constexpr bool kIsCoarse = true;

  TF_PLR_HOST_DEVICE static float Tanh(float x) {
#if defined(__CUDA_ARCH__)
    float value;
    asm("tanh.approx.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
#else
    return std::tanh(x);
#endif
  }
};

// c0 + x (c1 + x (c2 + ...)).
template <typename A>
TF_PLR_HOST_DEVICE A Polynomial(A /*x*/, float c0) {
  return A{} + c0;
}
template <typename A, typename... More>
TF_PLR_HOST_DEVICE A Polynomial(A x, float c0, float c1, More... more) {
  if constexpr (sizeof...(more) == 0) {
    return c0 + x * c1;
  } else {
    return c0 + x * Polynomial(x, c1, more...);
  }
}

// ---- Gates ----

// A gate, its complement, and its slope.
template <typename A>
struct Gate {
  A open, closed, slope;
};

// A sigmoid and its complement, both with small relative error: at a pre-activation of 20, one is 1
// and the other is still 2e-9. A GPU rounds the argument of the exponential once more, so the
// relative error of the smaller one grows to 2e-7 at |x| = 20, and to 1.8e-6 at 30. With
// NarrowMath, the last two bits of the larger one may be wrong, too.
template <typename M, typename A>
TF_PLR_HOST_DEVICE Gate<A> Sigmoid(A x) {
  if constexpr (M::kIsNarrow) {
    const A e = M::Exp(-x);  // May overflow to infinity, for which `open` is 0.
    const A open = M::Divide(A{} + 1.0f, 1.0f + e);
    const A closed = M::Where(x < -87.0f, A{} + 1.0f, e * open);
    return {open, closed, open * closed};
  } else {
    const A e = M::Exp(-M::Abs(x));
    const A less = M::Divide(e, 1.0f + e), more = 1.0f - less;
    return {M::Where(x >= 0, more, less), M::Where(x >= 0, less, more), less * more};
  }
}

// The sigmoid of an output gate. It may be coarse, because it scales outputs only.
template <typename M, typename A>
TF_PLR_HOST_DEVICE Gate<A> OutputSigmoid(A x) {
  if constexpr (M::kIsCoarse) {
    const A open = 0.5f + 0.5f * M::Tanh(0.5f * x), closed = 1.0f - open;
    return {open, closed, open * closed};
  } else {
    return Sigmoid<M>(x);
  }
}

// Keras' hard_sigmoid: x / 6 + 1 / 2, between 0 and 1.
template <typename M, typename A>
TF_PLR_HOST_DEVICE Gate<A> HardSigmoid(A x) {
  constexpr float kSlope = 1.0f / 6;
  const A zero{}, one = zero + 1.0f;
  return {M::Min(M::Max(0.5f + x * kSlope, zero), one),
          M::Min(M::Max(0.5f - x * kSlope, zero), one),
          M::Where(M::Abs(x) < 3.0f, zero + kSlope, zero)};
}

enum class GateFunction { kSigmoid, kHardSigmoid };

// Computes several gates. The choice of the function stands outside of the loop, so that the
// elements' chains of instructions overlap.
template <typename M, typename A, int kCount>
TF_PLR_HOST_DEVICE void OpenGates(GateFunction function, const A (&x)[kCount],
                                  Gate<A> (&gates)[kCount]) {
  if (function == GateFunction::kHardSigmoid) {
    for (int i = 0; i < kCount; ++i) gates[i] = HardSigmoid<M>(x[i]);
  } else {
    for (int i = 0; i < kCount; ++i) gates[i] = Sigmoid<M>(x[i]);
  }
}
template <typename M, typename A, int kCount>
TF_PLR_HOST_DEVICE void OpenOutputGates(GateFunction function, const A (&x)[kCount],
                                        Gate<A> (&gates)[kCount]) {
  if (function == GateFunction::kHardSigmoid) {
    for (int i = 0; i < kCount; ++i) gates[i] = HardSigmoid<M>(x[i]);
  } else {
    for (int i = 0; i < kCount; ++i) gates[i] = OutputSigmoid<M>(x[i]);
  }
}

// ---- Activations ----

// M(enumerator, Keras' name). `gelu_tanh` is Keras' gelu with approximate=True.
#define TF_PLR_FOR_EACH_ACTIVATION(M) \
  M(kLinear, "linear")                \
  M(kTanh, "tanh")                    \
  M(kSigmoid, "sigmoid")              \
  M(kRelu, "relu")                    \
  M(kElu, "elu")                      \
  M(kSilu, "silu")                    \
  M(kGelu, "gelu")                    \
  M(kGeluTanh, "gelu_tanh")           \
  M(kSoftplus, "softplus")

#define TF_PLR_NAME_ACTIVATION(activation, name) activation,
enum class Activation { TF_PLR_FOR_EACH_ACTIVATION(TF_PLR_NAME_ACTIVATION) };
#undef TF_PLR_NAME_ACTIVATION

// The value of a function and its slope.
template <typename A>
struct Differential {
  A value, slope;
};

// Each activation is a function Differentiate<M>(x). Where only the value is used, the compiler
// leaves out the slope.
template <Activation kActivation>
struct ActivationFunction;

template <>
struct ActivationFunction<Activation::kLinear> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    return {x, A{} + 1.0f};
  }
};

template <typename M, typename A>
TF_PLR_HOST_DEVICE A Tanh(A x) {
  if constexpr (M::kIsCoarse) {
    return M::Tanh(x);
  } else {
    const A square = x * x, magnitude = M::Abs(x);
    const A small = x + x * square *
                            Polynomial(square, -0.3333328366f, 0.1333149076f, -0.05374345928f,
                                       0.02065046318f, -0.005716915242f);
    const A e = M::Exp(-2.0f * magnitude);
    const A large = 1.0f - 2.0f * M::Divide(e, 1.0f + e);
    return M::Where(magnitude < 0.625f, small, M::Where(x < 0, -large, large));
  }
}

template <>
struct ActivationFunction<Activation::kTanh> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    const A value = Tanh<M>(x);
    return {value, 1.0f - value * value};
  }
};

template <>
struct ActivationFunction<Activation::kSigmoid> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    const Gate<A> gate = OutputSigmoid<M>(x);
    return {gate.open, gate.slope};
  }
};

template <>
struct ActivationFunction<Activation::kRelu> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    return {M::Max(x, A{}), M::Where(x > 0, A{} + 1.0f, A{})};
  }
};

// exp(x) - 1, for x of at most 0.
template <typename M, typename A>
TF_PLR_HOST_DEVICE A ExpMinus1(A x) {
  const A large = M::Exp(x) - 1.0f;
  if constexpr (M::kIsCoarse) {
    return large;
  } else {
    const A small = x + x * x *
                            Polynomial(x, 0.4999998808f, 0.1666630805f, 0.04163324088f,
                                       0.008196110837f, 0.001128220116f);
    return M::Where(x > -0.5f, small, large);
  }
}

template <>
struct ActivationFunction<Activation::kElu> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    const A value = M::Where(x > 0, x, ExpMinus1<M>(x));
    return {value, M::Where(x > 0, A{} + 1.0f, value + 1.0f)};
  }
};

template <>
struct ActivationFunction<Activation::kSilu> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    const Gate<A> gate = Sigmoid<M>(x);
    return {x * gate.open, gate.open + x * gate.slope};
  }
};

// The normal distribution's density at x, and the probability of a value below x.
template <typename A>
struct Normal {
  A density, below;
};

template <typename M, typename A>
TF_PLR_HOST_DEVICE Normal<A> NormalDistribution(A x) {
  constexpr float kDensityAt0 = 0.398942280f;
  const A e = M::Exp(-0.5f * x * x);
  const A t = M::Divide(A{} + 1.0f, 1.0f + 0.3f * M::Abs(x));
  const A tail = e * t *
                 Polynomial(t, 0.1196232629f, 0.1208455250f, 0.09934716344f, 0.1304163015f,
                            -0.05716703743f, 0.2101179969f, -0.1593780589f, 0.03619479120f);
  return {kDensityAt0 * e, M::Where(x > 0, 1.0f - tail, tail)};
}

template <>
struct ActivationFunction<Activation::kGelu> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    const Normal<A> normal = NormalDistribution<M>(x);
    return {x * normal.below, normal.below + x * normal.density};
  }
};

// x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is the usual form with tanh.
template <>
struct ActivationFunction<Activation::kGeluTanh> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    constexpr float kScale = 1.59576912f, kCubic = 0.044715f * kScale;
    const A square = x * x;
    const Gate<A> gate = Sigmoid<M>(x * (kScale + kCubic * square));
    return {x * gate.open, gate.open + x * gate.slope * (kScale + 3.0f * kCubic * square)};
  }
};

// log(1 + exp(x)). Its slope is the sigmoid.
template <>
struct ActivationFunction<Activation::kSoftplus> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static Differential<A> Differentiate(A x) {
    const A e = M::Exp(-M::Abs(x));
    const A s = M::Divide(e, 2.0f + e);  // log(1 + e) = 2 artanh(s).
    const A rest =
        s * Polynomial(s * s, 2.0f, 0.6666631021f, 0.4002511151f, 0.2795770186f, 0.2819140031f);
    const A less = M::Divide(e, 1.0f + e);
    return {M::Max(x, A{}) + rest, M::Where(x >= 0, 1.0f - less, less)};
  }
};

// Replaces several elements by their activations. As in OpenGates, the choice of the function
// stands outside of the loop.
template <typename M, typename A, int kCount>
TF_PLR_HOST_DEVICE void ActivateEach(Activation activation, A (&x)[kCount]) {
#define TF_PLR_CASE(of, name)                                                                 \
  case Activation::of:                                                                        \
    for (A& element : x) {                                                                    \
      element = ActivationFunction<Activation::of>::template Differentiate<M>(element).value; \
    }                                                                                         \
    return;
  switch (activation) { TF_PLR_FOR_EACH_ACTIVATION(TF_PLR_CASE) }
#undef TF_PLR_CASE
  __builtin_unreachable();
}

// Also returns the slopes.
template <typename M, typename A, int kCount>
TF_PLR_HOST_DEVICE void DifferentiateEach(Activation activation, A (&x)[kCount],
                                          A (&slopes)[kCount]) {
#define TF_PLR_CASE(of, name)                                                              \
  case Activation::of:                                                                     \
    for (int i = 0; i < kCount; ++i) {                                                     \
      const auto at = ActivationFunction<Activation::of>::template Differentiate<M>(x[i]); \
      x[i] = at.value;                                                                     \
      slopes[i] = at.slope;                                                                \
    }                                                                                      \
    return;
  switch (activation) { TF_PLR_FOR_EACH_ACTIVATION(TF_PLR_CASE) }
#undef TF_PLR_CASE
  __builtin_unreachable();
}

// ---- The same, with an activation that is chosen at run time ----
//
// These are calls, because kernels unroll their loops: each would hold all functions many times.

#if defined(__CUDACC__)

template <int kCount>
struct Values {
  float values[kCount];
};
template <int kCount>
struct ValuesAndSlopes {
  float values[kCount], slopes[kCount];
};

template <typename M, int kCount>
__device__ __noinline__ Values<kCount> CallActivate(Activation activation, Values<kCount> x) {
  ActivateEach<M>(activation, x.values);
  return x;
}
template <typename M, int kCount>
__device__ __noinline__ ValuesAndSlopes<kCount> CallDifferentiate(Activation activation,
                                                                  Values<kCount> x) {
  ValuesAndSlopes<kCount> result;
  for (int i = 0; i < kCount; ++i) result.values[i] = x.values[i];
  DifferentiateEach<M>(activation, result.values, result.slopes);
  return result;
}

template <typename M, int kCount>
__device__ __forceinline__ void Activate(Activation activation, float (&x)[kCount]) {
  if (activation == Activation::kLinear) return;
  Values<kCount> values;
  for (int i = 0; i < kCount; ++i) values.values[i] = x[i];
  values = CallActivate<M>(activation, values);
  for (int i = 0; i < kCount; ++i) x[i] = values.values[i];
}

template <typename M, int kCount>
__device__ __forceinline__ void Differentiate(Activation activation, float (&x)[kCount],
                                              float (&slopes)[kCount]) {
  Values<kCount> values;
  for (int i = 0; i < kCount; ++i) {
    values.values[i] = x[i];
    slopes[i] = 1.0f;
  }
  if (activation == Activation::kLinear) return;
  const ValuesAndSlopes<kCount> result = CallDifferentiate<M>(activation, values);
  for (int i = 0; i < kCount; ++i) {
    x[i] = result.values[i];
    slopes[i] = result.slopes[i];
  }
}

#else

template <typename M, typename A, int kCount>
TF_PLR_HOST_DEVICE void Activate(Activation activation, A (&x)[kCount]) {
  if (activation == Activation::kLinear) return;
  M::OutOfLine([&](auto) __attribute__((always_inline)) { ActivateEach<M>(activation, x); });
}

template <typename M, typename A, int kCount>
TF_PLR_HOST_DEVICE void Differentiate(Activation activation, A (&x)[kCount], A (&slopes)[kCount]) {
  M::OutOfLine([&](auto)
                   __attribute__((always_inline)) { DifferentiateEach<M>(activation, x, slopes); });
}

#endif

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CELLS_ACTIVATIONS_H_
