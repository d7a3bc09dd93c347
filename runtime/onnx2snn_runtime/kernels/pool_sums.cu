// Lateral-inhibition pooling over windows that are too large for registers: the running sums
// [steps, elements] come from running_sum.cu.
#include "pool.h"

#include "layer.h"  // written by source.py: struct Layer, the type of the outputs

extern "C" __global__ void pool_sums(
    const float *sums, unsigned long long sums_apart, Layer::Output *y, float *totals,
    unsigned outputs, int steps, unsigned block,
    int size0, int outputs0, int stride0, int dilation0, int before0, int kernel0,
    int size1, int outputs1, int stride1, int dilation1, int before1, int kernel1,
    int size2, int outputs2, int stride2, int dilation2, int before2, int kernel2) {
  const Axis axes[] = {{size0, outputs0, stride0, dilation0, before0, kernel0},
                       {size1, outputs1, stride1, dilation1, before1, kernel1},
                       {size2, outputs2, stride2, dilation2, before2, kernel2}};
  const unsigned stride = gridDim.x * blockDim.x;
  for (unsigned output = blockIdx.x * blockDim.x + threadIdx.x; output < outputs;
       output += stride) {
    const Window window(axes, block, output);
    int from[3], to[3];
    SNN_UNROLL
    for (int axis = 0; axis < 3; ++axis) {
      from[axis] = axes[axis].element(window.at[axis], 0);
      to[axis] = axes[axis].element(window.at[axis], axes[axis].kernel - 1);
    }
    float total = totals[output];
    for (int t = 0; t < steps; ++t) {
      const float *now = sums + t * sums_apart;
      float best = now[window.element(axes, block, from[0], from[1], from[2])];
      for (int i = from[0]; i <= to[0]; i += axes[0].dilation) {
        for (int j = from[1]; j <= to[1]; j += axes[1].dilation) {
          for (int k = from[2]; k <= to[2]; k += axes[2].dilation) {
            best = greater(now[window.element(axes, block, i, j, k)], best);
          }
        }
      }
      convert(best - total, y[static_cast<unsigned long long>(t) * outputs + output]);
      total = best;
    }
    totals[output] = total;
  }
}
