/* The levels of the CPU executor, one table of kernels each. Private to src/cpu. Which of them are built depends on the
 * processor architecture; which of those the machine can run is asked at run time (levels.c). */
#ifndef WAVESPEED_CPU_LEVELS_H
#define WAVESPEED_CPU_LEVELS_H

#include "wavespeed/kernels.h"

extern const ws_kernels ws_kernels_scalar;
extern const ws_kernels ws_kernels_avx2;
extern const ws_kernels ws_kernels_avx512;
extern const ws_kernels ws_kernels_neon;

#endif
