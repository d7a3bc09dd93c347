// What the expressions of neurons/activations.py may call besides the functions of <cmath>.
#pragma once

#include "portable.h"

// Unlike fmaxf and fminf these let a NaN through, as NumPy's maximum, minimum and clip do.
SNN_DEV float at_least(float x, float low) { return x < low ? low : x; }
SNN_DEV float at_most(float x, float high) { return x > high ? high : x; }
SNN_DEV float within(float x, float low, float high) { return at_most(at_least(x, low), high); }

// ln(1 + e^x)
SNN_DEV float softplus(float x) { return at_least(x, 0.0f) + log1pf(expf(-fabsf(x))); }

// erf as the operator Erf computes it, x * P(x^2) / Q(x^2) on [-4, 4]: with the same coefficients
// and the same order of operations it gives the same bits, which erff would not.
SNN_DEV float error_function(float x) {
  const float bounded = within(x, -4.0f, 4.0f);
  const float square = bounded * bounded;
  float numerator = square * -2.72614225801306e-10f + 2.77068142495902e-08f;
  numerator = numerator * square + -2.10102402082508e-06f;
  numerator = numerator * square + -5.69250639462346e-05f;
  numerator = numerator * square + -7.34990630326855e-04f;
  numerator = numerator * square + -2.95459980854025e-03f;
  numerator = numerator * square + -1.60960333262415e-02f;
  float denominator = square * -1.45660718464996e-05f + -2.13374055278905e-04f;
  denominator = denominator * square + -1.68282697438203e-03f;
  denominator = denominator * square + -7.37332916720468e-03f;
  denominator = denominator * square + -1.42647390514189e-02f;
  return within(bounded * numerator / denominator, -1.0f, 1.0f);
}
