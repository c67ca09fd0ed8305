// SPDX-License-Identifier: MIT
// One build runs on every x86-64 processor from x86-64-v2 on: each body is compiled for three
// instruction sets, and the best one that the processor supports is chosen at run time.
#ifndef TF_PLR_ENGINE_CPU_PROCESSOR_H_
#define TF_PLR_ENGINE_CPU_PROCESSOR_H_

#include <cstdlib>
#include <cstring>
#include <type_traits>

// For functions and lambdas that must be compiled for the caller's instruction set.
#define TF_PLR_INLINE __attribute__((always_inline)) inline
#define TF_PLR_INLINE_LAMBDA __attribute__((always_inline))

namespace tf_plr {
namespace cpu {

// The size of a SIMD register as a type, so that it is a constant in the bodies it is passed to.
template <int kBytes>
using RegisterBytes = std::integral_constant<int, kBytes>;

// Body: a lambda marked TF_PLR_INLINE_LAMBDA that takes a RegisterBytes and calls TF_PLR_INLINE
// functions only. Each function is compiled once for each type of body.
template <typename Body>
__attribute__((noinline)) void RunWithBaseline(const Body& body) {
  body(RegisterBytes<16>());
}

#if defined(__x86_64__)

template <typename Body>
__attribute__((noinline, target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))) void RunWithAvx512(
    const Body& body) {
  body(RegisterBytes<64>());
}

template <typename Body>
__attribute__((noinline, target("avx2,fma"))) void RunWithAvx2(const Body& body) {
  body(RegisterBytes<32>());
}

// For callers that are compiled for an instruction set already.
template <int kBytes, typename Body>
void RunWith(const Body& body) {
  if constexpr (kBytes == 64) {
    RunWithAvx512(body);
  } else if constexpr (kBytes == 32) {
    RunWithAvx2(body);
  } else {
    RunWithBaseline(body);
  }
}

// Returns false if a test disables `instructions`: TF_PLR_INSTRUCTIONS=avx2 disables AVX-512, and
// TF_PLR_INSTRUCTIONS=baseline disables AVX2 as well.
inline bool MayUse(const char* instructions) {
  const char* most = std::getenv("TF_PLR_INSTRUCTIONS");
  if (most == nullptr) return true;
  if (std::strcmp(most, "baseline") == 0) return false;
  return std::strcmp(most, "avx2") != 0 || std::strcmp(instructions, "avx2") == 0;
}

// Runs the body with the best instruction set that the processor has.
template <typename Body>
void DispatchSimd(const Body& body) {
  static const bool avx512 =
      MayUse("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  static const bool avx2 =
      MayUse("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512) return RunWithAvx512(body);
  if (avx2) return RunWithAvx2(body);
  RunWithBaseline(body);
}

#else

template <int kBytes, typename Body>
void RunWith(const Body& body) {
  RunWithBaseline(body);
}
template <typename Body>
void DispatchSimd(const Body& body) {
  RunWithBaseline(body);
}

#endif

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_PROCESSOR_H_
