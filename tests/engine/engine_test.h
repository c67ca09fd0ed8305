// SPDX-License-Identifier: MIT
// What cpu_engine_test.cc and gpu_engine_test.cu share: each engine alone, forward and gradient,
// against a plain loop in float64. Small enough for compute-sanitizer and for an emulator.
#ifndef TF_PLR_TESTS_ENGINE_TEST_H_
#define TF_PLR_TESTS_ENGINE_TEST_H_

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <type_traits>
#include <vector>

#include "cc/engine/cells/recurrence.h"
#include "cc/engine/problem.h"

namespace tf_plr {

inline int failures = 0;

// Whether this process must run the next test. It runs all of them, or, with TEST_PART=i/n, every
// n-th one from the i-th on: some tools need many processes.
inline bool InThisShard() {
  static const char* const part = std::getenv("TEST_PART");
  static int number = -1;
  ++number;
  int i = 0, n = 1;
  if (part != nullptr) std::sscanf(part, "%d/%d", &i, &n);
  return number % n == i;
}

// If false, tests float32 and one type of each other kind, which compiles faster.
#if defined(TF_PLR_TEST_FEW_TYPES)
constexpr bool kAllTypes = false;
#else
constexpr bool kAllTypes = true;
#endif

// If true, each array begins at another element of its memory; otherwise at the allocated address.
inline bool misaligned = false;

// Elements between the next array and the aligned memory before it.
inline int NextShift() {
  static int arrays = 0;
  return misaligned ? ++arrays % 7 : 0;
}

// Converts between T and the float64 of the reference. Narrow rounds to float32 first.
template <typename T>
struct Reference {
  using Wide = double;
  static Wide Widen(T value) { return double(float(value)); }
  static T Narrow(Wide value) { return T(float(value)); }
};
template <typename Real>
struct Reference<Complex<Real>> {
  using Wide = std::complex<double>;
  static Wide Widen(Complex<Real> value) { return {value.real, value.imag}; }
  static Complex<Real> Narrow(Wide value) {
    return {Real(float(value.real())), Real(float(value.imag()))};
  }
};
template <typename T>
using WideOf = typename Reference<T>::Wide;

inline double ConjugateOf(double value) { return value; }
inline std::complex<double> ConjugateOf(std::complex<double> value) { return std::conj(value); }

inline void Turn(double*, std::mt19937&) {}
// Rotates by a random angle.
inline void Turn(std::complex<double>* value, std::mt19937& random) {
  *value *= std::polar(1.0, std::uniform_real_distribution<double>(-3.2, 3.2)(random));
}

template <typename T>
std::vector<T> Draw(size_t size, std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(-0.1, 0.1);
  std::vector<T> values(size);
  for (T& value : values) {
    WideOf<T> wide = uniform(random);
    Turn(&wide, random);
    value = Reference<T>::Narrow(wide);
  }
  return values;
}

// Decays of both signs, whose magnitudes are so close to 1 that the last state depends on the first
// impulse.
template <typename T>
std::vector<T> DrawDecays(const Problem& problem, std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(-4, 4);
  std::vector<T> values(problem.size());
  for (T& value : values) {
    const float draw = uniform(random) / std::max<int64_t>(8, problem.steps);
    WideOf<T> wide = draw < 0 ? -1 - draw : 1 - draw;
    Turn(&wide, random);
    value = Reference<T>::Narrow(wide);
  }
  return values;
}

// Errors are relative to the largest expected value.
template <typename T>
void Expect(const char* name, const std::vector<T>& actual, const std::vector<WideOf<T>>& expected,
            double tolerance, const Problem& p, Algorithm algorithm) {
  double scale = 1e-30;
  for (const auto& value : expected) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(Reference<T>::Widen(actual[i]) - expected[i]);
    if (!(error <= tolerance * scale)) {
      std::printf("%s[%zu] is off by %g of %g: %lld x %lld x %lld, reverse %d, algorithm %d\n",
                  name, i, error, std::abs(expected[i]), (long long)p.outer, (long long)p.steps,
                  (long long)p.inner, p.reverse, int(algorithm));
      ++failures;
      return;
    }
  }
}

// Unit roundoffs.
constexpr double kHalf = 1.0 / (1 << 11), kBFloat16 = 1.0 / (1 << 8), kFloat = 1.0 / (1 << 24);
constexpr double kDouble = kFloat * kFloat;  // Or less.

// The unit roundoffs of a data type and of its accumulator.
struct Rounding {
  double stored, accumulated;
};

// The flags of a problem's steps, one for each outer slice and step.
struct DrawnFlags {
  std::vector<char> valid, resets;
  bool any;

  DrawnFlags(const Problem& p, bool any, std::mt19937& random)
      : valid(p.outer * p.steps, 1), resets(p.outer * p.steps), any(any) {
    std::uniform_int_distribution<int> percent(0, 99);
    for (size_t row = 0; any && row < valid.size(); ++row) {
      valid[row] = percent(random) < 80;
      // Most tiles have few resets, or none.
      resets[row] = percent(random) < (row / 512 % 2 == 0 ? 4 : 0);
    }
  }
};
template <typename Engine>
struct FlagsOfEngine {
  typename Engine::template Array<char> valid, resets;
  const bool any, any_reset;

  explicit FlagsOfEngine(const DrawnFlags& flags)
      : valid(flags.valid),
        resets(flags.resets),
        any(flags.any),
        any_reset(std::count(flags.resets.begin(), flags.resets.end(), 1) > 0) {}
  StepFlags Get() const {
    return {any ? reinterpret_cast<const bool*>(valid.data) : nullptr,
            any_reset ? reinterpret_cast<const bool*>(resets.data) : nullptr};
  }
};

// Whether the engine has kernels with flags for cells without gates: see HasKernelsWithFlags.
template <typename Engine, typename T>
constexpr bool TakesFlags() {
  return !Engine::kHasFixedCells || sizeof(T) > 2;
}

// The type in which a T is accumulated.
template <typename T>
using AccumulatorOf = std::conditional_t<sizeof(T) == 2, float, T>;

// Finds the transitions of all steps of each column, and compares them.
template <typename Engine, typename T, typename Cell, typename Element>
void TestReduce(const Problem& problem, const Arrays<Cell, Element>& arrays,
                const std::vector<WideOf<T>>& decays, const std::vector<WideOf<T>>& impulses,
                double tolerance) {
  typename Engine::template Array<AccumulatorOf<T>> d(problem.columns()), i(problem.columns());
  Engine::Reduce(problem, arrays, ColumnTransitions<AccumulatorOf<T>>{d.data, i.data});
  Expect("reduced decays", d.Read(), decays, tolerance, problem, Algorithm::kParallel);
  Expect("reduced impulses", i.Read(), impulses, tolerance, problem, Algorithm::kParallel);
}

// Engine has Array<T>, an array in its own memory, Run and Reduce. T is the host's type of Element.
template <typename Engine, typename Element, typename T>
void Test(Problem p, Algorithm algorithm, bool with_initial, Rounding rounding) {
  static int turn = 0;
  const bool with_flags = ++turn % 3 == 0 && TakesFlags<Engine, T>();
  if (!InThisShard()) return;
  using R = Reference<T>;
  using W = WideOf<T>;
  const double tolerance = 8 * (rounding.stored + p.steps * rounding.accumulated);
  std::mt19937 random(1);
  const auto decays = DrawDecays<T>(p, random), impulses = Draw<T>(p.size(), random);
  const auto d_states = Draw<T>(p.size(), random), initial = Draw<T>(p.columns(), random);
  const DrawnFlags flags(p, with_flags, random);
  const FlagsOfEngine<Engine> on_engine(flags);
  std::vector<W> states(p.size()), d_decays(p.size()), d_impulses(p.size());
  std::vector<W> d_initial(p.columns()), product(p.columns()), conjugate(p.columns());
  std::vector<W> from_zero(p.columns());
  std::vector<T> rounded(p.size());
  for (int64_t column = 0; column < p.columns(); ++column) {
    const int64_t base = column / p.inner * p.steps * p.inner + column % p.inner;
    const auto step_at = [&](int64_t t) { return p.reverse ? p.steps - 1 - t : t; };
    const auto at = [&](int64_t t) { return base + step_at(t) * p.inner; };
    const auto row_at = [&](int64_t t) { return column / p.inner * p.steps + step_at(t); };
    const W first = with_initial ? R::Widen(initial[column]) : 0;
    W state = first;
    product[column] = 1;
    for (int64_t t = 0; t < p.steps; ++t) {
      const bool valid = flags.valid[row_at(t)] != 0;
      const W decay = valid ? R::Widen(decays[at(t)]) : W(1);
      const W impulse = valid ? R::Widen(impulses[at(t)]) : W(0);
      if (flags.resets[row_at(t)] != 0) product[column] = from_zero[column] = state = 0;
      product[column] *= decay;
      from_zero[column] = decay * from_zero[column] + impulse;
      state = decay * state + impulse;
      states[at(t)] = state;
      rounded[at(t)] = R::Narrow(state);
    }
    W carried = 0;
    for (int64_t t = p.steps - 1; t >= 0; --t) {
      const W gradient = carried + R::Widen(d_states[at(t)]);
      const bool valid = flags.valid[row_at(t)] != 0, reset = flags.resets[row_at(t)] != 0;
      const W previous = reset ? W(0) : t > 0 ? R::Widen(rounded[at(t - 1)]) : first;
      d_decays[at(t)] = valid ? ConjugateOf(previous) * gradient : W(0);
      d_impulses[at(t)] = valid ? gradient : W(0);
      carried = reset ? W(0) : valid ? ConjugateOf(R::Widen(decays[at(t)])) * gradient : gradient;
    }
    d_initial[column] = carried;
    conjugate[column] = ConjugateOf(product[column]);
  }

  using Array = typename Engine::template Array<T>;
  auto element = [](Array& array) { return reinterpret_cast<Element*>(array.data); };
  Array h(initial), r(rounded);
  Element* const boundary = with_initial ? element(h) : nullptr;
  for (bool in_place : {false, true}) {
    Array a(decays), x(impulses), new_states(p.size());
    Array& y = in_place ? x : new_states;
    Arrays<RecurrenceCell, Element> arrays{
        {element(a), element(x)}, {element(y)}, boundary, nullptr, nullptr, on_engine.Get()};
    if (!in_place) {
      Arrays<RecurrenceCell, Element> inputs{};
      inputs.flags = arrays.flags;
      std::copy_n(arrays.inputs, RecurrenceCell::kStepInputs, inputs.inputs);
      TestReduce<Engine, T>(p, inputs, product, from_zero, tolerance);
    }
    Engine::Run(p, arrays, algorithm);
    Expect("states", y.Read(), states, tolerance, p, algorithm);
  }
  for (bool in_place : {false, true}) {
    Array a(decays), d(d_states), new_by_a(p.size()), new_by_x(p.size()), by_h(p.columns());
    Array &by_a = in_place ? a : new_by_a, &by_x = in_place ? d : new_by_x;
    Arrays<RecurrenceGradientCell, Element> arrays{{element(a), element(d), element(r)},
                                                   {element(by_a), element(by_x)},
                                                   nullptr,
                                                   element(by_h),
                                                   boundary,
                                                   on_engine.Get()};
    Problem backward = p;
    backward.reverse = !p.reverse;
    if (!in_place) {
      Arrays<RecurrenceGradientCell, Element> inputs{};
      inputs.flags = arrays.flags;
      std::copy_n(arrays.inputs, RecurrenceGradientCell::kStepInputs, inputs.inputs);
      TestReduce<Engine, T>(backward, inputs, conjugate, d_initial, tolerance);
    }
    Engine::Run(backward, arrays, algorithm);
    Expect("d_decays", by_a.Read(), d_decays, tolerance, p, algorithm);
    Expect("d_impulses", by_x.Read(), d_impulses, tolerance, p, algorithm);
    Expect("d_initial_state", by_h.Read(), d_initial, tolerance, p, algorithm);
  }
}

// All data types. Half and BFloat16 are the host's.
template <typename Engine, typename Half, typename BFloat16>
int TestEngine() {
  const Problem problems[] = {
      // Long rows: one tile, several of a chain, several chains of a block, odd columns.
      {1, 1, 40, false},
      {3, 40, 32, false},
      {20, 16, 64, true},
      {90, 9, 40, false},
      {2, 700, 33, false},
      {3, 208, 35, false},  // A warp has no rows of the last tile, the one before it all.
      {1, 9000, 36, true},
      {1, 5000, 66, false},
      {2, 1500, 100, true},
      {2, 270, 516, false},
      // Short rows: one element, several chains of a tile, several tiles of a chain.
      {1, 1, 1, false},
      {9, 300, 1, true},
      {50, 9, 3, false},
      {300, 41, 5, true},
      {1, 70000, 1, false},
      {2, 9000, 6, true},
      {3, 2000, 31, false},
      // Nothing to do, or no steps: the last carry is the first.
      {0, 0, 0, false},
      {3, 0, 40, false},
      {2, 0, 3, true},
  };
  for (const Problem& problem : problems) {
    for (Algorithm algorithm : {Algorithm::kParallel, Algorithm::kSerial}) {
      for (bool odd : {false, true}) {
        misaligned = odd;
        Test<Engine, float, float>(problem, algorithm, odd, {kFloat, kFloat});
        // Each other type takes one of the two, in turns. Numbers of double precision are drawn as
        // floats too, and their states are rounded to floats.
        if (odd == (algorithm == Algorithm::kSerial)) {
          if constexpr (kAllTypes) {
            Test<Engine, double, double>(problem, algorithm, odd, {kFloat, kDouble});
            Test<Engine, Complex<float>, Complex<float>>(problem, algorithm, odd, {kFloat, kFloat});
            Test<Engine, typename Engine::Half, Half>(problem, algorithm, odd, {kHalf, kFloat});
          }
        } else {
          Test<Engine, Complex<double>, Complex<double>>(problem, algorithm, odd,
                                                         {kFloat, kDouble});
          Test<Engine, typename Engine::BFloat16, BFloat16>(problem, algorithm, odd,
                                                            {kBFloat16, kFloat});
        }
      }
    }
    Test<Engine, float, float>(problem, Algorithm::kAuto, true, {kFloat, kFloat});
  }
  std::printf("%s: %d failures\n", Engine::kName, failures);
  return failures != 0;
}

}  // namespace tf_plr

#endif  // TF_PLR_TESTS_ENGINE_TEST_H_
