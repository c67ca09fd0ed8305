// SPDX-License-Identifier: MIT
// The arithmetic that both engines share: complex numbers, conjugation, multiply-add.
#ifndef TF_PLR_ENGINE_NUMERIC_H_
#define TF_PLR_ENGINE_NUMERIC_H_

#if defined(__CUDACC__)
#define TF_PLR_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TF_PLR_HOST_DEVICE __attribute__((always_inline)) inline
#endif

namespace tf_plr {

// Laid out as std::complex, usable in device code, and multiplied without the
// C99 recovery of infinities, which would cost a branch per product.
template <typename Real>
struct alignas(2 * sizeof(Real)) Complex {
  Real real, imag;

  Complex() = default;
  TF_PLR_HOST_DEVICE Complex(Real real, Real imag = Real(0)) : real(real), imag(imag) {}
};

template <typename Real>
TF_PLR_HOST_DEVICE Complex<Real> operator*(Complex<Real> a, Complex<Real> b) {
  return {a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real};
}

template <typename Real>
TF_PLR_HOST_DEVICE Complex<Real> operator+(Complex<Real> a, Complex<Real> b) {
  return {a.real + b.real, a.imag + b.imag};
}

template <typename Real>
TF_PLR_HOST_DEVICE bool operator==(Complex<Real> a, Complex<Real> b) {
  return a.real == b.real && a.imag == b.imag;
}

template <typename Real>
TF_PLR_HOST_DEVICE Real Conjugate(Real a) {
  return a;
}

template <typename Real>
TF_PLR_HOST_DEVICE Complex<Real> Conjugate(Complex<Real> a) {
  return {a.real, -a.imag};
}

// a * b + c. A GPU fuses it explicitly, so that it rounds alike wherever it is computed; on a CPU,
// the compiler fuses it if the target can.
template <typename A>
TF_PLR_HOST_DEVICE A MultiplyAdd(A a, A b, A c) {
#if defined(__CUDA_ARCH__)
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <typename Real>
TF_PLR_HOST_DEVICE Complex<Real> MultiplyAdd(Complex<Real> a, Complex<Real> b, Complex<Real> c) {
#if defined(__CUDA_ARCH__)
  return {fma(a.real, b.real, fma(-a.imag, b.imag, c.real)),
          fma(a.real, b.imag, fma(a.imag, b.real, c.imag))};
#else
  return a * b + c;
#endif
}

}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_NUMERIC_H_
