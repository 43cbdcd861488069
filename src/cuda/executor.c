#define _POSIX_C_SOURCE 200809L /* clock_gettime, nanosleep */

#include "cuda/executor.h"

#include "cuda/images.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const int64_t second = 1000000000;
static const int64_t patience = 600; /* seconds: a step of a long video on a small card takes minutes */

static const struct {
    const char *name;
    uint32_t sums;
} kernels[WS_CUDA_KERNELS] = {
    [WS_CUDA_DISTANCE] = {"distance", 2}, [WS_CUDA_MOMENTS] = {"moments", 8}, [WS_CUDA_FINISH] = {"finish", 1},
    [WS_CUDA_SUBTRACT] = {"subtract", 1}, [WS_CUDA_ADVANCE] = {"advance", 1}, [WS_CUDA_APPLY] = {"apply", 0},
    [WS_CUDA_EXTRAPOLATE] = {"extrapolate", 0},
};

static const char *const dtypes[WS_DTYPE_COUNT] = {[WS_DTYPE_F32] = "f32", [WS_DTYPE_BF16] = "bf16", [WS_DTYPE_F16] = "f16"};

uint32_t ws_cuda_sums(ws_cuda_kernel kernel) {
    return kernels[kernel].sums;
}

size_t ws_cuda_workspace_bytes(ws_cuda_kernel kernel, size_t n) {
    return ws_launch_for(n, kernels[kernel].sums).workspace_bytes;
}

/* ---- On and off ----------------------------------------------------------------------------------------------------- */

ws_cuda_outcome ws_cuda_turn_off(ws_cuda *cuda, const char *format, ...) {
    if (!cuda->is_off) { /* the first reason is the cause */
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(cuda->reason, sizeof(cuda->reason), format, arguments);
        va_end(arguments);
    }
    cuda->is_off = true;
    return WS_CUDA_NEVER;
}

ws_cuda_outcome ws_cuda_require(ws_cuda *cuda, ws_cu_result result, const char *function) {
    return result == WS_CU_SUCCESS
               ? WS_CUDA_DONE
               : ws_cuda_turn_off(cuda, "off, because the NVIDIA driver answered %d to %s", result, function);
}

ws_cuda *ws_cuda_new(void) {
    ws_cuda *const cuda = calloc(1, sizeof(*cuda));
    if (cuda == NULL) {
        return NULL;
    }
    cuda->patience_ns = patience * second;
    const char *const wanted = getenv("WAVESPEED_CUDA");
    if (ws_cuda_images_embedded.fatbin == NULL) {
        (void)ws_cuda_turn_off(cuda, "not built, because the build found no nvcc that works");
    } else if (wanted == NULL || strcmp(wanted, "on") != 0) {
        (void)ws_cuda_turn_off(
            cuda, "off, because no GPU has run their tests yet; WAVESPEED_CUDA=on in the environment switches them on");
    }
    return cuda;
}

void ws_cuda_free(ws_cuda *cuda) {
    free(cuda);
}

bool ws_cuda_is_on(const ws_cuda *cuda) {
    return !cuda->is_off;
}

const char *ws_cuda_status(const ws_cuda *cuda) {
    if (cuda->is_off) {
        return cuda->reason;
    }
    for (size_t i = 0; i < WS_CUDA_DEVICES; ++i) {
        if (cuda->devices[i].is_checked) {
            return "in use";
        }
    }
    return "not used yet";
}

/* ---- Preparation ---------------------------------------------------------------------------------------------------- */

/* The driver's functions. */
static ws_cuda_outcome load(ws_cuda *cuda) {
    ws_error error;
    if (ws_cuda_driver_load(&cuda->driver, &error) != WS_OK) {
        return ws_cuda_turn_off(cuda, "off, because %s", error.text);
    }
    cuda->is_loaded = true;
    return WS_CUDA_DONE;
}

/* An older driver, or a GPU that nvcc did not know, is given the PTX to compile. */
static ws_cuda_outcome load_module(ws_cuda *cuda, ws_cu_module *module) {
    const ws_cu_result fatbin = cuda->driver.module_load_data(module, ws_cuda_images_embedded.fatbin);
    const ws_cu_result ptx =
        fatbin == WS_CU_SUCCESS ? WS_CU_SUCCESS : cuda->driver.module_load_data(module, ws_cuda_images_embedded.ptx);
    return ptx == WS_CU_SUCCESS
               ? WS_CUDA_DONE
               : ws_cuda_turn_off(
                     cuda, "off, because the NVIDIA driver takes neither the compiled kernels (%d) nor their PTX (%d)",
                     fatbin, ptx);
}

static ws_cuda_outcome find_kernels(ws_cuda *cuda, ws_cuda_device *device, ws_cu_module module) {
    for (size_t kernel = 0; kernel < WS_CUDA_KERNELS; ++kernel) {
        for (size_t dtype = 0; dtype < WS_DTYPE_COUNT; ++dtype) {
            char name[64];
            (void)snprintf(name, sizeof(name), "wavespeed_%s_%s", kernels[kernel].name, dtypes[dtype]);
            const ws_cu_result found = cuda->driver.module_get_function(&device->kernel[kernel][dtype], module, name);
            if (ws_cuda_require(cuda, found, "cuModuleGetFunction") != WS_CUDA_DONE) {
                return WS_CUDA_NEVER;
            }
        }
    }
    return ws_cuda_require(cuda, cuda->driver.module_get_function(&device->read, module, "wavespeed_read"),
                           "cuModuleGetFunction");
}

/* Memory of the host that all GPUs see. One context must be current. */
static ws_cuda_outcome allocate_mail(ws_cuda *cuda) {
    void *memory = NULL;
    const size_t bytes = WS_CUDA_MAILBOXES * sizeof(ws_cuda_mail);
    const ws_cuda_outcome outcome =
        cuda->mail != NULL
            ? WS_CUDA_DONE
            : ws_cuda_require(cuda, cuda->driver.host_allocate(&memory, bytes, WS_CU_HOST_PORTABLE | WS_CU_HOST_MAPPED),
                              "cuMemHostAlloc");
    if (memory != NULL) {
        memset(memory, 0, bytes);
        cuda->mail = memory;
    }
    return outcome;
}

/* Finds the device's context. */
static ws_cuda_outcome retain_context(ws_cuda *cuda, ws_cuda_device *device, int index) {
    if (device->context != NULL) {
        return WS_CUDA_DONE;
    }
    const ws_cuda_outcome found = ws_cuda_require(cuda, cuda->driver.device_get(&device->id, index), "cuDeviceGet");
    return found != WS_CUDA_DONE ? found
                                 : ws_cuda_require(cuda, cuda->driver.primary_context_retain(&device->context, device->id),
                                                   "cuDevicePrimaryCtxRetain");
}

/* What is needed before the first launch on a device, with its context current. */
static ws_cuda_outcome prepare(ws_cuda *cuda, ws_cuda_device *device, ws_cu_stream stream) {
    if (!device->is_prepared) {
        ws_cu_module module = NULL;
        if (allocate_mail(cuda) != WS_CUDA_DONE || load_module(cuda, &module) != WS_CUDA_DONE ||
            find_kernels(cuda, device, module) != WS_CUDA_DONE) {
            return WS_CUDA_NEVER;
        }
        device->is_prepared = true;
    }
    const ws_cuda_outcome outcome = device->is_checked ? WS_CUDA_DONE : ws_cuda_check_device(cuda, device, stream);
    device->is_checked = outcome == WS_CUDA_DONE;
    return outcome;
}

/* ---- Contexts ------------------------------------------------------------------------------------------------------- */

/* torch works in the primary contexts; whoever has made another one current for the same device works in a world of its own.
 */
static ws_cuda_outcome check_current(ws_cuda *cuda, const ws_cuda_device *device) {
    ws_cu_context current = NULL;
    ws_cu_device id = 0;
    if (ws_cuda_require(cuda, cuda->driver.context_get_current(&current), "cuCtxGetCurrent") != WS_CUDA_DONE) {
        return WS_CUDA_NEVER;
    }
    if (current == NULL || current == device->context) {
        return WS_CUDA_DONE;
    }
    if (ws_cuda_require(cuda, cuda->driver.context_get_device(&id), "cuCtxGetDevice") != WS_CUDA_DONE) {
        return WS_CUDA_NEVER;
    }
    return id != device->id
               ? WS_CUDA_DONE
               : ws_cuda_turn_off(cuda, "off, because something in this process gave the GPU another context than torch's");
}

static ws_cuda_outcome check_capture(ws_cuda *cuda, ws_cu_stream stream) {
    int status = WS_CU_CAPTURE_NONE;
    const ws_cu_result result = cuda->driver.stream_is_capturing(stream, &status);
    if (result == WS_CU_CAPTURE_IMPLICIT) {
        return WS_CUDA_NOT_NOW;
    }
    const ws_cuda_outcome outcome = ws_cuda_require(cuda, result, "cuStreamIsCapturing");
    return outcome == WS_CUDA_DONE && status != WS_CU_CAPTURE_NONE ? WS_CUDA_NOT_NOW : outcome;
}

/* Makes the device ready and its context current; leave() must follow when it returns the device. */
static ws_cuda_device *enter(ws_cuda *cuda, const ws_cuda_place *place) {
    if (cuda->is_off || place->device < 0 || place->device >= WS_CUDA_DEVICES) {
        return NULL;
    }
    ws_cuda_device *const device = &cuda->devices[place->device];
    if ((!cuda->is_loaded && load(cuda) != WS_CUDA_DONE) || retain_context(cuda, device, place->device) != WS_CUDA_DONE ||
        check_current(cuda, device) != WS_CUDA_DONE ||
        ws_cuda_require(cuda, cuda->driver.context_push(device->context), "cuCtxPushCurrent") != WS_CUDA_DONE) {
        return NULL;
    }
    if (check_capture(cuda, place->stream) == WS_CUDA_DONE && prepare(cuda, device, place->stream) == WS_CUDA_DONE) {
        return device;
    }
    ws_cu_context popped = NULL;
    (void)cuda->driver.context_pop(&popped);
    return NULL;
}

static void leave(ws_cuda *cuda) {
    ws_cu_context popped = NULL;
    (void)ws_cuda_require(cuda, cuda->driver.context_pop(&popped), "cuCtxPopCurrent");
}

/* ---- Launching ------------------------------------------------------------------------------------------------------ */

ws_cuda_outcome ws_cuda_enqueue(ws_cuda *cuda, const ws_cuda_device *device, ws_cu_stream stream, ws_cuda_kernel kernel,
                                const ws_cuda_arrays *arrays) {
    const ws_launch launch = ws_launch_for(arrays->n, kernels[kernel].sums);
    if (launch.blocks == 0) {
        return WS_CUDA_NOT_NOW;
    }
    ws_cuda_operands operands = {
        .n = arrays->n, .out = arrays->out, .difference = arrays->difference, .sums = arrays->sums};
    memcpy(operands.in, arrays->in, sizeof(operands.in));
    memcpy(operands.weights, arrays->weights, sizeof(operands.weights));
    if (launch.workspace_bytes > 0) {
        unsigned char *const workspace = arrays->workspace;
        operands.ticket = (uint32_t *)arrays->workspace;
        operands.parts = (double *)(void *)(workspace + WS_LAUNCH_TICKET_BYTES);
        const ws_cu_result cleared = cuda->driver.set_32_async((ws_cu_pointer)(uintptr_t)workspace, 0,
                                                               WS_LAUNCH_TICKET_BYTES / sizeof(uint32_t), stream);
        if (ws_cuda_require(cuda, cleared, "cuMemsetD32Async") != WS_CUDA_DONE) {
            return WS_CUDA_NEVER;
        }
    }
    void *parameters[] = {&operands};
    return ws_cuda_require(cuda,
                           cuda->driver.launch_kernel(device->kernel[kernel][arrays->dtype], launch.blocks, 1, 1,
                                                      launch.threads, 1, 1, 0, stream, parameters, NULL),
                           "cuLaunchKernel");
}

bool ws_cuda_launch(ws_cuda *cuda, const ws_cuda_place *place, ws_cuda_kernel kernel, const ws_cuda_arrays *arrays) {
    const ws_cuda_device *const device = enter(cuda, place);
    if (device == NULL) {
        return false;
    }
    const ws_cuda_outcome outcome = ws_cuda_enqueue(cuda, device, place->stream, kernel, arrays);
    leave(cuda);
    return outcome == WS_CUDA_DONE;
}

/* ---- Reading -------------------------------------------------------------------------------------------------------- */

static int free_mailbox(const ws_cuda *cuda) {
    for (int i = 0; i < WS_CUDA_MAILBOXES; ++i) {
        if (!cuda->mailboxes[i].is_taken) {
            return i;
        }
    }
    return -1;
}

int ws_cuda_enqueue_reading(ws_cuda *cuda, const ws_cuda_device *device, ws_cu_stream stream, const ws_cuda_values *values,
                            size_t count) {
    const int ticket = free_mailbox(cuda);
    if (ticket < 0 || count > WS_CUDA_READ_MOST) {
        return -1;
    }
    ws_cuda_reading reading = {.count = (uint32_t)count};
    size_t total = 0;
    for (size_t i = 0; i < count; ++i) {
        reading.parts[i] = (ws_cuda_part){values[i].values, values[i].count, values[i].is_float64 ? 1 : 0};
        total += values[i].count;
    }
    if (total > WS_CUDA_READ_MOST_VALUES) {
        return -1;
    }
    ws_cuda_mailbox *const box = &cuda->mailboxes[ticket];
    ws_cuda_mail *const mail = &cuda->mail[ticket];
    ws_cu_pointer seen_by_gpu = 0;
    if (ws_cuda_require(cuda, cuda->driver.host_device_pointer(&seen_by_gpu, mail, 0), "cuMemHostGetDevicePointer") !=
        WS_CUDA_DONE) {
        return -1;
    }
    reading.sequence = box->sequence + 1;
    reading.values = (double *)(uintptr_t)(seen_by_gpu + offsetof(ws_cuda_mail, values));
    reading.done = (uint32_t *)(uintptr_t)(seen_by_gpu + offsetof(ws_cuda_mail, done));
    void *parameters[] = {&reading};
    if (ws_cuda_require(
            cuda, cuda->driver.launch_kernel(device->read, 1, 1, 1, WS_CUDA_READ_MOST, 1, 1, 0, stream, parameters, NULL),
            "cuLaunchKernel") != WS_CUDA_DONE) {
        return -1;
    }
    *box = (ws_cuda_mailbox){true, reading.sequence, (uint32_t)total, stream, device->context};
    return ticket;
}

int ws_cuda_read_begin(ws_cuda *cuda, const ws_cuda_place *place, const ws_cuda_values *values, size_t count) {
    const ws_cuda_device *const device = enter(cuda, place);
    if (device == NULL) {
        return -1;
    }
    const int ticket = ws_cuda_enqueue_reading(cuda, device, place->stream, values, count);
    leave(cuda);
    return ticket;
}

static int64_t now(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * second + time.tv_nsec;
}

static bool has_arrived(const ws_cuda *cuda, int ticket) {
    const bool arrived = *(const volatile uint32_t *)&cuda->mail[ticket].done == cuda->mailboxes[ticket].sequence;
    atomic_thread_fence(memory_order_acquire); /* the values are read after the mark */
    return arrived;
}

/* Spins at first, because an idle GPU answers within microseconds; then the GPU is still busy with the model, and looking
 * from time to time is enough. The driver is asked now and then: only it knows that the GPU has met with an accident. */
static ws_cuda_answer wait_in_context(const ws_cuda *cuda, int ticket) {
    static const int64_t spinning = 2000000; /* ns */
    static const struct timespec pause = {0, 50000};
    enum { SPINS_BETWEEN_QUESTIONS = 1000 };
    const int64_t start = now();
    for (;;) {
        for (int spin = 0; spin < SPINS_BETWEEN_QUESTIONS; ++spin) {
            if (has_arrived(cuda, ticket)) {
                return WS_CUDA_ANSWERED;
            }
        }
        const ws_cu_result state = cuda->driver.stream_query(cuda->mailboxes[ticket].stream);
        if (state != WS_CU_NOT_READY) {
            /* Everything in the stream has run, so the mark is there or will never be. */
            return state == WS_CU_SUCCESS && has_arrived(cuda, ticket) ? WS_CUDA_ANSWERED : WS_CUDA_REFUSED;
        }
        const int64_t waited = now() - start;
        if (waited > cuda->patience_ns) {
            return WS_CUDA_SILENT;
        }
        if (waited > spinning) {
            (void)nanosleep(&pause, NULL);
        }
    }
}

ws_cuda_answer ws_cuda_read_wait(const ws_cuda *cuda, int ticket) {
    ws_cu_context popped = NULL;
    if (cuda->driver.context_push(cuda->mailboxes[ticket].context) != WS_CU_SUCCESS) {
        return WS_CUDA_REFUSED;
    }
    const ws_cuda_answer answer = wait_in_context(cuda, ticket);
    return cuda->driver.context_pop(&popped) == WS_CU_SUCCESS ? answer : WS_CUDA_REFUSED;
}

bool ws_cuda_read_end(ws_cuda *cuda, int ticket, ws_cuda_answer answer, double *out) {
    switch (answer) {
        case WS_CUDA_ANSWERED:
            memcpy(out, cuda->mail[ticket].values, cuda->mailboxes[ticket].count * sizeof(double));
            cuda->mailboxes[ticket].is_taken = false;
            return true;
        case WS_CUDA_SILENT:
            (void)ws_cuda_turn_off(cuda, "off, because the GPU did not answer within %.3g seconds",
                                   (double)cuda->patience_ns / (double)second);
            return false;
        case WS_CUDA_REFUSED:
        default:
            (void)ws_cuda_turn_off(cuda, "off, because the NVIDIA driver reports that work on the GPU went wrong");
            return false;
    }
}
