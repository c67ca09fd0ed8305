// SPDX-License-Identifier: MIT
// Each engine's passes other than the recurrence: copies of rows, sums of columns, held rows,
// windows, layer normalisation.
#ifndef TF_PLR_TESTS_ENGINE_ROW_PASSES_TEST_H_
#define TF_PLR_TESTS_ENGINE_ROW_PASSES_TEST_H_

#include <random>
#include <utility>
#include <vector>

#include "cc/engine/causal_windows.h"
#include "cc/engine/column_sums.h"
#include "cc/engine/copy_rows.h"
#include "cc/engine/held_rows.h"
#include "cc/engine/layer_normalization.h"
#include "tests/engine/engine_test.h"

namespace tf_plr {

template <typename Engine, typename Element, typename T>
Element* Elements(typename Engine::template Array<T>& array) {
  return reinterpret_cast<Element*>(array.data);
}

template <typename T>
std::vector<double> Widened(const std::vector<T>& values) {
  std::vector<double> wide;
  for (T value : values) wide.push_back(Reference<T>::Widen(value));
  return wide;
}

// Copies rows of `width` in front of rows of `inner`, and pads them with zeros to a multiple of 8.
template <typename Engine, typename T>
void TestCopyRows(const Problem& p, int64_t width) {
  const int64_t rows = p.outer * p.steps, filled = (width + 7) / 8 * 8, stride = filled + p.inner;
  std::mt19937 random(1);
  const std::vector<T> from = Draw<T>(rows * width, random), to = Draw<T>(rows * stride, random);
  std::vector<double> expected = Widened(to);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < filled; ++i) {
      expected[row * stride + i] = i < width ? Reference<T>::Widen(from[row * width + i]) : 0;
    }
  }
  typename Engine::template Array<T> source(from), target(to);
  constexpr int64_t kBytes = sizeof(T);
  Engine::Copy({reinterpret_cast<const char*>(source.data), reinterpret_cast<char*>(target.data),
                rows, width * kBytes, filled * kBytes, stride * kBytes});
  Expect("copied rows", target.Read(), expected, 0, p, Algorithm::kAuto);
}

// Sums all but the last two columns.
template <typename Engine, typename Element, typename T>
void TestColumnSums(const Problem& p) {
  const int64_t rows = p.outer * p.steps, width = std::max<int64_t>(1, p.inner - 2);
  std::mt19937 random(1);
  const std::vector<T> values = Draw<T>(rows * p.inner, random);
  std::vector<double> expected(width);
  for (int64_t i = 0; i < rows * p.inner; ++i) {
    if (i % p.inner < width) expected[i % p.inner] += Reference<T>::Widen(values[i]);
  }
  typename Engine::template Array<T> matrix(values);
  typename Engine::template Array<float> sums(width);
  Engine::template Sum<Element>(
      {Elements<Engine, Element, T>(matrix), rows, width, p.inner, sums.data});
  Expect("column sums", sums.Read(), expected, 8 * rows * kFloat, p, Algorithm::kAuto);
}

// Runs of masked steps, short ones and long ones, at the first step and the last; and, if mean_run
// is odd, resets. A mean_run of 0: no flags.
inline DrawnFlags DrawRuns(const Problem& p, int64_t mean_run, std::mt19937& random) {
  DrawnFlags flags(p, false, random);
  flags.any = mean_run > 0;
  for (int64_t i = 0, left = 0; flags.any && i < p.outer * p.steps; ++i, --left) {
    if (left == 0) left = random() % (2 * mean_run) + 1;
    flags.valid[i] = left <= mean_run;
    flags.resets[i] = mean_run % 2 == 1 && random() % (3 * mean_run) == 0;
  }
  return flags;
}

template <typename Engine, typename Element, typename T>
void TestHeldRows(const Problem& p, double stored, int64_t mean_run) {
  std::mt19937 random(1);
  const std::vector<T> values = Draw<T>(p.size(), random);
  const DrawnFlags flags = DrawRuns(p, mean_run, random);
  const std::vector<char>& mask = flags.valid;
  std::vector<double> held = Widened(values), sums = held;
  for (int64_t outer = 0; outer < p.outer; ++outer) {
    int64_t last = -1;
    for (int64_t step = 0; step < p.steps; ++step) {
      const int64_t row = outer * p.steps + step;
      if (flags.resets[row]) last = -1;
      if (mask[row]) last = row;
      for (int64_t i = 0; !mask[row] && last >= 0 && i < p.inner; ++i) {
        held[row * p.inner + i] = held[last * p.inner + i];
        sums[last * p.inner + i] += Reference<T>::Widen(values[row * p.inner + i]);
      }
    }
  }
  const std::vector<T> others = Draw<T>(p.size(), random);
  std::vector<double> sums_apart = sums;
  for (int64_t i = 0; i < p.size(); ++i) {
    if (!mask[i / p.inner]) sums_apart[i] = Reference<T>::Widen(others[i]);
  }
  typename Engine::template Array<T> from(values), in_place(values), apart(others);
  const FlagsOfEngine<Engine> on_engine(flags);
  Element* const element = Elements<Engine, Element, T>(in_place);
  const auto rows = [&](const Element* from, Element* to) {
    return HeldRows<Element>{from, to, on_engine.Get(), p.outer, p.steps, p.inner};
  };
  Engine::template SumHeld<Element>(rows(element, element));
  Engine::template SumHeld<Element>(
      rows(Elements<Engine, Element, T>(from), Elements<Engine, Element, T>(apart)));
  const double tolerance = 8 * (stored + p.steps * kFloat);
  Expect("sums of held rows", in_place.Read(), sums, tolerance, p, Algorithm::kAuto);
  Expect("sums of held rows, apart", apart.Read(), sums_apart, tolerance, p, Algorithm::kAuto);
  typename Engine::template Array<T> rows_to_hold(values);
  Element* const to_hold = Elements<Engine, Element, T>(rows_to_hold);
  Engine::template Hold<Element>(rows(to_hold, to_hold));
  Expect("held rows", rows_to_hold.Read(), held, 0, p, Algorithm::kAuto);
}

template <typename Engine, typename Element, typename T>
void TestCausalWindows(const Problem& p, double stored, int64_t mean_run, int64_t before) {
  const auto widen = [](T value) { return Reference<T>::Widen(value); };
  std::mt19937 random(1);
  const int64_t width = p.inner, history_size = p.outer * before * width;
  const std::vector<T> inputs = Draw<T>(p.size(), random), history = Draw<T>(history_size, random),
                       d_windows = Draw<T>(p.size() * (before + 1), random),
                       d_last = Draw<T>(history_size, random);
  const DrawnFlags flags = DrawRuns(p, mean_run, random);
  std::vector<double> windows(d_windows.size()), last(history_size), d_inputs(p.size()),
      d_history(history_size);
  for (int64_t outer = 0; outer < p.outer; ++outer) {
    // Pointers to the valid rows and to their gradients, those of the history first.
    std::vector<std::pair<const T*, double*>> rows;
    for (int64_t i = outer * before; i < (outer + 1) * before; ++i) {
      rows.emplace_back(&history[i * width], &d_history[i * width]);
    }
    const auto visit = [&](std::vector<double>& to, const std::vector<T>& d_to, int64_t first,
                           int64_t count) {
      for (int64_t j = 0; j < count; ++j) {
        const auto& [row, d_row] = rows[rows.size() - count + j];
        if (row == nullptr) continue;
        for (int64_t i = 0; i < width; ++i) {
          to[first + j * width + i] = widen(row[i]);
          d_row[i] += widen(d_to[first + j * width + i]);
        }
      }
    };
    for (int64_t row = outer * p.steps; row < (outer + 1) * p.steps; ++row) {
      if (flags.resets[row]) rows.assign(before, {nullptr, nullptr});  // Zeros.
      if (!flags.valid[row]) continue;
      rows.emplace_back(&inputs[row * width], &d_inputs[row * width]);
      visit(windows, d_windows, row * (before + 1) * width, before + 1);
    }
    visit(last, d_last, outer * before * width, before);
  }
  const FlagsOfEngine<Engine> on_engine(flags);
  const auto run = [&](auto& inputs, auto& history, auto& windows, auto& last) {
    const auto at = [](auto& array) { return Elements<Engine, Element, T>(array); };
    return CausalWindows<Element>{at(inputs), at(history), at(windows), at(last), on_engine.Get(),
                                  p.outer,    p.steps,     width,       before};
  };
  typename Engine::template Array<T> to_inputs(inputs), to_history(history),
      to_windows(windows.size()), to_last(last.size());
  Engine::template ToWindows<Element>(run(to_inputs, to_history, to_windows, to_last));
  Expect("windows", to_windows.Read(), windows, 0, p, Algorithm::kAuto);
  Expect("last history", to_last.Read(), last, 0, p, Algorithm::kAuto);
  typename Engine::template Array<T> from_windows(d_windows), from_last(d_last),
      from_inputs(inputs.size()), from_history(history.size());
  Engine::template FromWindows<Element>(run(from_inputs, from_history, from_windows, from_last));
  const double tolerance = 8 * (stored + before * kFloat);
  Expect("sums over windows", from_inputs.Read(), d_inputs, tolerance, p, Algorithm::kAuto);
  Expect("sums of the history", from_history.Read(), d_history, tolerance, p, Algorithm::kAuto);
}

// Rows of `inner` elements, normalised, and the gradients. Scales and biases are in [1, 2].
template <typename Engine, typename Element, typename T>
void TestLayerNormalization(const Problem& p, double stored) {
  const int64_t rows = p.outer * p.steps, width = p.inner;
  constexpr float kEpsilon = 1e-3f;
  std::mt19937 random(1);
  const std::vector<T> inputs = Draw<T>(p.size(), random), d_outputs = Draw<T>(p.size(), random);
  std::vector<float> scale(width), bias(width);
  for (float& s : scale) s = 1 + static_cast<float>(random() % 256) / 256;
  for (float& b : bias) b = 1 + static_cast<float>(random() % 256) / 256;
  const std::vector<double> x = Widened(inputs), d_y = Widened(d_outputs);
  std::vector<double> outputs(p.size()), statistics(2 * rows), d_inputs(p.size()), d_scale(width),
      d_bias(width);
  for (int64_t row = 0; row < rows; ++row) {
    const auto mean_of = [&](auto&& value) {
      double sum = 0;
      for (int64_t i = 0; i < width; ++i) sum += value(i, row * width + i);
      return sum / width;
    };
    const double mean = mean_of([&](int64_t, int64_t at) { return x[at]; });
    const double variance =
        mean_of([&](int64_t, int64_t at) { return (x[at] - mean) * (x[at] - mean); });
    const double inverse = 1 / std::sqrt(variance + kEpsilon);
    const auto normalized = [&](int64_t at) { return (x[at] - mean) * inverse; };
    const double of_gradient = mean_of([&](int64_t i, int64_t at) { return scale[i] * d_y[at]; });
    const double of_product =
        mean_of([&](int64_t i, int64_t at) { return scale[i] * d_y[at] * normalized(at); });
    statistics[2 * row] = mean;
    statistics[2 * row + 1] = inverse;
    for (int64_t i = 0, at = row * width; i < width; ++i, ++at) {
      outputs[at] = scale[i] * normalized(at) + bias[i];
      d_inputs[at] = (scale[i] * d_y[at] - of_gradient - normalized(at) * of_product) * inverse;
      d_scale[i] += d_y[at] * normalized(at);
      d_bias[i] += d_y[at];
    }
  }
  typename Engine::template Array<T> from(inputs), to(p.size()), d_from(d_outputs), d_to(p.size());
  typename Engine::template Array<float> scales(scale), biases(bias), of_rows(2 * rows);
  const auto at = [](auto& array) { return Elements<Engine, Element, T>(array); };
  Engine::template Normalize<Element>(
      {at(from), scales.data, biases.data, rows, width, kEpsilon, at(to), of_rows.data});
  using Gradient = LayerNormalizationGradient<Element>;
  const int64_t chunks = Gradient::Chunks(rows);
  typename Engine::template Array<float> d_scales(chunks * width), d_biases(chunks * width);
  Engine::template DifferentiateNormalization<Element>({at(from), at(d_from), scales.data,
                                                        of_rows.data, rows, width, at(d_to),
                                                        d_scales.data, d_biases.data});
  const auto sum = [&](const std::vector<float>& of_chunks) {
    std::vector<float> sums(width);
    for (int64_t i = 0; i < chunks * width; ++i) sums[i % width] += of_chunks[i];
    return sums;
  };
  // Errors of sums of n numbers grow like sqrt(n). Tolerances are relative to the largest result.
  const auto of_sum = [](int64_t n) { return 16 * (std::sqrt(n) + 1) * kFloat; };
  const double row_error = of_sum(width), sum_error = of_sum(rows);
  Expect("normalised", to.Read(), outputs, row_error + stored, p, Algorithm::kAuto);
  Expect("statistics", of_rows.Read(), statistics, row_error, p, Algorithm::kAuto);
  Expect("gradients", d_to.Read(), d_inputs, row_error + stored, p, Algorithm::kAuto);
  Expect("gradients of the scale", sum(d_scales.Read()), d_scale, row_error + sum_error, p,
         Algorithm::kAuto);
  Expect("gradients of the bias", sum(d_biases.Read()), d_bias, sum_error, p, Algorithm::kAuto);
}

template <typename Engine, typename Element, typename T>
void TestRowPassesOf(const Problem& problem, double stored) {
  if (!InThisShard()) return;
  for (int64_t width : {1, 3, 8, 40}) TestCopyRows<Engine, T>(problem, width);
  TestColumnSums<Engine, Element, T>(problem);
  TestLayerNormalization<Engine, Element, T>(problem, stored);
  for (int64_t mean_run : {1, 7, 40, 301, 2500}) {
    TestHeldRows<Engine, Element, T>(problem, stored, mean_run);
  }
  for (const auto& [mean_run, before] :
       {std::pair{0, 1}, {0, 35}, {1, 3}, {7, 35}, {41, 1}, {600, 3}}) {
    TestCausalWindows<Engine, Element, T>(problem, stored, mean_run, before);
  }
}

template <typename Engine, typename Half, typename BFloat16>
int TestRowPasses() {
  // Teams of several warps, with rows in one part, in several, and of odd width.
  for (int64_t width : {600, 1100, 2500, 4096, 9001}) {
    if (!InThisShard()) continue;
    TestLayerNormalization<Engine, float, float>({1, 19, width, false}, kFloat);
    TestLayerNormalization<Engine, typename Engine::BFloat16, BFloat16>({1, 19, width, false},
                                                                        kBFloat16);
  }
  // More blocks of steps than a warp has lanes.
  if (InThisShard()) TestHeldRows<Engine, float, float>({1, 70000, 2, false}, kFloat, 50000);
  for (bool odd_addresses : {false, true}) {
    misaligned = odd_addresses;
    for (const Problem& problem : {Problem{1, 1, 1, false},
                                   {2, 3, 5, true},
                                   {3, 130, 33, false},
                                   {1, 2100, 8, true},
                                   {2, 700, 100, false},
                                   {1, 50, 528, false},
                                   {30, 9, 2, true},
                                   {2, 0, 4, false}}) {
      TestRowPassesOf<Engine, float, float>(problem, kFloat);
      TestRowPassesOf<Engine, typename Engine::Half, Half>(problem, kHalf);
      TestRowPassesOf<Engine, typename Engine::BFloat16, BFloat16>(problem, kBFloat16);
    }
  }
  misaligned = false;
  std::printf("%s, passes over rows: %d failures\n", Engine::kName, failures);
  return failures != 0;
}

}  // namespace tf_plr

#endif  // TF_PLR_TESTS_ENGINE_ROW_PASSES_TEST_H_
