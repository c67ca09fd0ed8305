// SPDX-License-Identifier: MIT
// SIMD vectors as accumulators. With the compiler's vector extension, code written for one number
// also computes a vector of numbers, on any processor. This file adds what the extension lacks:
// access to lanes, and loads and stores. A vector of complex numbers is a complex number of
// vectors, and a vector of transitions is a transition of vectors.
#ifndef TF_PLR_ENGINE_CPU_SIMD_H_
#define TF_PLR_ENGINE_CPU_SIMD_H_

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cc/engine/cpu/processor.h"
#include "cc/engine/numeric.h"
#include "cc/engine/transition.h"

namespace tf_plr {
namespace cpu {

// The type in which a column of T is accumulated.
template <typename T>
struct AccumulatorOf {
  using type = T;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

// A vector of kLanes values of type A.
template <typename A, int kLanes>
struct VectorOf {
  typedef A type __attribute__((vector_size(kLanes * sizeof(A))));
};
template <typename Real, int kLanes>
struct VectorOf<Complex<Real>, kLanes> {
  using type = Complex<typename VectorOf<Real, kLanes>::type>;
};
template <typename A, int kLanes>
struct VectorOf<Transition<A>, kLanes> {
  using type = Transition<typename VectorOf<A, kLanes>::type>;
};
template <typename A, int kLanes>
using Vector = typename VectorOf<A, kLanes>::type;

// The number of lanes of type A that fill a register. A complex number takes the room of two reals.
template <typename A>
constexpr int LanesOf(int register_bytes) {
  return register_bytes / static_cast<int>(sizeof(A));
}

// One lane.

template <typename A, typename V>
TF_PLR_INLINE void SetLane(V& v, int lane, A value) {
  v[lane] = value;
}
template <typename Real, typename V>
TF_PLR_INLINE void SetLane(Complex<V>& v, int lane, Complex<Real> value) {
  v.real[lane] = value.real;
  v.imag[lane] = value.imag;
}
template <typename A, typename V>
TF_PLR_INLINE void SetLane(Transition<V>& v, int lane, Transition<A> value) {
  SetLane(v.decay, lane, value.decay);
  SetLane(v.impulse, lane, value.impulse);
}

template <typename A, typename V>
TF_PLR_INLINE void GetLane(const V& v, int lane, A& value) {
  value = v[lane];
}
template <typename Real, typename V>
TF_PLR_INLINE void GetLane(const Complex<V>& v, int lane, Complex<Real>& value) {
  value = {v.real[lane], v.imag[lane]};
}
template <typename A, typename V>
TF_PLR_INLINE void GetLane(const Transition<V>& v, int lane, Transition<A>& value) {
  GetLane(v.decay, lane, value.decay);
  GetLane(v.impulse, lane, value.impulse);
}

// Lane i of the result is lane Order::At(i) of `a` followed by `b`.

template <typename Order, typename V, int... kLane>
TF_PLR_INLINE V ShuffleLanes(V a, V b, std::integer_sequence<int, kLane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Order::At(kLane)...);
#else
  using Index = std::conditional_t<sizeof(a[0]) == 4, int32_t, int64_t>;
  typedef Index Mask __attribute__((vector_size(sizeof(V))));
  return __builtin_shuffle(a, b, Mask{Order::At(kLane)...});
#endif
}
template <typename Order, typename V>
TF_PLR_INLINE V Shuffle(V a, V b) {
  return ShuffleLanes<Order>(a, b, std::make_integer_sequence<int, sizeof(V) / sizeof(a[0])>());
}
template <typename Order, typename V>
TF_PLR_INLINE Complex<V> Shuffle(Complex<V> a, Complex<V> b) {
  return {Shuffle<Order>(a.real, b.real), Shuffle<Order>(a.imag, b.imag)};
}
template <typename Order, typename V>
TF_PLR_INLINE Transition<V> Shuffle(Transition<V> a, Transition<V> b) {
  return {Shuffle<Order>(a.decay, b.decay), Shuffle<Order>(a.impulse, b.impulse)};
}

// Moves `b` up by kBy lanes; the last lanes of `a` come in below.
template <int kLanes, int kBy>
struct ShiftOrder {
  static constexpr int At(int lane) { return kLanes - kBy + lane; }
};
// The last kPeriod lanes of `a`, again and again.
template <int kLanes, int kPeriod>
struct RepeatLastOrder {
  static constexpr int At(int lane) { return kLanes - kPeriod + lane % kPeriod; }
};
// Reverses the order of rows of kColumns lanes.
template <int kLanes, int kColumns>
struct ReverseRowsOrder {
  static constexpr int At(int lane) {
    return kLanes - kColumns - lane / kColumns * kColumns + lane % kColumns;
  }
};
struct SameOrder {
  static constexpr int At(int lane) { return lane; }
};
// Every other lane of both, from lane kFirst on.
template <int kFirst>
struct AlternateOrder {
  static constexpr int At(int lane) { return 2 * lane + kFirst; }
};
// Lanes of `a` and `b` in turns, without the first kSkip.
template <int kLanes, int kSkip>
struct InterleaveOrder {
  static constexpr int At(int lane) { return (kSkip + lane) / 2 + (kSkip + lane) % 2 * kLanes; }
};

// The same value in all lanes.
template <int kLanes, typename A>
TF_PLR_INLINE Vector<A, kLanes> Broadcast(A value) {
  Vector<A, kLanes> v;
  for (int lane = 0; lane < kLanes; ++lane) SetLane(v, lane, value);
  return v;
}

// StreamOut stores past the caches, which then need not load the lines it overwrites. `to` must be
// aligned to the vector. Call FinishStreaming before other threads may read the output.

#if defined(__x86_64__)
template <typename V>
constexpr bool kCanStream = sizeof(V) >= 16;

template <typename V>
TF_PLR_INLINE void StreamOut(V v, void* to) {
  V& there = *static_cast<V*>(to);
#if defined(__clang__)
  __builtin_nontemporal_store(v, &there);
#else
  if constexpr (sizeof(V) == 64) {
    asm volatile("vmovntps %1, %0" : "=m"(there) : "v"(v));
  } else if constexpr (sizeof(V) == 32) {
    asm volatile("vmovntps %1, %0" : "=m"(there) : "x"(v));
  } else {
    _mm_stream_ps(reinterpret_cast<float*>(&there), reinterpret_cast<__m128>(v));
  }
#endif
}

TF_PLR_INLINE void FinishStreaming() { _mm_sfence(); }
#else
template <typename V>
constexpr bool kCanStream = false;
template <typename V>
TF_PLR_INLINE void StreamOut(V, void*) {}
TF_PLR_INLINE void FinishStreaming() {}
#endif

// Loads and stores vectors of A; memory holds T. Specialized where T is narrower than A.
template <typename A, typename T, int kLanes>
struct Memory {
  static_assert(std::is_same_v<A, T>);
  TF_PLR_INLINE static Vector<A, kLanes> Load(const T* from) {
    Vector<A, kLanes> v;
    std::memcpy(&v, from, sizeof(v));
    return v;
  }
  TF_PLR_INLINE static void Store(Vector<A, kLanes> v, T* to) { std::memcpy(to, &v, sizeof(v)); }

  using Streamed = Vector<A, kLanes>;  // The vector that one streaming store writes.
  TF_PLR_INLINE static void Stream(Vector<A, kLanes> v, T* to) { StreamOut(v, to); }
};
template <typename Real, int kLanes>
struct Memory<Complex<Real>, Complex<Real>, kLanes> {
  using Reals = Vector<Real, kLanes>;

  TF_PLR_INLINE static Complex<Reals> Load(const Complex<Real>* from) {
    Reals pairs[2];
    std::memcpy(pairs, from, sizeof(pairs));
    return {Shuffle<AlternateOrder<0>>(pairs[0], pairs[1]),
            Shuffle<AlternateOrder<1>>(pairs[0], pairs[1])};
  }
  TF_PLR_INLINE static void Store(Complex<Reals> v, Complex<Real>* to) {
    const Reals pairs[2] = {First(v), Last(v)};
    std::memcpy(static_cast<void*>(to), pairs, sizeof(pairs));
  }

  using Streamed = Reals;
  TF_PLR_INLINE static void Stream(Complex<Reals> v, Complex<Real>* to) {
    StreamOut(First(v), to);
    StreamOut(Last(v), to + kLanes / 2);
  }

 private:
  // (real, imag) pairs: those of the first half of the lanes, and those of the last half.
  TF_PLR_INLINE static Reals First(Complex<Reals> v) {
    return Shuffle<InterleaveOrder<kLanes, 0>>(v.real, v.imag);
  }
  TF_PLR_INLINE static Reals Last(Complex<Reals> v) {
    return Shuffle<InterleaveOrder<kLanes, kLanes>>(v.real, v.imag);
  }
};

}  // namespace cpu
}  // namespace tf_plr

#endif  // TF_PLR_ENGINE_CPU_SIMD_H_
