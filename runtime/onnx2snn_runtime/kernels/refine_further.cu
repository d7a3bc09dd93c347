// The finer output of a refining neuron, of neurons/refine.py.
// Arguments: those of struct Signals in scan.h, the states, the numbers of the law in its order. The
// second signal is the first estimate.
#include "scan.h"

#include "layer.h"  // written by source.py: struct Layer, the types of this variant and f

extern "C" __global__ void refine_further(
    const Layer::Input *x, unsigned long long x_apart, const Layer::Residual *first,
    unsigned long long first_apart, Layer::Output *y, float *counts, const float *table,
    unsigned inner, unsigned entries, unsigned neurons, int steps, int first_step,
    float *estimate, float *exponent,
    float burst_limit, float growth, float decay, float dead_zone,
    float lowest, float highest, float low, float high) {
  float *const states[] = {estimate, exponent};
  scan<RefineFurther<Layer::F>, Layer>(
      {{x, x_apart}, {first, first_apart}, y, counts, {table, inner, entries}, neurons, steps,
       first_step},
      states, {burst_limit, growth, decay, dead_zone, lowest, highest, low, high});
}
