// SPDX-License-Identifier: MIT
// The functions that make up gates and impulses, and their derivatives. Each is written once, for a
// float on a GPU and for a vector of floats on a CPU; Math holds what differs between the two.
//
// All but the coarse ones keep relative accuracy near zero, as TensorFlow's activations do, and
// have no branches. The polynomials are minimax fits with a relative error below 5e-9. The rest of
// the error is float32 rounding, including that of the exponential's argument.
#ifndef TF_PLR_ENGINE_CELLS_ACTIVATIONS_H_
#define TF_PLR_ENGINE_CELLS_ACTIVATIONS_H_

#include <cmath>

#include "cc/engine/numeric.h"

namespace tf_plr {

// Has Exp (for arguments up to 88), Divide (by 1 to 2), Abs, and Where (by lanes).
// cpu/vector_math.h defines it for vectors.
template <typename A>
struct Math;

template <>
struct Math<float> {
  static constexpr bool kIsCoarse = false;

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
  TF_PLR_HOST_DEVICE static float Abs(float x) { return x < 0 ? -x : x; }
  TF_PLR_HOST_DEVICE static float Where(bool condition, float yes, float no) {
    return condition ? yes : no;
  }
};

// For activations and output gates of bfloat16 arrays, which have 8 bits. Tanh is one instruction:
// it is accurate to 11 bits of the largest values, but not relative to values near zero. Forget and
// input gates stay exact: what they let through may be small, and is summed over many steps.
struct CoarseMath : Math<float> {
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
TF_PLR_HOST_DEVICE A Polynomial(A x, float c0, float c1, float c2, float c3) {
  return c0 + x * (c1 + x * (c2 + x * c3));
}
template <typename A>
TF_PLR_HOST_DEVICE A Polynomial(A x, float c0, float c1, float c2, float c3, float c4) {
  return c0 + x * Polynomial(x, c1, c2, c3, c4);
}

// A gate and its complement, both with small relative error: at a pre-activation of 20, one is 1
// and the other is still 2e-9. A GPU rounds the argument of the exponential once more, so the
// relative error of the smaller one grows to 2e-7 at |x| = 20, and to 1.8e-6 at 30.
template <typename A>
struct Gate {
  A open, closed;

  TF_PLR_HOST_DEVICE A Slope() const { return open * closed; }
};

template <typename M, typename A>
TF_PLR_HOST_DEVICE Gate<A> Sigmoid(A x) {
  const A e = M::Exp(-M::Abs(x));
  const A less = M::Divide(e, 1.0f + e), more = 1.0f - less;
  return {M::Where(x >= 0, more, less), M::Where(x >= 0, less, more)};
}

// The sigmoid of an output gate. It may be coarse, because it scales outputs only.
template <typename M, typename A>
TF_PLR_HOST_DEVICE Gate<A> PlainSigmoid(A x) {
  if constexpr (M::kIsCoarse) {
    const A open = 0.5f + 0.5f * M::Tanh(0.5f * x);
    return {open, 1.0f - open};
  } else {
    return Sigmoid<M>(x);
  }
}

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

enum class Activation { kLinear, kTanh, kElu };

// Of(x) is the activation. Gradient turns the gradient with respect to Of(x) into the gradient with
// respect to x.
template <Activation kActivation>
struct ActivationFunction;

template <>
struct ActivationFunction<Activation::kLinear> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static A Of(A x) {
    return x;
  }
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static A Gradient(A /*x*/, A /*value*/, A gradient) {
    return gradient;
  }
};

template <>
struct ActivationFunction<Activation::kTanh> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static A Of(A x) {
    return tf_plr::Tanh<M>(x);
  }
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static A Gradient(A /*x*/, A value, A gradient) {
    return gradient * (1.0f - value * value);
  }
};

template <>
struct ActivationFunction<Activation::kElu> {
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static A Of(A x) {
    return M::Where(x > 0, x, ExpMinus1<M>(x));
  }
  template <typename M, typename A>
  TF_PLR_HOST_DEVICE static A Gradient(A x, A value, A gradient) {
    return M::Where(x > 0, gradient, gradient * (value + 1.0f));
  }
};

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CELLS_ACTIVATIONS_H_
