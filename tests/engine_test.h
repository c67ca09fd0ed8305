// SPDX-License-Identifier: MIT
// What cpu_engine_test.cc and gpu_engine_test.cu share: each engine alone, forward and gradient,
// against a plain loop in float64. Small enough for compute-sanitizer and for an emulator.
#ifndef TF_PLR_TESTS_ENGINE_TEST_H_
#define TF_PLR_TESTS_ENGINE_TEST_H_

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cc/engine/cells.h"
#include "cc/engine/problem.h"

namespace tf_plr {

inline int failures = 0;

// Elements between an array and the aligned memory before it.
inline int shift = 0;

template <typename T>
std::vector<T> Draw(size_t size, std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<T> values(size);
  for (T& value : values) value = T(uniform(random));
  return values;
}

template <typename T>
void Expect(const char* name, const std::vector<T>& actual, const std::vector<double>& expected,
            double tolerance, const Problem& p, Algorithm algorithm) {
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(double(float(actual[i])) - expected[i]);
    if (!(error <= tolerance * (1 + std::abs(expected[i])))) {
      std::printf("%s[%zu] is %g, not %g: %lld x %lld x %lld, reverse %d, algorithm %d\n", name, i,
                  double(float(actual[i])), expected[i], (long long)p.outer, (long long)p.steps,
                  (long long)p.inner, p.reverse, int(algorithm));
      ++failures;
      return;
    }
  }
}

// Engine has Array<T>, memory of its own, and Run; T is how the host sees its Element.
template <typename Engine, typename Element, typename T>
void Test(Problem p, Algorithm algorithm, double tolerance) {
  std::mt19937 random(1);
  const auto decays = Draw<T>(p.size(), random), impulses = Draw<T>(p.size(), random);
  const auto d_states = Draw<T>(p.size(), random), initial = Draw<T>(p.columns(), random);
  std::vector<double> states(p.size()), d_decays(p.size()), d_impulses(p.size());
  std::vector<double> d_initial(p.columns());
  std::vector<T> rounded(p.size());
  for (int64_t column = 0; column < p.columns(); ++column) {
    const int64_t base = column / p.inner * p.steps * p.inner + column % p.inner;
    auto at = [&](int64_t t) { return base + (p.reverse ? p.steps - 1 - t : t) * p.inner; };
    double state = float(initial[column]);
    for (int64_t t = 0; t < p.steps; ++t) {
      state = float(decays[at(t)]) * state + float(impulses[at(t)]);
      states[at(t)] = state;
      rounded[at(t)] = T(float(state));
    }
    double carried = 0;
    for (int64_t t = p.steps - 1; t >= 0; --t) {
      const double gradient = carried + float(d_states[at(t)]);
      const double previous = t > 0 ? float(rounded[at(t - 1)]) : float(initial[column]);
      d_decays[at(t)] = previous * gradient;
      d_impulses[at(t)] = gradient;
      carried = float(decays[at(t)]) * gradient;
    }
    d_initial[column] = carried;
  }

  using Array = typename Engine::template Array<T>;
  Array a(decays), x(impulses), d(d_states), h(initial), r(rounded);
  auto element = [](Array& array) { return reinterpret_cast<Element*>(array.data); };
  {
    Array out(p.size());
    Arrays<RecurrenceCell, Element> arrays{
        {element(a), element(x)}, {element(out)}, element(h), nullptr, nullptr};
    Engine::Run(p, arrays, algorithm);
    Expect("states", out.Read(), states, tolerance, p, algorithm);
  }
  {
    Array by_a(p.size()), by_x(p.size()), by_h(p.columns());
    Arrays<RecurrenceGradientCell, Element> arrays{{element(a), element(d), element(r)},
                                                   {element(by_a), element(by_x)},
                                                   nullptr,
                                                   element(by_h),
                                                   element(h)};
    Problem backward = p;
    backward.reverse = !p.reverse;
    Engine::Run(backward, arrays, algorithm);
    Expect("d_decays", by_a.Read(), d_decays, tolerance, p, algorithm);
    Expect("d_impulses", by_x.Read(), d_impulses, tolerance, p, algorithm);
    Expect("d_initial_state", by_h.Read(), d_initial, tolerance, p, algorithm);
  }
}

// All data types but the complex ones. Half and BFloat16 are the host's.
template <typename Engine, typename Half, typename BFloat16>
int TestEngine() {
  const Problem problems[] = {
      // Rows: one tile, several of a chain, several chains in a block, odd columns, many columns.
      {1, 1, 40, false},
      {3, 40, 32, false},
      {20, 16, 64, true},
      {2, 700, 33, false},
      {1, 9000, 36, true},
      {1, 5000, 66, false},
      {2, 1500, 100, true},
      // Columns that share a tile: several chains of one, several tiles of a chain.
      {1, 1, 1, false},
      {9, 300, 1, true},
      {50, 9, 3, false},
      {300, 41, 5, true},
      {1, 70000, 1, false},
      {2, 9000, 6, true},
      {3, 2000, 31, false},
  };
  for (const Problem& problem : problems) {
    for (shift = 0; shift < 2; ++shift) {
      for (Algorithm algorithm : {Algorithm::kParallel, Algorithm::kSerial}) {
        Test<Engine, float, float>(problem, algorithm, 1e-5);
        // float64 too is drawn, and the states rounded, as floats.
        Test<Engine, double, double>(problem, algorithm, 1e-6);
        Test<Engine, typename Engine::Half, Half>(problem, algorithm, 4e-3);
        Test<Engine, typename Engine::BFloat16, BFloat16>(problem, algorithm, 3e-2);
      }
    }
    shift = 0;
    Test<Engine, float, float>(problem, Algorithm::kAuto, 1e-5);
  }
  std::printf("%s: %d failures\n", Engine::kName, failures);
  return failures != 0;
}

}  // namespace tf_plr

#endif  // TF_PLR_TESTS_ENGINE_TEST_H_
