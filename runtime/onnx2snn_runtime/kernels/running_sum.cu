// The running sum of a signal, which pool_sums.cu reads.
// Arguments: those of struct Signals in scan.h, and the states.
#include "scan.h"

#include "layer.h"  // written by source.py: struct Layer, the types of this variant and f

extern "C" __global__ void running_sum(
    const Layer::Input *x, unsigned long long x_apart, const Layer::Residual *residual,
    unsigned long long residual_apart, Layer::Output *y, float *counts, const float *table,
    unsigned inner, unsigned entries, unsigned neurons, int steps, int first_step,
    float *sum) {
  float *const states[] = {sum};
  scan<Sum, Layer>(
      {{x, x_apart}, {residual, residual_apart}, y, counts, {table, inner, entries}, neurons, steps,
       first_step},
      states, {});
}
