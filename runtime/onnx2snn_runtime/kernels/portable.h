// One source for two compilers: NVRTC for the GPU, and a C++17 compiler of the host for the tests.
//
// No header of the CUDA toolkit is needed. Compile with --fmad=false (NVRTC) or -ffp-contract=off
// (gcc) and without fast-math: then + - * / floor and rint round alike on both and in NumPy. But for
// subnormal numbers: CuPy adds -ftz=true to whatever it compiles, which takes them for zero.
#pragma once

#ifdef __CUDACC__
#define SNN_DEV __device__ __forceinline__
#define SNN_UNROLL _Pragma("unroll")
#else
#include <math.h>
#include <string.h>
#define SNN_DEV inline
#define SNN_UNROLL
#endif

// WIDTH neighbours that are read or written by one instruction: 128 bits for four floats.
template <class T, int WIDTH>
struct alignas(sizeof(T) * WIDTH) Pack {
  T of[WIDTH];
};

// IEEE binary16 as it lies in memory; arithmetic is done in float.
struct Half {
  unsigned short bits;
};

SNN_DEV float to_float(float value) { return value; }

SNN_DEV float to_float(Half value) {
#ifdef __CUDACC__
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#elif defined(__FLT16_MAX__)
  _Float16 half;
  memcpy(&half, &value.bits, sizeof half);
  return static_cast<float>(half);
#else
#error "this compiler has no type for half precision"
#endif
}

// float to what a layer sends; the tag says which overload is meant
SNN_DEV void convert(float value, float &result) { result = value; }

SNN_DEV void convert(float value, Half &result) {  // to nearest, ties to even, as NumPy does
#ifdef __CUDACC__
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
#elif defined(__FLT16_MAX__)
  const _Float16 half = static_cast<_Float16>(value);
  memcpy(&result.bits, &half, sizeof half);
#endif
}

// A spike count, which the caller keeps within -127..127.
SNN_DEV void convert(float value, signed char &result) { result = static_cast<signed char>(value); }

// 2^e as the very float, for whole e from -126 to 127: exp2f need not be exact everywhere.
SNN_DEV float power_of_two(float exponent) {
  const unsigned bits = static_cast<unsigned>(static_cast<int>(exponent) + 127) << 23;
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
#endif
}
