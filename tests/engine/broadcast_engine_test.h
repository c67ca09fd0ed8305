// SPDX-License-Identifier: MIT
// Each engine with decays that are broadcast, against a plain loop in float64.
#ifndef TF_PLR_TESTS_ENGINE_BROADCAST_ENGINE_TEST_H_
#define TF_PLR_TESTS_ENGINE_BROADCAST_ENGINE_TEST_H_

#include <random>
#include <vector>

#include "cc/engine/broadcast_gradient.h"
#include "tests/engine/engine_test.h"

namespace tf_plr {

// Which axes decays have. If inner is a multiple of kHeads, it counts as two axes.
struct DecayAxes {
  bool outer, steps, heads, features;
};
constexpr int64_t kHeads = 3;

// Where decays lie, and which axes their gradient is summed over.
struct DecayLayout {
  BroadcastIndex index{};
  AxesToSum axes;
  int64_t size = 1;

  DecayLayout(const Problem& p, const DecayAxes& has) {
    const int64_t heads = p.inner % kHeads == 0 ? kHeads : 1, features = p.inner / heads;
    const auto stride_of = [&](int64_t axis, bool is_kept) {
      const int64_t stride = is_kept ? size : 0;
      if (is_kept) size *= axis;
      return stride;
    };
    const int64_t of_features = stride_of(features, has.features);
    const int64_t of_heads = stride_of(heads, has.heads);
    index.step_stride = stride_of(p.steps, has.steps);
    const int64_t of_outer = stride_of(p.outer, has.outer);
    index.outer = {1, {p.outer}, {of_outer}};
    index.inner = {2, {features, heads}, {of_features, of_heads}};
    axes.Append(p.outer, !has.outer);
    axes.Append(p.steps, !has.steps);
    axes.Append(heads, !has.heads);
    axes.Append(features, !has.features);
  }
  int64_t At(int64_t outer, int64_t step, int64_t inner) const {
    return index.outer.Offset(outer) + step * index.step_stride + index.inner.Offset(inner);
  }
};

template <typename Engine, typename Element, typename T>
void TestBroadcast(const Problem& p, Algorithm algorithm, const DecayAxes& has, bool with_initial,
                   Rounding rounding) {
  static int turn = 0;
  const bool with_flags = ++turn % 3 == 0 && TakesFlags<Engine, T>();
  if (!InThisShard()) return;
  using R = Reference<T>;
  using W = WideOf<T>;
  const double tolerance = 8 * (rounding.stored + p.steps * rounding.accumulated);
  const DecayLayout layout(p, has);
  std::mt19937 random(1);
  std::vector<T> decays = DrawDecays<T>(p, random);
  decays.resize(layout.size);
  const auto impulses = Draw<T>(p.size(), random), d_states = Draw<T>(p.size(), random);
  const auto initial = Draw<T>(p.columns(), random);
  const DrawnFlags flags(p, with_flags, random);
  const FlagsOfEngine<Engine> on_engine(flags);
  std::vector<W> states(p.size()), d_impulses(p.size()), d_decays(layout.size);
  std::vector<W> d_initial(p.columns()), product(p.columns()), from_zero(p.columns());
  std::vector<W> conjugate(p.columns());
  std::vector<T> rounded(p.size()), rounded_gradients(p.size());
  for (int64_t column = 0; column < p.columns(); ++column) {
    const int64_t outer = column / p.inner, inner = column % p.inner;
    const auto step_at = [&](int64_t t) { return p.reverse ? p.steps - 1 - t : t; };
    const auto at = [&](int64_t t) { return (outer * p.steps + step_at(t)) * p.inner + inner; };
    const auto row_at = [&](int64_t t) { return outer * p.steps + step_at(t); };
    const auto decay_at = [&](int64_t t) { return layout.At(outer, step_at(t), inner); };
    const W first = with_initial ? R::Widen(initial[column]) : 0;
    W state = first;
    product[column] = 1;
    for (int64_t t = 0; t < p.steps; ++t) {
      const bool valid = flags.valid[row_at(t)] != 0;
      const W decay = valid ? R::Widen(decays[decay_at(t)]) : W(1);
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
      d_impulses[at(t)] = valid ? gradient : W(0);
      rounded_gradients[at(t)] = R::Narrow(d_impulses[at(t)]);
      const W previous = reset ? W(0) : t > 0 ? R::Widen(rounded[at(t - 1)]) : first;
      d_decays[decay_at(t)] += ConjugateOf(previous) * R::Widen(rounded_gradients[at(t)]);
      carried = reset   ? W(0)
                : valid ? ConjugateOf(R::Widen(decays[decay_at(t)])) * gradient
                        : gradient;
    }
    d_initial[column] = carried;
    conjugate[column] = ConjugateOf(product[column]);
  }

  using Array = typename Engine::template Array<T>;
  const auto element = [](Array& array) { return reinterpret_cast<Element*>(array.data); };
  Array a(decays), h(initial);
  Element* const initial_state = with_initial ? element(h) : nullptr;
  for (bool in_place : {false, true}) {
    Array x(impulses), new_states(p.size());
    Array& y = in_place ? x : new_states;
    Arrays<BroadcastRecurrenceCell, Element> arrays{{element(a), element(x)}};
    arrays.broadcast = layout.index;
    arrays.flags = on_engine.Get();
    if (!in_place) TestReduce<Engine, T>(p, arrays, product, from_zero, tolerance);
    arrays.outputs[0] = element(y);
    arrays.initial_carry = initial_state;
    Engine::Run(p, arrays, algorithm);
    Expect("states", y.Read(), states, tolerance, p, algorithm);
  }

  Array d(d_states), by_x(p.size()), by_h(p.columns()), by_a(layout.size);
  Arrays<BroadcastImpulseGradientCell, Element> arrays{{element(a), element(d)}};
  arrays.broadcast = layout.index;
  arrays.flags = on_engine.Get();
  Problem backward = p;
  backward.reverse = !p.reverse;
  TestReduce<Engine, T>(backward, arrays, conjugate, d_initial, tolerance);
  arrays.outputs[0] = element(by_x);
  arrays.final_carry = element(by_h);
  Engine::Run(backward, arrays, algorithm);
  Expect("d_impulses", by_x.Read(), d_impulses, tolerance, p, algorithm);
  Expect("d_initial_state", by_h.Read(), d_initial, tolerance, p, algorithm);

  Array s(rounded), g(rounded_gradients);
  const BroadcastGradient<Element> gradient{
      p, layout.axes, element(s), element(g), initial_state, on_engine.Get().resets, element(by_a)};
  typename Engine::template Array<AccumulatorOf<T>> workspace(gradient.workspace_size());
  Engine::Differentiate(gradient, workspace.data);
  // Each sum has `terms` products, in any order.
  const int64_t terms = layout.size == 0 ? 0 : p.size() / layout.size;
  const double of_sums = 8 * (rounding.stored + terms * rounding.accumulated);
  Expect("d_decays", by_a.Read(), d_decays, of_sums, p, algorithm);
}

// The paths of TestEngine, with decays that lack some of the axes.
template <typename Engine, typename Half, typename BFloat16>
int TestBroadcastEngine() {
  const Problem problems[] = {
      {3, 40, 32, false},   {2, 700, 33, false},  {1, 5000, 66, true}, {40, 200, 96, true},
      {2, 270, 516, false}, {9, 300, 1, true},    {300, 41, 6, true},  {1, 70000, 1, false},
      {2, 9000, 3, true},   {3, 2000, 31, false}, {1, 1, 40, false},   {3, 0, 40, false},
  };
  const DecayAxes axes[] = {
      {false, false, true, true},   // A decay for each column.
      {true, true, true, false},    // For each step and head.
      {false, true, false, false},  // For each step.
      {true, false, false, true},  {false, false, false, false}, {true, true, false, true},
  };
  int turn = 0;
  for (const Problem& problem : problems) {
    for (const DecayAxes& has : axes) {
      for (Algorithm algorithm : {Algorithm::kParallel, Algorithm::kSerial}) {
        misaligned = ++turn % 3 == 0;
        const bool odd = turn % 2 == 1;
        TestBroadcast<Engine, float, float>(problem, algorithm, has, odd, {kFloat, kFloat});
        TestBroadcast<Engine, typename Engine::BFloat16, BFloat16>(problem, algorithm, has, odd,
                                                                   {kBFloat16, kFloat});
        TestBroadcast<Engine, Complex<double>, Complex<double>>(problem, algorithm, has, odd,
                                                                {kFloat, kDouble});
        if constexpr (kAllTypes) {
          TestBroadcast<Engine, double, double>(problem, algorithm, has, odd, {kFloat, kDouble});
          TestBroadcast<Engine, Complex<float>, Complex<float>>(problem, algorithm, has, odd,
                                                                {kFloat, kFloat});
          if (problem.steps < 1000) {  // Float16 cannot hold the longer sums.
            TestBroadcast<Engine, typename Engine::Half, Half>(problem, algorithm, has, odd,
                                                               {kHalf, kFloat});
          }
        }
      }
    }
  }
  std::printf("%s, broadcast decays: %d failures\n", Engine::kName, failures);
  return failures != 0;
}

}  // namespace tf_plr

#endif  // TF_PLR_TESTS_ENGINE_BROADCAST_ENGINE_TEST_H_
