// The graded law of neurons/graded.py, for a function of one input.
// Arguments: those of struct Signals in scan.h, and the states.
#include "scan.h"

#include "layer.h"  // written by source.py: struct Layer, the types of this variant and f

extern "C" __global__ void graded(
    const Layer::Input *x, unsigned long long x_apart, const Layer::Residual *residual,
    unsigned long long residual_apart, Layer::Output *y, float *counts, const float *table,
    unsigned inner, unsigned entries, unsigned neurons, int steps, int first_step,
    float *input_sum, float *total) {
  float *const states[] = {input_sum, total};
  scan<Graded<Layer::F>, Layer>(
      {{x, x_apart}, {residual, residual_apart}, y, counts, {table, inner, entries}, neurons, steps,
       first_step},
      states, {});
}
