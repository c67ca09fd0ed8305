// SPDX-License-Identifier: MIT
// The gated cells on each engine, forward and gradient, against a plain loop in float64.
#ifndef TF_PLR_TESTS_ENGINE_GATED_ENGINE_TEST_H_
#define TF_PLR_TESTS_ENGINE_GATED_ENGINE_TEST_H_

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "cc/engine/cells/gated.h"
#include "tests/engine/engine_test.h"

namespace tf_plr {

// A gated cell in float64, step by step; which of its parts it has is known at run time only.
struct GatedReference {
  bool own, gated, highway, previous;
  GatedFunctions functions;

  static double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
  double Gate(double x) const {
    return functions.gate == GateFunction::kHardSigmoid ? std::clamp(x / 6 + 0.5, 0., 1.)
                                                        : Sigmoid(x);
  }
  double GateSlope(double x) const {
    if (functions.gate == GateFunction::kHardSigmoid) return std::abs(x) < 3 ? 1. / 6 : 0;
    return Sigmoid(x) * Sigmoid(-x);
  }
  static double Value(Activation activation, double x) {
    switch (activation) {
      case Activation::kLinear:
        return x;
      case Activation::kTanh:
        return std::tanh(x);
      case Activation::kSigmoid:
        return Sigmoid(x);
      case Activation::kRelu:
        return std::max(x, 0.);
      case Activation::kElu:
        return x < 0 ? std::expm1(x) : x;
      case Activation::kSilu:
        return x * Sigmoid(x);
      case Activation::kGelu:
        return x * std::erfc(-x / std::sqrt(2.)) / 2;
      case Activation::kGeluTanh:
        return x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) / 2;
      case Activation::kSoftplus:
        return std::log1p(std::exp(x));
    }
    return NAN;
  }
  // By differences: independent of the derivatives' formulas, and far more exact than float32.
  static double Slope(Activation activation, double x) {
    if (activation == Activation::kRelu) return x > 0;
    constexpr double kStep = 1e-4;
    const auto at = [&](double steps) { return Value(activation, x + steps * kStep); };
    if (activation == Activation::kElu && std::abs(x) < 3 * kStep) return std::min(1., std::exp(x));
    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * kStep);
  }
};

template <typename Cell>
struct ReferenceOf;
template <InputGate kInputGate, Output kOutput, typename Functions>
struct ReferenceOf<GatedCell<kInputGate, kOutput, Functions>> {
  using Gradient = GatedGradientCell<kInputGate, kOutput, Functions>;
  static constexpr bool own = kInputGate == InputGate::kOwn, highway = kOutput == Output::kHighway,
                        gated = kOutput == Output::kGated || highway,
                        previous = kOutput == Output::kPrevious;
  // Cells whose functions are chosen at run time take those of `turn`.
  static GatedReference At(int turn) {
    GatedFunctions functions{static_cast<Activation>(turn % kActivations),
                             static_cast<Activation>(turn / 2 % kActivations),
                             turn % 5 == 4 ? GateFunction::kHardSigmoid : GateFunction::kSigmoid};
    if constexpr (Functions::kFixed) {
      functions = {Functions::activation, Functions::state_activation, Functions::gate};
    }
    if (!gated) functions.state_activation = Activation::kLinear;
    return {own, gated, highway, previous, functions};
  }
#define TF_PLR_COUNT(...) +1
  static constexpr int kActivations = TF_PLR_FOR_EACH_ACTIVATION(TF_PLR_COUNT);
#undef TF_PLR_COUNT
  template <typename Arrays>
  static void SetFunctions(const GatedReference& reference, Arrays* arrays) {
    if constexpr (!Functions::kFixed) arrays->gated.functions = reference.functions;
  }
};

// An array whose rows hold several blocks. A row has `wide` elements; the last ones are in no
// block.
template <typename Engine, typename Element, typename T>
struct WideArray {
  typename Engine::template Array<T> array;
  int64_t wide, inner;

  WideArray(const std::vector<T>& values, int64_t wide, int64_t inner)
      : array(values), wide(wide), inner(inner) {}
  Element* Block(int block) {
    if (array.data == nullptr) return nullptr;
    return reinterpret_cast<Element*>(array.data + block * inner);
  }
};

// TestReduce with only the arrays that Step reads. States are float32.
template <typename Engine, typename T, typename Cell, typename Element>
void TestGatedReduce(const Problem& problem, Arrays<Cell, Element> arrays,
                     const std::vector<double>& decays, const std::vector<double>& impulses,
                     double tolerance) {
  // See kHasReduction.
  if (Engine::kHasFixedCells && std::is_same_v<Element, typename Engine::Half>) return;
  const int read = Cell::StepInputs(arrays.gated.functions);
  for (int k = read; k < Cell::kInputs; ++k) arrays.inputs[k] = nullptr;
  for (Element*& output : arrays.outputs) output = nullptr;
  arrays.initial_carry = arrays.final_carry = nullptr;
  arrays.boundary = nullptr;
  TestReduce<Engine, T>(problem, arrays, decays, impulses, tolerance);
}

// Whether the engine has kernels for resets: see HasKernelsWithFlags.
template <typename Engine, typename Cell, typename Element>
bool TakesResets(const Problem& p) {
  if (!Engine::kHasFixedCells || std::is_same_v<Element, float>) return true;
  return Cell::Functions::kAreDefaults && std::is_same_v<Element, typename Engine::BFloat16> &&
         p.inner % 2 == 0 && !misaligned;
}

template <typename Engine, typename Cell, typename Element, typename T>
void TestGated(Problem p, Algorithm algorithm, bool with_extras, Rounding rounding) {
  if (!InThisShard()) return;
  using R = Reference<T>;
  using GradientCell = typename ReferenceOf<Cell>::Gradient;
  using C = ReferenceOf<Cell>;
  static int turn = 0;
  const GatedReference c = C::At(turn++);
  constexpr int kBlocks = Cell::kInputs - C::highway;  // The highway is an array of its own.
  const int64_t wide = kBlocks * p.inner + 8, rows = p.outer * p.steps;
  // Exponentials add some roundings to those of the recurrence.
  const double tolerance = 8 * (rounding.stored + (p.steps + 16) * rounding.accumulated);
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-2, 2);
  const auto draw = [&](size_t size) {
    std::vector<T> values(size);
    for (T& value : values) value = R::Narrow(uniform(random));
    return values;
  };
  std::vector<T> product = draw(rows * wide), highway = draw(p.size()), d_h = draw(p.size());
  std::vector<float> bias(kBlocks * p.inner), initial(p.columns()), d_last(p.columns());
  for (float& b : bias) b = with_extras ? uniform(random) : 0;
  // Large biases, so that forget gates remember.
  for (int64_t i = 0; i < p.inner; ++i) bias[i] = with_extras ? std::log(8.f + p.steps) : 0;
  for (float& h : initial) h = with_extras ? uniform(random) : 0;
  for (float& d : d_last) d = with_extras ? uniform(random) : 0;
  std::vector<char> mask(rows, 1);
  for (char& m : mask) m = !with_extras || uniform(random) < 1;
  DrawnFlags flags(p, with_extras && TakesResets<Engine, Cell, Element>(p) && turn % 3 == 0,
                   random);
  flags.valid = mask;
  flags.any = with_extras;
  // What is masked may be anything.
  for (int64_t row = 0; row < rows; ++row) {
    if (!mask[row]) product[row * wide] = R::Narrow(NAN);
  }

  std::vector<double> h(p.size()), kept(p.size()), last(p.columns()), d_initial(p.columns());
  std::vector<double> product_of_decays(p.columns(), 1), from_zero(p.columns());
  std::vector<double> d_from_zero(p.columns());
  std::vector<double> d_product(rows * wide), d_highway(p.size());
  std::vector<T> rounded(p.size());
  for (int64_t column = 0; column < p.columns(); ++column) {
    const int64_t outer = column / p.inner, inner = column % p.inner;
    const auto row_of = [&](int64_t t) {
      return outer * p.steps + (p.reverse ? p.steps - 1 - t : t);
    };
    const auto in = [&](int64_t t, int block) {
      return R::Widen(product[row_of(t) * wide + block * p.inner + inner]) +
             bias[block * p.inner + inner];
    };
    double state = initial[column];
    std::vector<double> states(p.steps + 1, state);
    for (int64_t t = 0; t < p.steps; ++t) {
      const int64_t at = row_of(t) * p.inner + inner;
      if (flags.resets[row_of(t)] != 0) {
        state = product_of_decays[column] = from_zero[column] = 0;
      }
      const double before = state;
      double output = 0;
      if (mask[row_of(t)]) {
        const double f = c.Gate(in(t, 0)), z = c.Value(c.functions.activation, in(t, 1));
        const double impulse = (c.own ? c.Gate(in(t, 2)) : 1 - f) * z;
        state = f * state + impulse;
        product_of_decays[column] *= f;
        from_zero[column] = f * from_zero[column] + impulse;
        const double o = c.gated ? c.Gate(in(t, 2 + c.own)) : 1;
        output = o * c.Value(c.functions.state_activation, state);
        if (c.highway) output += (1 - o) * R::Widen(highway[at]);
      }
      h[at] = c.previous ? before : c.gated ? output : state;
      kept[at] = c.gated || c.previous ? before : state;
      rounded[at] = R::Narrow(kept[at]);
    }
    last[column] = state;

    double carried = d_last[column];
    for (int64_t t = p.steps - 1; t >= 0; --t) {
      const int64_t at = row_of(t) * p.inner + inner, wide_at = row_of(t) * wide + inner;
      const double d = R::Widen(d_h[at]);
      const bool reset = flags.resets[row_of(t)] != 0;
      if (!mask[row_of(t)]) {
        if (!c.gated) carried += d;
        if (!c.gated) d_from_zero[column] += d;
        if (reset) carried = d_from_zero[column] = 0;
        continue;
      }
      double before = initial[column];
      if (reset) {
        before = 0;
      } else if (c.gated || c.previous) {
        before = R::Widen(rounded[at]);
      } else if (t > 0) {
        before = R::Widen(rounded[row_of(t - 1) * p.inner + inner]);
      } else {
        before = R::Widen(R::Narrow(before));
      }
      const double f = c.Gate(in(t, 0)), z = c.Value(c.functions.activation, in(t, 1));
      const double i = c.own ? c.Gate(in(t, 2)) : 1 - f;
      const double o = c.gated ? c.Gate(in(t, 2 + c.own)) : 1;
      const double state = f * before + i * z;
      const double through = c.previous ? 0 : o * c.Slope(c.functions.state_activation, state) * d;
      const double g = carried + through;
      d_product[wide_at] = c.GateSlope(in(t, 0)) * (before - (c.own ? 0 : z)) * g;
      d_product[wide_at + p.inner] = c.Slope(c.functions.activation, in(t, 1)) * i * g;
      if (c.own) d_product[wide_at + 2 * p.inner] = c.GateSlope(in(t, 2)) * z * g;
      if (c.gated) {
        const double output =
            c.Value(c.functions.state_activation, state) - (c.highway ? R::Widen(highway[at]) : 0);
        d_product[wide_at + (2 + c.own) * p.inner] = c.GateSlope(in(t, 2 + c.own)) * output * d;
        d_highway[at] = (1 - o) * d;
      }
      carried = f * g + (c.previous ? d : 0);
      d_from_zero[column] = f * (d_from_zero[column] + through);
      if (c.previous) d_from_zero[column] += d;
      if (reset) carried = d_from_zero[column] = 0;
    }
    d_initial[column] = carried;
  }

  typename Engine::template Array<float> biases(bias), first(initial), d_after(d_last);
  typename Engine::template Array<float> final_carry(p.columns());
  const FlagsOfEngine<Engine> on_engine(flags);
  typename Engine::template Array<T> y(p.size()), k(p.size()), x(highway), dy(d_h), r(rounded);
  const auto element = [](auto& array) { return reinterpret_cast<Element*>(array.data); };
  const auto bias_of = [&](int block) {
    return with_extras ? biases.data + block * p.inner : nullptr;
  };
  WideArray<Engine, Element, T> blocks(product, wide, p.inner);
  {
    Arrays<Cell, Element> arrays{};
    for (int b = 0; b < kBlocks; ++b) {
      arrays.inputs[b] = blocks.Block(b);
      arrays.gated.input_strides[b] = wide;
      arrays.gated.biases[b] = bias_of(b);
    }
    if constexpr (C::highway) {
      arrays.inputs[Cell::kHighway] = element(x);
      arrays.gated.input_strides[Cell::kHighway] = p.inner;
    }
    arrays.outputs[Cell::kH] = element(y);
    arrays.gated.output_strides[Cell::kH] = p.inner;
    if constexpr (C::gated) {
      arrays.outputs[Cell::kPreviousStates] = with_extras ? element(k) : nullptr;
      arrays.gated.output_strides[Cell::kPreviousStates] = p.inner;
    }
    arrays.initial_carry = with_extras ? first.data : nullptr;
    arrays.final_carry = final_carry.data;
    arrays.flags = on_engine.Get();
    C::SetFunctions(c, &arrays);
    TestGatedReduce<Engine, T>(p, arrays, product_of_decays, from_zero, tolerance);
    Engine::Run(p, arrays, algorithm);
    Expect("h", y.Read(), h, tolerance, p, algorithm);
    if (c.gated && with_extras) Expect("states", k.Read(), kept, tolerance, p, algorithm);
    Expect("last_state", final_carry.Read(), last, tolerance, p, algorithm);
  }

  // The gradient takes the place of the product.
  Arrays<GradientCell, Element> arrays{};
  typename Engine::template Array<T> dx(p.size());
  typename Engine::template Array<T> first_narrow = [&] {
    std::vector<T> narrow;
    for (float h : initial) narrow.push_back(R::Narrow(h));
    return typename Engine::template Array<T>(narrow);
  }();
  const int inputs[] = {GradientCell::kForget, GradientCell::kCandidate,
                        c.own ? GradientCell::kInput : GradientCell::kOutputGate,
                        GradientCell::kOutputGate};
  for (int b = 0; b < kBlocks; ++b) {
    arrays.inputs[inputs[b]] = arrays.outputs[b] = blocks.Block(b);
    arrays.gated.input_strides[inputs[b]] = arrays.gated.output_strides[b] = wide;
    arrays.gated.biases[inputs[b]] = bias_of(b);
  }
  arrays.inputs[GradientCell::kDH] = element(dy);
  arrays.inputs[GradientCell::kPreviousStates] = element(r);
  arrays.gated.input_strides[GradientCell::kDH] = p.inner;
  arrays.gated.input_strides[GradientCell::kPreviousStates] = p.inner;
  if constexpr (C::highway) {
    arrays.inputs[GradientCell::kHighway] = element(x);
    arrays.gated.input_strides[GradientCell::kHighway] = p.inner;
    arrays.outputs[Cell::kHighway] = element(dx);
    arrays.gated.output_strides[Cell::kHighway] = p.inner;
  }
  arrays.boundary = with_extras ? element(first_narrow) : nullptr;
  arrays.initial_carry = with_extras ? d_after.data : nullptr;
  arrays.final_carry = final_carry.data;
  arrays.flags = on_engine.Get();
  C::SetFunctions(c, &arrays);
  typename Engine::template Array<float> d_bias(kBlocks * p.inner);
  arrays.gated.d_bias = with_extras && Engine::kSumsGradients ? d_bias.data : nullptr;
  arrays.gated.d_bias_width = kBlocks * p.inner;
  for (int k = 0; k < GradientCell::kOutputs; ++k) {
    arrays.gated.d_bias_offsets[k] = k < kBlocks ? (kBlocks - 1 - k) * p.inner : -1;
  }
  Problem against = p;
  against.reverse = !p.reverse;
  TestGatedReduce<Engine, T>(against, arrays, product_of_decays, d_from_zero, tolerance);
  Engine::Run(against, arrays, algorithm);
  if (arrays.gated.d_bias != nullptr) {
    std::vector<double> sums(kBlocks * p.inner), magnitudes(kBlocks * p.inner);
    for (int64_t i = 0; i < rows * wide; ++i) {
      const int64_t block = i % wide / p.inner;
      if (block >= kBlocks) continue;
      const int64_t at = (kBlocks - 1 - block) * p.inner + i % wide % p.inner;
      sums[at] += d_product[i];
      magnitudes[at] += std::abs(d_product[i]);
    }
    // Each term errs by the tolerance; terms may cancel.
    double most = 0, sum = 1e-30;
    for (double magnitude : magnitudes) most = std::max(most, magnitude);
    for (double s : sums) sum = std::max(sum, std::abs(s));
    Expect("d_bias", d_bias.Read(), sums, tolerance * most / sum, p, algorithm);
  }
  // Elements that are in no block must not change.
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = kBlocks * p.inner; i < wide; ++i) {
      d_product[row * wide + i] = R::Widen(product[row * wide + i]);
    }
  }
  Expect("d_product", blocks.array.Read(), d_product, tolerance, p, algorithm);
  if (c.highway) Expect("d_highway", dx.Read(), d_highway, tolerance, p, algorithm);
  Expect("d_initial", final_carry.Read(), d_initial, tolerance, p, algorithm);
}

// For engines that reduce the last steps first: steps that the gates have forgotten by the end must
// not affect the result, even if they hold NaN, and even if neighbouring columns remember them.
template <typename Engine>
void TestForgottenSteps(const Problem& p) {
  if (!InThisShard()) return;
  const int64_t last = std::max<int64_t>(4096, p.steps / 16);
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-2, 2);
  std::vector<float> product(2 * p.size()), bias(2 * p.inner);
  std::vector<double> decays(p.columns(), 1), impulses(p.columns());
  const auto forgets = [&](int64_t column) { return column < 32 || column % 2 == 1; };
  for (int64_t i = 0; i < p.inner; ++i) bias[i] = forgets(i) ? 0 : std::log(8.f + p.steps);
  for (int64_t t = 0; t < p.steps; ++t) {
    const int64_t row = p.reverse ? p.steps - 1 - t : t;
    for (int64_t i = 0; i < p.inner; ++i) {
      float &forget = product[row * 2 * p.inner + i], &candidate = (&forget)[p.inner];
      forget = uniform(random);
      candidate = uniform(random);
      const double f = GatedReference::Sigmoid(double(forget) + bias[i]);
      decays[i] *= f;
      impulses[i] = f * impulses[i] + (1 - f) * std::tanh(double(candidate));
      if (forgets(i) && t < p.steps - last) (t % 2 == 0 ? forget : candidate) = NAN;
    }
  }
  typename Engine::template Array<float> blocks(product), biases(bias);
  Arrays<CoupledPreviousCell, float> arrays{};
  arrays.gated.functions = {Activation::kTanh, Activation::kLinear, GateFunction::kSigmoid};
  for (int block = 0; block < 2; ++block) {
    arrays.inputs[block] = blocks.data + block * p.inner;
    arrays.gated.input_strides[block] = 2 * p.inner;
    arrays.gated.biases[block] = biases.data + block * p.inner;
  }
  const double tolerance = 8 * (p.steps + 16) * kFloat;
  TestReduce<Engine, float>(p, arrays, decays, impulses, tolerance);
}

template <typename Engine, typename Element, typename T>
void TestAllGated(const Problem& problem, Algorithm algorithm, bool with_extras,
                  Rounding rounding) {
#define TF_PLR_TEST_CELL(T_, Name, ...) \
  TestGated<Engine, Name##Cell, Element, T>(problem, algorithm, with_extras, rounding);
  TF_PLR_FOR_EACH_GATED_CELL(TF_PLR_TEST_CELL, )
  if constexpr (Engine::kHasFixedCells) {
    TF_PLR_FOR_EACH_FIXED_CELL(TF_PLR_TEST_CELL, )
  }
#undef TF_PLR_TEST_CELL
}

// Problems that take every path, whole tiles and parts of them.
template <typename Engine, typename Half, typename BFloat16>
int TestGatedEngine() {
  const Problem problems[] = {
      {1, 1, 1, false},     {2, 3, 5, true},     {3, 130, 33, false}, {1, 700, 40, true},
      {1, 2100, 36, false}, {40, 70, 64, false}, {300, 9, 32, true},  {2, 0, 4, false},
      {5, 257, 18, false},  {2, 8500, 34, true}, {3, 72, 33, true},
  };
  for (const Problem& problem : problems) {
    for (Algorithm algorithm : {Algorithm::kParallel, Algorithm::kSerial, Algorithm::kAuto}) {
      for (bool extras : {false, true}) {
        misaligned = extras && problem.inner % 4 == 2;
        TestAllGated<Engine, float, float>(problem, algorithm, extras, {kFloat, kFloat});
        if (extras == (algorithm == Algorithm::kSerial)) {
          if constexpr (kAllTypes) {
            TestAllGated<Engine, typename Engine::Half, Half>(problem, algorithm, extras,
                                                              {kHalf, kFloat});
          }
        } else {
          TestAllGated<Engine, typename Engine::BFloat16, BFloat16>(problem, algorithm, extras,
                                                                    {kBFloat16, kFloat});
        }
      }
    }
  }
  misaligned = false;
  std::printf("%s, gated cells: %d failures\n", Engine::kName, failures);
  return failures != 0;
}

}  // namespace tf_plr

#endif  // TF_PLR_TESTS_ENGINE_GATED_ENGINE_TEST_H_
