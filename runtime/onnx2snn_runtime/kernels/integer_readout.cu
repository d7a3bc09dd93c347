// The running mean of whole numbers of neurons/integer.py.
// Arguments: those of struct Signals in scan.h, and the states.
#include "scan.h"

#include "layer.h"  // written by source.py: struct Layer, the types of this variant

extern "C" __global__ void integer_readout(
    const Layer::Input *x, unsigned long long x_apart, const Layer::Residual *residual,
    unsigned long long residual_apart, Layer::Output *y, float *counts, const float *table,
    unsigned inner, unsigned entries, unsigned neurons, int steps, int first_step,
    int *sum) {
  int *const states[] = {sum};
  scan<IntegerReadout, Layer>(
      {{x, x_apart}, {residual, residual_apart}, y, counts, {table, inner, entries}, neurons, steps,
       first_step},
      states, {});
}
