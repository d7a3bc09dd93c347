// All steps of a chunk for every neuron of a layer: states in registers, each value touched once.
//
// Signals lie as [steps, neurons]: time outermost, so that the threads of a warp, which own
// neighbouring neurons, read and write neighbouring addresses at every step.
#pragma once

#include "laws.h"

// A signal [steps, neurons]; `apart` is the number of elements between two steps, 0 where every
// step is the same (the constant current of an image: it is read from memory once, then from L1).
template <class T>
struct Signal {
  const T *values;
  unsigned long long apart;
};

// What neurons have of their own: a table [rows, entries], neuron i has entry i / inner % entries.
// One entry for a layer, one a channel (inner = height * width), or one a neuron (inner = 1).
struct Table {
  const float *values;
  unsigned inner, entries;
};

// Walks over the entries of neighbouring neurons with one division for the first of them.
class Entry {
 public:
  SNN_DEV Entry(const Table &table, unsigned neuron)
      : table_(table),
        offset_(neuron % table.inner),
        entry_(neuron / table.inner % table.entries) {}

  SNN_DEV const float *row() const { return table_.values + entry_; }

  SNN_DEV void advance() {
    if (++offset_ < table_.inner) return;
    offset_ = 0;
    if (++entry_ == table_.entries) entry_ = 0;
  }

 private:
  const Table &table_;
  unsigned offset_, entry_;
};

template <class Layer>
struct Signals {
  Signal<typename Layer::Input> x;
  Signal<typename Layer::Residual> residual;  // read only if JOINS or READS_SECOND of the law
  typename Layer::Output *y;                  // [steps, neurons]
  float *counts;                              // [steps, neurons], or null where nobody asks
  Table table;        // the scale, if SCALED, the bias, if BIASED, then the rows of the law and of f
  unsigned neurons;   // below 2^31; offsets in time are 64-bit
  int steps, first_step;
};

// WIDTH neurons of one thread over the steps of a chunk.
template <class Law, class Layer>
struct Lane {
  using Output = typename Layer::Output;
  static constexpr int WIDTH = Layer::WIDTH;
  static constexpr unsigned SCALE_ROWS = Layer::SCALED, BIAS_ROWS = Layer::BIASED;
  using Values = Pack<float, WIDTH>;
  using State = typename Law::State;
  using Held = Pack<State, WIDTH>;

  Law law[WIDTH];
  float scale[WIDTH], bias[WIDTH];

  SNN_DEV void load(const Table &table, unsigned first) {
    Entry entry(table, first);
    SNN_UNROLL
    for (int k = 0; k < WIDTH; ++k) {
      const float *row = entry.row();
      scale[k] = Layer::SCALED ? row[0] : 1.0f;
      bias[k] = Layer::BIASED ? row[SCALE_ROWS * table.entries] : 0.0f;
      law[k].load(row + (SCALE_ROWS + BIAS_ROWS) * table.entries, table.entries);
      entry.advance();
    }
  }

  SNN_DEV void load_states(State *const *states, unsigned first) {
    SNN_UNROLL
    for (int s = 0; s < Law::STATES; ++s) {
      const Held held = *reinterpret_cast<const Held *>(states[s] + first);
      SNN_UNROLL
      for (int k = 0; k < WIDTH; ++k) law[k].states[s] = held.of[k];
    }
  }

  SNN_DEV void store_states(State *const *states, unsigned first) const {
    SNN_UNROLL
    for (int s = 0; s < Law::STATES; ++s) {
      Held held;
      SNN_UNROLL
      for (int k = 0; k < WIDTH; ++k) held.of[k] = law[k].states[s];
      *reinterpret_cast<Held *>(states[s] + first) = held;
    }
  }

  template <class T>
  SNN_DEV static Pack<T, WIDTH> read(const Signal<T> &signal, int t, unsigned first) {
    const T *at = signal.values + t * signal.apart + first;
    return *reinterpret_cast<const Pack<T, WIDTH> *>(at);
  }

  // STEPS steps: all loads first, so that they are in flight together. The outputs may lie over the
  // inputs, hence nothing here is __restrict__ and the compiler could not reorder them by itself.
  template <int STEPS>
  SNN_DEV void run(const Signals<Layer> &signals, const typename Law::Numbers &numbers, int t,
                   unsigned first) {
    Pack<typename Layer::Input, WIDTH> x[STEPS];
    Pack<typename Layer::Residual, WIDTH> residual[STEPS];
    constexpr bool READS = Layer::JOINS || READS_SECOND<Law>;
    SNN_UNROLL
    for (int s = 0; s < STEPS; ++s) {
      x[s] = read(signals.x, t + s, first);
      if (READS) residual[s] = read(signals.residual, t + s, first);
    }
    SNN_UNROLL
    for (int s = 0; s < STEPS; ++s) {
      const float time = static_cast<float>(signals.first_step + t + s);
      Pack<Output, WIDTH> y;
      Values counts;
      SNN_UNROLL
      for (int k = 0; k < WIDTH; ++k) {
        float current = to_float(x[s].of[k]), count = 0.0f;
        if (Layer::SCALED) current = current * scale[k];
        if (Layer::BIASED) current = current + bias[k];
        float value;
        if constexpr (READS_SECOND<Law>) {
          value = law[k].step(numbers, current, to_float(residual[s].of[k]), time, count);
        } else {
          if (Layer::JOINS) current = current + to_float(residual[s].of[k]);
          value = law[k].step(numbers, current, time, count);
        }
        convert(Layer::COUNTS ? count : value, y.of[k]);
        counts.of[k] = count;
      }
      const unsigned long long at =
          static_cast<unsigned long long>(t + s) * signals.neurons + first;
      *reinterpret_cast<Pack<Output, WIDTH> *>(signals.y + at) = y;
      if (signals.counts) *reinterpret_cast<Values *>(signals.counts + at) = counts;
    }
  }
};

// WIDTH divides the number of neurons, so no step has a ragged end; the host takes WIDTH = 1 where
// 4 does not fit. Four steps together keep 64 bytes a thread in flight: 64 KiB a multiprocessor
// with the 1024 threads that 64 registers allow. Latency times bandwidth of an H100 asks for about
// 18 KiB (0.7 us * 3.4 TB/s / 132; reckoned, not measured).
template <class Law, class Layer>
SNN_DEV void scan(const Signals<Layer> &signals, typename Law::State *const *states,
                  const typename Law::Numbers &numbers) {
  constexpr int TOGETHER = 4;
  constexpr unsigned WIDTH = Layer::WIDTH;
  const unsigned stride = gridDim.x * blockDim.x * WIDTH;
  for (unsigned first = (blockIdx.x * blockDim.x + threadIdx.x) * WIDTH; first < signals.neurons;
       first += stride) {
    Lane<Law, Layer> lane;
    lane.load(signals.table, first);
    lane.load_states(states, first);
    int t = 0;
    for (; t + TOGETHER <= signals.steps; t += TOGETHER) {
      lane.template run<TOGETHER>(signals, numbers, t, first);
    }
    for (; t < signals.steps; ++t) lane.template run<1>(signals, numbers, t, first);
    lane.store_states(states, first);
  }
}
