// The neuron in whole numbers of neurons/integer.py.
// Arguments: those of struct Signals in scan.h, the states, the numbers of the law in its order.
#include "scan.h"

#include "layer.h"  // written by source.py: struct Layer, the types of this variant and its bounds

extern "C" __global__ void integer(
    const Layer::Input *x, unsigned long long x_apart, const Layer::Residual *residual,
    unsigned long long residual_apart, Layer::Output *y, float *counts, const float *table,
    unsigned inner, unsigned entries, unsigned neurons, int steps, int first_step,
    int *input_sum, int *spikes,
    float v0, float burst_limit, float lower_limit) {
  int *const states[] = {input_sum, spikes};
  scan<IntegerBurst<Layer::F>, Layer>(
      {{x, x_apart}, {residual, residual_apart}, y, counts, {table, inner, entries}, neurons, steps,
       first_step},
      states, {v0, burst_limit, lower_limit});
}
