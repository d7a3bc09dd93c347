// The laws of neurons/{burst,refine,graded,readout,integer}.py for one neuron and one step.
//
// Every law is a struct that holds what stays in registers over the steps of a chunk:
//   STATES      how many states it keeps, of the type State,
//   ROWS        how many numbers of its own it reads from the table of a layer, before those of f,
//   load(row)   reads them, row r of the table at row[r * stride],
//   step(…)     one step: takes the current x and the time t, sets the count of spikes, returns y;
//               where READS_SECOND<Law>, the second signal as well, behind x.
// F is f of this layer: written by source.py from the expression in neurons/activations.py.
// Quotients are divisions, never products with a reciprocal, which would round differently.
#pragma once

#include "functions.h"

// F_t = t * f(X_t / t), which for a positively homogeneous f is f(X_t).
template <class F>
SNN_DEV float cumulative(const F &f, float sum, float time) {
  return F::HOMOGENEOUS ? f(sum) : f(sum / time) * time;
}

// n = clip(floor(v0 + F/threshold) - spikes, lower_limit, burst_limit), y = n * threshold
template <class F>
struct Burst {
  using State = float;
  static constexpr int STATES = 2, ROWS = 1;
  struct Numbers {
    float v0, burst_limit, lower_limit, rounding;
  };
  float states[STATES];  // X_t and S_t
  float threshold;
  F f;

  SNN_DEV void load(const float *row, unsigned stride) {
    threshold = row[0];
    f.load(row + ROWS * stride, stride);
  }

  SNN_DEV float step(const Numbers &numbers, float x, float time, float &count) {
    float &sum = states[0], &spikes = states[1];
    sum = sum + x;
    const float level =
        floorf(cumulative(f, sum, time) / threshold * numbers.rounding + numbers.v0);
    count = within(level - spikes, numbers.lower_limit, numbers.burst_limit);
    spikes = spikes + count;
    return count * threshold;
  }
};

// n = clip(round((f(x) - Y)/unit), -limit, limit), 0 in the dead zone; Y += n * unit;
// unit = threshold * 2^e, and e follows the size of n
template <class F>
struct Refine {
  using State = float;
  static constexpr int STATES = 2, ROWS = 1;
  struct Numbers {
    float burst_limit, growth, decay, dead_zone, lowest, highest, low, high;
  };
  float states[STATES];  // Y_t and e
  float threshold;
  F f;

  SNN_DEV void load(const float *row, unsigned stride) {
    threshold = row[0];
    f.load(row + ROWS * stride, stride);
  }

  SNN_DEV float step(const Numbers &numbers, float x, float, float &count) {
    return correct(numbers, f(x), count);
  }

  SNN_DEV float correct(const Numbers &numbers, float target, float &count) {
    float &estimate = states[0], &exponent = states[1];
    const float unit = threshold * power_of_two(exponent);
    const float wanted = (target - estimate) / unit;
    const float whole = fabsf(wanted) > numbers.dead_zone ? rintf(wanted) : 0.0f;  // half to even
    count = within(whole, -numbers.burst_limit, numbers.burst_limit);
    estimate = within(estimate + count * unit, numbers.low, numbers.high);
    const float size = fabsf(count);
    const float quiet = size > numbers.burst_limit * 0.5f ? 0.0f : -numbers.decay;
    const float change = size >= numbers.burst_limit ? numbers.growth : quiet;
    exponent = within(exponent + change, numbers.lowest, numbers.highest);
    return estimate;
  }
};

template <class Law>
constexpr bool READS_SECOND = false;

// The finer output: adds to a first estimate of f(x) an estimate of what it leaves, by the same law.
template <class F>
struct RefineFurther : Refine<F> {
  SNN_DEV float step(const typename Refine<F>::Numbers &numbers, float x, float first, float,
                     float &count) {
    return first + this->correct(numbers, this->f(x) - first, count);
  }
};

template <class F>
constexpr bool READS_SECOND<RefineFurther<F>> = true;

// y = F - total; where F is not finite (0/0 before the first spike) the last F is kept, or a NaN
// would stay in the state for ever
template <class F>
struct Graded {
  using State = float;
  static constexpr int STATES = 2, ROWS = 0;
  struct Numbers {};
  float states[STATES];  // X_t and F_t
  F f;

  SNN_DEV void load(const float *row, unsigned stride) { f.load(row, stride); }

  SNN_DEV float step(const Numbers &, float x, float time, float &) {
    float &sum = states[0], &total = states[1];
    sum = sum + x;
    const float before = total, now = cumulative(f, sum, time);
    // now - now is 0 unless now is infinite or NaN
    total = F::HOMOGENEOUS || now - now == 0.0f ? now : before;
    return total - before;
  }
};

// The running mean, (x_1 + ... + x_t) / t.
struct Readout {
  using State = float;
  static constexpr int STATES = 1, ROWS = 0;
  struct Numbers {};
  float states[STATES];

  SNN_DEV void load(const float *, unsigned) {}

  SNN_DEV float step(const Numbers &, float x, float time, float &) {
    states[0] = states[0] + x;
    return states[0] / time;
  }
};

// The running sum x_1 + ... + x_t, which pooling over large windows reads.
struct Sum {
  using State = float;
  static constexpr int STATES = 1, ROWS = 0;
  struct Numbers {};
  float states[STATES];

  SNN_DEV void load(const float *, unsigned) {}

  SNN_DEV float step(const Numbers &, float x, float, float &) {
    states[0] = states[0] + x;
    return states[0];
  }
};

// a / b rounded down, for b > 0.
SNN_DEV int floor_quotient(int a, int b) { return a / b - (a % b < 0 ? 1 : 0); }

SNN_DEV int bounded(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

// n = clip(floor((F + floor(v0 * threshold)) / threshold) - spikes, lower_limit, burst_limit), all
// in whole numbers; F = max(X, 0), or X between the bounds times t where F::CLIPS. The signals are
// whole numbers below 2^24, and the converter has proven that no sum overflows.
template <class F>
struct IntegerBurst {
  using State = int;
  static constexpr int STATES = 2, ROWS = 1;
  struct Numbers {
    float v0, burst_limit, lower_limit;
  };
  int states[STATES];  // X_t and S_t
  float threshold;
  int low, high;  // bounds of one step

  SNN_DEV void load(const float *row, unsigned stride) {
    threshold = row[0];
    low = F::CLIPS ? static_cast<int>(row[ROWS * stride]) : 0;
    high = F::CLIPS ? static_cast<int>(row[(ROWS + 1) * stride]) : 0;
  }

  SNN_DEV float step(const Numbers &numbers, float x, float time, float &count) {
    int &sum = states[0], &spikes = states[1];
    sum = sum + static_cast<int>(x);
    const int t = static_cast<int>(time);
    const int charge = F::CLIPS ? bounded(sum, low * t, high * t) : sum < 0 ? 0 : sum;
    const int offset = static_cast<int>(floorf(threshold * numbers.v0));
    const int level = floor_quotient(charge + offset, static_cast<int>(threshold));
    const int sent = bounded(level - spikes, static_cast<int>(numbers.lower_limit),
                             static_cast<int>(numbers.burst_limit));
    spikes = spikes + sent;
    count = static_cast<float>(sent);
    return count;
  }
};

// The running mean of whole numbers in units of the answer, (x_1 + ... + x_t) / t * scale.
struct IntegerReadout {
  using State = int;
  static constexpr int STATES = 1, ROWS = 1;
  struct Numbers {};
  int states[STATES];
  float scale;

  SNN_DEV void load(const float *row, unsigned) { scale = row[0]; }

  SNN_DEV float step(const Numbers &, float x, float time, float &) {
    states[0] = states[0] + static_cast<int>(x);
    return static_cast<float>(states[0]) / time * scale;
  }
};
