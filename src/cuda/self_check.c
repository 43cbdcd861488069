/* Every kernel once on a device that is used for the first time, against the CPU's. What does not give the same bits is not
 * used: an unknown GPU or driver may cost time, but never a picture. */
#include "cuda/executor.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHORT = 2 * WS_KERNEL_CHUNK + WS_KERNEL_BLOCK + 17,   /* three chunks, a block and a row that are not full */
    LONG = 66 * WS_KERNEL_CHUNK + WS_KERNEL_BLOCK + 17,   /* more chunks than the last CUDA block fetches at a time */
    STATE_BYTES = (LONG + WS_HISTORY) * sizeof(uint16_t), /* enough for SHORT ones in fp32 as well */
    OUT = STATE_BYTES + 64 - STATE_BYTES % 64,            /* offsets in the memory of a check */
    DIFFERENCE = OUT + SHORT * sizeof(float) + 64 - SHORT * sizeof(float) % 64,
    DIFFERENCE_BYTES = (SHORT / WS_KERNEL_GROUP + 1 + SHORT / 4 + 1) * sizeof(float), /* ws_difference_size(SHORT) */
    RESIDUALS = DIFFERENCE + DIFFERENCE_BYTES + 64 - DIFFERENCE_BYTES % 64,
    WRITTEN = RESIDUALS - OUT, /* bytes that are compared, among them some that no kernel may write */
    SUMS = RESIDUALS + (SHORT + WS_HISTORY) * sizeof(float) + 64 - (SHORT + WS_HISTORY) * sizeof(float) % 64,
    WORKSPACE = SUMS + 64
};

/* States, then what is written, then residuals: the same on both sides. Several arrays begin one element after the other. */
typedef struct check {
    ws_cuda *cuda;
    const ws_cuda_device *device;
    ws_cu_stream stream;
    unsigned char *host;
    unsigned char *result; /* WRITTEN */
    ws_cu_pointer memory;
} check;

static const size_t element_size[WS_DTYPE_COUNT] = {
    [WS_DTYPE_F32] = sizeof(float), [WS_DTYPE_BF16] = sizeof(uint16_t), [WS_DTYPE_F16] = sizeof(uint16_t)};

/* ---- Values --------------------------------------------------------------------------------------------------------- */

static uint32_t next(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Numbers of any sign between 2^-12 and 2^6, and now and then zeros and denormals. */
static void fill(void *array, ws_dtype dtype, size_t n) {
    static const struct {
        uint32_t mantissa_bits, sign_bit, bias;
    } formats[WS_DTYPE_COUNT] = {
        [WS_DTYPE_F32] = {23, 31, 127}, [WS_DTYPE_BF16] = {7, 15, 127}, [WS_DTYPE_F16] = {10, 15, 15}};
    uint32_t state = 1;
    for (size_t i = 0; i < n; ++i) {
        const uint32_t kind = next(&state) >> 16;
        const uint32_t exponent = kind % 64 == 0 ? 0 : formats[dtype].bias - 12 + kind % 18;
        const uint32_t mantissa = next(&state) & ((1u << formats[dtype].mantissa_bits) - 1);
        const uint32_t bits = (kind >> 15) << formats[dtype].sign_bit | exponent << formats[dtype].mantissa_bits | mantissa;
        if (dtype == WS_DTYPE_F32) {
            ((uint32_t *)array)[i] = bits;
        } else {
            ((uint16_t *)array)[i] = (uint16_t)bits;
        }
    }
}

/* ---- One kernel ----------------------------------------------------------------------------------------------------- */

static bool writes(ws_cuda_kernel kernel) {
    return kernel != WS_CUDA_DISTANCE && kernel != WS_CUDA_MOMENTS;
}

static ws_dtype dtype_of_out(ws_cuda_kernel kernel, ws_dtype dtype) {
    const bool is_residual = kernel == WS_CUDA_FINISH || kernel == WS_CUDA_SUBTRACT || kernel == WS_CUDA_ADVANCE;
    return is_residual ? WS_DTYPE_F32 : dtype;
}

/* The operands at `memory`. extrapolate works in place, apply does not; its differences are the bytes of residuals. */
static ws_cuda_arrays arrays_at(unsigned char *memory, ws_cuda_kernel kernel, ws_dtype dtype, size_t n) {
    ws_cuda_arrays arrays = {.dtype = dtype, .n = n, .weights = {1.5f, -0.7f}};
    arrays.sums = (double *)(void *)(memory + SUMS);
    arrays.workspace = memory + WORKSPACE;
    arrays.out = writes(kernel) ? memory + OUT : NULL;
    arrays.difference = kernel == WS_CUDA_ADVANCE ? (float *)(void *)(memory + DIFFERENCE) : NULL;
    for (size_t i = 0; i < 1 + WS_HISTORY; ++i) {
        arrays.in[i] = memory + i * element_size[dtype];
    }
    if (kernel == WS_CUDA_APPLY || kernel == WS_CUDA_EXTRAPOLATE) {
        arrays.in[0] = kernel == WS_CUDA_EXTRAPOLATE ? arrays.out : arrays.in[0];
        for (size_t i = 1; i < 1 + WS_HISTORY; ++i) {
            arrays.in[i] = memory + RESIDUALS + i * sizeof(float);
        }
    }
    return arrays;
}

static void run_on_cpu(ws_cuda_kernel kernel, const ws_cuda_arrays *of) {
    static const ws_cpu_executor executor = {NULL, NULL};
    const float *const differences[WS_DIFFERENCES] = {of->in[2], of->in[3]};
    switch (kernel) {
        case WS_CUDA_DISTANCE: {
            ws_sums sums;
            ws_residual_distance(&executor, of->dtype, of->in[0], of->in[1], of->n, &sums);
            of->sums[0] = sums.difference;
            of->sums[1] = sums.reference;
            break;
        }
        case WS_CUDA_MOMENTS: {
            ws_moments moments;
            ws_residual_moments(&executor, of->dtype, of->in[0], &of->in[1], of->n, &moments);
            const double sums[] = {moments.difference, moments.reference, moments.ee,   moments.ed1,
                                   moments.ed2,        moments.d1d1,      moments.d1d2, moments.d2d2};
            memcpy(of->sums, sums, sizeof(sums));
            break;
        }
        case WS_CUDA_FINISH:
            of->sums[0] = ws_residual_finish(&executor, of->dtype, of->out, of->in[0], of->n);
            break;
        case WS_CUDA_SUBTRACT:
            of->sums[0] = ws_residual_subtract(&executor, of->dtype, of->out, of->in[0], of->in[1], of->n);
            break;
        case WS_CUDA_ADVANCE:
            of->sums[0] = ws_residual_advance(&executor, of->dtype, of->out, of->difference, of->in[0], of->in[1], of->n);
            break;
        case WS_CUDA_APPLY:
            ws_residual_apply(&executor, of->dtype, of->out, of->in[0], of->in[1], of->n);
            break;
        case WS_CUDA_EXTRAPOLATE:
            ws_residual_extrapolate(&executor, of->dtype, of->out, of->in[0], of->in[1], differences, of->weights, of->n);
            break;
        case WS_CUDA_KERNELS:
        default:
            break;
    }
}

/* Waits for what has been launched, and brings the sums. They come with the kernel that reads small arrays, which proves it
 * too. */
static ws_cuda_outcome read_sums(const check *of, const double *sums, uint32_t count, double *out) {
    const ws_cuda_values values = {sums, count, true};
    const int ticket = ws_cuda_enqueue_reading(of->cuda, of->device, of->stream, &values, 1);
    if (ticket < 0) {
        return ws_cuda_is_on(of->cuda) ? WS_CUDA_NOT_NOW : WS_CUDA_NEVER;
    }
    return ws_cuda_read_end(of->cuda, ticket, ws_cuda_read_wait(of->cuda, ticket), out) ? WS_CUDA_DONE : WS_CUDA_NEVER;
}

static ws_cuda_outcome upload(const check *of, size_t offset, size_t bytes) {
    return ws_cuda_require(of->cuda,
                           of->cuda->driver.copy_to_device_async(of->memory + offset, of->host + offset, bytes, of->stream),
                           "cuMemcpyHtoDAsync");
}

static ws_cuda_outcome check_kernel(check *of, ws_cuda_kernel kernel, ws_dtype dtype, size_t n) {
    const ws_cuda_arrays there = arrays_at((unsigned char *)(uintptr_t)of->memory, kernel, dtype, n);
    const ws_cuda_arrays here = arrays_at(of->host, kernel, dtype, n);
    if (writes(kernel)) {
        fill(here.out, dtype_of_out(kernel, dtype), n);
        if (upload(of, OUT, WRITTEN) != WS_CUDA_DONE) {
            return WS_CUDA_NEVER;
        }
    }
    ws_cuda_outcome outcome = ws_cuda_enqueue(of->cuda, of->device, of->stream, kernel, &there);
    double sums[WS_LAUNCH_MOST_SUMS] = {0};
    /* Also for kernels without sums: it is the wait that has a time limit. */
    outcome = outcome != WS_CUDA_DONE ? outcome : read_sums(of, there.sums, ws_cuda_sums(kernel), sums);
    if (outcome == WS_CUDA_DONE && writes(kernel)) {
        outcome = ws_cuda_require(of->cuda,
                                  of->cuda->driver.copy_to_host_async(of->result, of->memory + OUT, WRITTEN, of->stream),
                                  "cuMemcpyDtoHAsync");
        outcome = outcome != WS_CUDA_DONE ? outcome : read_sums(of, there.sums, 0, sums);
    }
    if (outcome != WS_CUDA_DONE) {
        return outcome;
    }
    run_on_cpu(kernel, &here);
    const bool same = memcmp(sums, here.sums, ws_cuda_sums(kernel) * sizeof(double)) == 0 &&
                      (!writes(kernel) || memcmp(of->result, of->host + OUT, WRITTEN) == 0);
    return same ? WS_CUDA_DONE : ws_cuda_turn_off(of->cuda, "off, because this GPU gives other results than the CPU");
}

/* ---- All of them ---------------------------------------------------------------------------------------------------- */

static ws_cuda_outcome check_dtype(check *of, ws_dtype dtype) {
    const bool has_long = dtype == WS_DTYPE_BF16;
    const size_t states = (has_long ? LONG : SHORT) + WS_HISTORY;
    fill(of->host, dtype, states);
    ws_cuda_outcome outcome = upload(of, 0, states * element_size[dtype]);
    for (int kernel = 0; outcome == WS_CUDA_DONE && kernel < WS_CUDA_KERNELS; ++kernel) {
        outcome = check_kernel(of, (ws_cuda_kernel)kernel, dtype, SHORT);
        if (outcome == WS_CUDA_DONE && has_long && !writes((ws_cuda_kernel)kernel)) {
            outcome = check_kernel(of, (ws_cuda_kernel)kernel, dtype, LONG);
        }
    }
    return outcome;
}

static ws_cuda_outcome check_all(check *of) {
    fill(of->host + RESIDUALS, WS_DTYPE_F32, SHORT + WS_HISTORY);
    ws_cuda_outcome outcome = upload(of, RESIDUALS, (SHORT + WS_HISTORY) * sizeof(float));
    for (int dtype = 0; outcome == WS_CUDA_DONE && dtype < WS_DTYPE_COUNT; ++dtype) {
        outcome = check_dtype(of, (ws_dtype)dtype);
    }
    return outcome;
}

/* Without memory for it, on either side, the check comes another time. */
ws_cuda_outcome ws_cuda_check_device(ws_cuda *cuda, const ws_cuda_device *device, ws_cu_stream stream) {
    const size_t bytes = WORKSPACE + ws_cuda_workspace_bytes(WS_CUDA_MOMENTS, LONG);
    check of = {cuda, device, stream, calloc(bytes, 1), malloc(WRITTEN), 0};
    ws_cuda_outcome outcome = WS_CUDA_NOT_NOW;
    if (of.host != NULL && of.result != NULL) {
        const ws_cu_result allocated = cuda->driver.allocate(&of.memory, bytes);
        outcome = allocated == WS_CU_OUT_OF_MEMORY ? WS_CUDA_NOT_NOW : ws_cuda_require(cuda, allocated, "cuMemAlloc");
        outcome = outcome != WS_CUDA_DONE ? outcome : check_all(&of);
        if (allocated == WS_CU_SUCCESS && outcome != WS_CUDA_NEVER) { /* else the GPU may still be writing there */
            outcome = ws_cuda_require(cuda, cuda->driver.release(of.memory), "cuMemFree") == WS_CUDA_DONE ? outcome
                                                                                                          : WS_CUDA_NEVER;
        }
    }
    free(of.host);
    free(of.result);
    return outcome;
}
