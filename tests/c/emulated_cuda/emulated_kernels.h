/* Runs a kernel of kernels.cu on the CPU, on memory of the host. */
#ifndef WAVESPEED_TESTS_EMULATED_KERNELS_H
#define WAVESPEED_TESTS_EMULATED_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMULATED_MOST_THREADS = 512 };

/* The order in which blocks, and the threads of a block between two of their meetings, take turns: every one must give the
 * same. */
typedef enum emulated_order { EMULATED_FORWARD, EMULATED_BACKWARD } emulated_order;

bool emulated_kernel_exists(const char *name);

/* operands: what the kernel takes by value. False for a name or a number of threads that there is not. */
bool emulated_launch(const char *name, uint32_t blocks, uint32_t threads, const void *operands, emulated_order order);

#ifdef __cplusplus
}
#endif

#endif
