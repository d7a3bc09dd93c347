// Lateral-inhibition pooling of neurons/graded.py: y_t is the maximum of X_t over a window less that
// of X_(t-1), with the running sums X of the window in registers. The kernel shape is known when
// this is compiled, so all loops over taps are unrolled and their loads are in flight together.
//
// Windows overlap: several threads add up the same element, in the same order and so to the same
// sum. What the owner keeps goes to another array than the one that its neighbours start from.
#include "pool.h"

#include "layer.h"  // written by source.py: struct Layer, the types of this variant, the kernel

extern "C" __global__ void pool(
    const Layer::Input *x, unsigned long long x_apart, Layer::Output *y, const float *sums,
    float *next_sums, float *totals, unsigned outputs, int steps, unsigned block, int has_gaps,
    int size0, int outputs0, int stride0, int dilation0, int before0,
    int size1, int outputs1, int stride1, int dilation1, int before1,
    int size2, int outputs2, int stride2, int dilation2, int before2) {
  constexpr int K0 = Layer::KERNEL0, K1 = Layer::KERNEL1, K2 = Layer::KERNEL2;
  const Axis axes[] = {{size0, outputs0, stride0, dilation0, before0, K0},
                       {size1, outputs1, stride1, dilation1, before1, K1},
                       {size2, outputs2, stride2, dilation2, before2, K2}};
  const unsigned stride = gridDim.x * blockDim.x;
  for (unsigned output = blockIdx.x * blockDim.x + threadIdx.x; output < outputs;
       output += stride) {
    const Window window(axes, block, output);
    const int *o = window.at;
    const Taps<K0> taps0(axes[0], o[0]);
    const Taps<K1> taps1(axes[1], o[1]);
    const Taps<K2> taps2(axes[2], o[2]);
    unsigned element[K0][K1][K2];
    float sum[K0][K1][K2];
    each_tap<K0, K1, K2>([&](int i, int j, int k) {
      element[i][j][k] =
          window.element(axes, block, taps0.element[i], taps1.element[j], taps2.element[k]);
      sum[i][j][k] = sums[element[i][j][k]];
    });

    float total = totals[output];
    for (int t = 0; t < steps; ++t) {
      const Layer::Input *now = x + t * x_apart;
      float best = 0.0f;  // the first tap replaces it
      each_tap<K0, K1, K2>([&](int i, int j, int k) {
        sum[i][j][k] = sum[i][j][k] + to_float(now[element[i][j][k]]);
        best = i + j + k == 0 ? sum[0][0][0] : greater(sum[i][j][k], best);
      });
      convert(best - total, y[static_cast<unsigned long long>(t) * outputs + output]);
      total = best;
    }
    totals[output] = total;

    each_tap<K0, K1, K2>([&](int i, int j, int k) {
      if (taps0.owns(i) && taps1.owns(j) && taps2.owns(k)) {
        next_sums[element[i][j][k]] = sum[i][j][k];
      }
    });
    if (!has_gaps) continue;
    // strides beyond the window, dilations, rows behind the last window
    for (int i = axes[0].owned(o[0]); i < axes[0].owned(o[0] + 1); ++i) {
      for (int j = axes[1].owned(o[1]); j < axes[1].owned(o[1] + 1); ++j) {
        for (int k = axes[2].owned(o[2]); k < axes[2].owned(o[2] + 1); ++k) {
          if (axes[0].covers(o[0], i) && axes[1].covers(o[1], j) && axes[2].covers(o[2], k)) {
            continue;
          }
          const unsigned at = window.element(axes, block, i, j, k);
          float unseen = sums[at];
          for (int t = 0; t < steps; ++t) unseen = unseen + to_float(x[t * x_apart + at]);
          next_sums[at] = unseen;
        }
      }
    }
  }
}
