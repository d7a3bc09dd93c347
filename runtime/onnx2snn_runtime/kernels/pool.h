// Geometry of lateral-inhibition pooling: windows over up to three axes.
//
// A plane [size0, size1, size2, block] is one image and one channel, or one block of channels that
// lie side by side (see planning/blocks.py); one and two axes are three with sizes of 1 in front.
#pragma once

#include "functions.h"

// Windows along one axis: window o covers o * stride - before + k * dilation, k = 0 … kernel - 1.
struct Axis {
  int size, outputs, stride, dilation, before, kernel;

  SNN_DEV int start(int o) const { return o * stride - before; }

  // First and last tap of a window on real elements; the host sees to it that every window has one.
  SNN_DEV int first_tap(int o) const {
    const int start = this->start(o);
    return start < 0 ? (dilation - 1 - start) / dilation : 0;
  }
  SNN_DEV int last_tap(int o) const {
    const int last = (size - 1 - start(o)) / dilation;
    return last < kernel ? last : kernel - 1;
  }

  // Element of tap k; a tap in the padding is moved to the nearest real tap of the same window,
  // which leaves the maximum as it is and needs no branch.
  SNN_DEV int element(int o, int k) const {
    const int first = first_tap(o), last = last_tap(o);
    return start(o) + (k < first ? first : k > last ? last : k) * dilation;
  }

  // Window o owns the elements from owned(o) up to owned(o + 1): every element has one owner,
  // which keeps its sum, however windows overlap or leave gaps.
  SNN_DEV int owned(int o) const {
    if (o == 0) return 0;
    if (o == outputs) return size;
    const int from = start(o);
    return from < 0 ? 0 : from < size ? from : size;
  }

  // Whether window o has a tap on this element.
  SNN_DEV bool covers(int o, int at) const {
    const int from = at - start(o);
    return from >= 0 && from % dilation == 0 && from / dilation < kernel;
  }
};

// The taps of one window along one axis.
template <int KERNEL>
struct Taps {
  int element[KERNEL];
  unsigned owned;  // bit k: the window owns the element of tap k

  SNN_DEV Taps(const Axis &axis, int o) : owned(0) {
    const int from = axis.owned(o), to = axis.owned(o + 1);
    SNN_UNROLL
    for (int k = 0; k < KERNEL; ++k) {
      element[k] = axis.element(o, k);
      if (from <= element[k] && element[k] < to) owned |= 1u << k;
    }
  }

  SNN_DEV bool owns(int k) const { return owned >> k & 1u; }
};

// visit(i, j, k) for every tap of a window, in the order of memory, without a loop at run time.
template <int K0, int K1, int K2, class Visit>
SNN_DEV void each_tap(const Visit &visit) {
  SNN_UNROLL
  for (int i = 0; i < K0; ++i) {
    SNN_UNROLL
    for (int j = 0; j < K1; ++j) {
      SNN_UNROLL
      for (int k = 0; k < K2; ++k) visit(i, j, k);
    }
  }
}

// The window that an output belongs to, from its index in [planes, outputs0, outputs1, outputs2,
// block].
struct Window {
  int at[3];
  unsigned plane;  // index of the first element of the plane, plus that of the channel in its block

  SNN_DEV Window(const Axis *axes, unsigned block, unsigned output) {
    const unsigned channel = output % block;
    unsigned rest = output / block, elements = block;
    SNN_UNROLL
    for (int axis = 2; axis >= 0; --axis) {
      at[axis] = static_cast<int>(rest % axes[axis].outputs);
      rest /= axes[axis].outputs;
      elements *= axes[axis].size;
    }
    plane = rest * elements + channel;
  }

  SNN_DEV unsigned element(const Axis *axes, unsigned block, int i, int j, int k) const {
    const unsigned row = static_cast<unsigned>(i) * axes[1].size + j;
    return plane + (row * axes[2].size + k) * block;
  }
};

// A NaN stays, as in NumPy's maximum.
SNN_DEV float greater(float value, float best) {
  return value > best || value != value ? value : best;
}
