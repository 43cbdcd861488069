/* The portable executor: plain C in the summation order of kernels.h, written so that -O3 turns it
 * into vector code. It must be compiled without contraction and without -ffast-math: the order of
 * operations is the contract. */
#include "wavespeed/kernels.h"

#include "cpu/float16.h"

#include <math.h>

enum { MOMENTS = 8 }; /* members of ws_moments */

static size_t block_end(size_t start, size_t n) {
    return n - start < WS_KERNEL_BLOCK ? n : start + WS_KERNEL_BLOCK;
}

static void fold(double *restrict total, const float *restrict lanes) {
    for (size_t lane = 0; lane < WS_KERNEL_LANES; ++lane) {
        total[lane] += (double)lanes[lane];
    }
}

static double sum_lanes(const double *lanes) {
    double sum = 0.0;
    for (size_t lane = 0; lane < WS_KERNEL_LANES; ++lane) {
        sum += lanes[lane];
    }
    return sum;
}

#define ELEMENT float
#define NAME(verb) verb##_f32
#define TO_F32(x) (x)
#define FROM_F32(x) (x)
#include "cpu/kernels_template.h"

#define ELEMENT uint16_t
#define NAME(verb) verb##_bf16
#define TO_F32(x) ws_f32_from_bf16(x)
#define FROM_F32(x) ws_bf16_from_f32(x)
#include "cpu/kernels_template.h"

#define ELEMENT uint16_t
#define NAME(verb) verb##_f16
#define TO_F32(x) ws_f32_from_f16(x)
#define FROM_F32(x) ws_f16_from_f32(x)
#include "cpu/kernels_template.h"

const ws_kernels ws_kernels_scalar = {
    .name = "scalar",
    .distance = {distance_f32, distance_bf16, distance_f16},
    .moments = {moments_f32, moments_bf16, moments_f16},
    .finish = {finish_f32, finish_bf16, finish_f16},
    .apply = {apply_f32, apply_bf16, apply_f16},
    .combine = {combine_f32, combine_bf16, combine_f16},
};
