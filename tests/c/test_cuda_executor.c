/* The CUDA executor with a driver that runs the kernels on the CPU (tests/c/emulated_cuda/fake_driver.cpp): what it
 * computes, and that whatever goes wrong ends in one sentence, with nothing launched or nothing used. */
#define _POSIX_C_SOURCE 200809L /* setenv */

#include "kernel_arrays.h"

#include "cuda/executor.h"
#include "cuda/images.h"

#include <dlfcn.h>

/* Instead of the embedded ones, so that this runs where there is no nvcc; the driver here knows the kernels by their names.
 */
const ws_cuda_images ws_cuda_images_embedded = {(const unsigned char *)"fatbin", ".version 7.0"};

static void (*behave)(const char *what);
static uint64_t (*launches)(void);
static int (*current_device)(void);

static const ws_cuda_place place = {0, NULL};
static const ws_cpu_executor cpu = {NULL, NULL};

/* function: a pointer to a function, which POSIX lets hold what dlsym() finds. */
static void find(void *library, const char *name, void *function) {
    void *const found = dlsym(library, name);
    assert_non_null(found);
    memcpy(function, &found, sizeof(found));
}

static int set_up(void **state) {
    (void)state;
    assert_int_equal(setenv("WAVESPEED_CUDA", "on", 1), 0);
    void *const library =
        dlopen(WAVESPEED_FAKE_CUDA_DRIVER, RTLD_NOW | RTLD_LOCAL); /* libcuda.so.1 by its soname from now on */
    assert_non_null(library);
    find(library, "fake_cuda_behave", &behave);
    find(library, "fake_cuda_launches", &launches);
    find(library, "fake_cuda_current", &current_device);
    return 0;
}

static ws_cuda *new_executor(const char *behaviour) {
    behave(behaviour);
    ws_cuda *const cuda = ws_cuda_new();
    assert_non_null(cuda);
    return cuda;
}

/* Apply on two elements: the smallest thing that can be launched. */
static bool launch_something(ws_cuda *cuda, const ws_cuda_place *where) {
    const float hidden[2] = {1.0f, 2.0f};
    const float residual[2] = {0.5f, 0.25f};
    float out[2] = {-1.0f, -1.0f};
    const ws_cuda_arrays arrays = {.dtype = WS_DTYPE_F32, .n = 2, .in = {hidden, residual}, .out = out};
    const bool launched = ws_cuda_launch(cuda, where, WS_CUDA_APPLY, &arrays);
    assert_true(launched ? out[0] == 1.5f && out[1] == 2.25f : out[0] == -1.0f && out[1] == -1.0f);
    return launched;
}

static int read_something(ws_cuda *cuda, double *out) {
    static const float values[2] = {3.0f, 4.5f};
    const ws_cuda_values array = {values, 2, false};
    const int ticket = ws_cuda_read_begin(cuda, &place, &array, 1);
    return ticket >= 0 && ws_cuda_read_end(cuda, ticket, ws_cuda_read_wait(cuda, ticket), out);
}

/* ---- What it computes ----------------------------------------------------------------------------------------------- */

static void kernels_give_the_bits_of_the_cpu(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("");
    const size_t n = 3 * WS_KERNEL_CHUNK + 5;
    for (int dtype = 0; dtype < WS_DTYPE_COUNT; ++dtype) {
        void *const a = new_array((ws_dtype)dtype, n, 2.0f);
        void *const b = new_array((ws_dtype)dtype, n, 2.0f);
        double results[2];
        ws_cuda_arrays arrays = {.dtype = (ws_dtype)dtype, .n = n, .in = {a, b}, .sums = results};
        arrays.workspace = malloc(ws_cuda_workspace_bytes(WS_CUDA_DISTANCE, n));
        assert_true(ws_cuda_launch(cuda, &place, WS_CUDA_DISTANCE, &arrays));
        ws_sums sums;
        ws_residual_distance(&cpu, (ws_dtype)dtype, a, b, n, &sums);
        assert_same_double(results[0], sums.difference);
        assert_same_double(results[1], sums.reference);
        free(arrays.workspace);
        free(a);
        free(b);
    }
    assert_string_equal(ws_cuda_status(cuda), "in use");
    assert_int_equal(current_device(), -1);
    ws_cuda_free(cuda);
}

static void reading_brings_values_again_and_again(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("");
    for (int i = 0; i < 3 * WS_CUDA_MAILBOXES; ++i) {
        double out[2] = {0.0, 0.0};
        assert_true(read_something(cuda, out));
        assert_true(out[0] == 3.0 && out[1] == 4.5);
    }
    assert_int_equal(current_device(), -1);
    ws_cuda_free(cuda);
}

static void readings_that_are_waited_for_have_a_mailbox_each(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("");
    double values[WS_CUDA_MAILBOXES];
    int tickets[WS_CUDA_MAILBOXES];
    for (int i = 0; i < WS_CUDA_MAILBOXES; ++i) {
        values[i] = i;
        const ws_cuda_values array = {&values[i], 1, true};
        tickets[i] = ws_cuda_read_begin(cuda, &place, &array, 1);
        assert_in_range(tickets[i], 0, WS_CUDA_MAILBOXES - 1);
    }
    double none[2];
    assert_false(read_something(cuda, none));
    assert_true(ws_cuda_is_on(cuda));
    for (int i = 0; i < WS_CUDA_MAILBOXES; ++i) {
        double value = -1.0;
        assert_true(ws_cuda_read_end(cuda, tickets[i], ws_cuda_read_wait(cuda, tickets[i]), &value));
        assert_true(value == i);
    }
    assert_true(read_something(cuda, none));
    ws_cuda_free(cuda);
}

static void too_much_to_read_is_declined(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("");
    static const double many[WS_CUDA_READ_MOST_VALUES + 1];
    ws_cuda_values arrays[WS_CUDA_READ_MOST + 1];
    for (size_t i = 0; i < WS_CUDA_READ_MOST + 1; ++i) {
        arrays[i] = (ws_cuda_values){many, 1, true};
    }
    assert_int_equal(ws_cuda_read_begin(cuda, &place, arrays, WS_CUDA_READ_MOST + 1), -1);
    arrays[0].count = WS_CUDA_READ_MOST_VALUES + 1;
    assert_int_equal(ws_cuda_read_begin(cuda, &place, arrays, 1), -1);
    assert_true(ws_cuda_is_on(cuda));
    ws_cuda_free(cuda);
}

static void nothing_is_launched_for_no_elements_or_no_such_device(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("");
    const ws_cuda_arrays empty = {.dtype = WS_DTYPE_F32};
    assert_false(ws_cuda_launch(cuda, &place, WS_CUDA_APPLY, &empty));
    assert_false(launch_something(cuda, &(ws_cuda_place){-1, NULL}));
    assert_false(launch_something(cuda, &(ws_cuda_place){WS_CUDA_DEVICES, NULL}));
    assert_true(ws_cuda_is_on(cuda));
    ws_cuda_free(cuda);
}

static void a_device_that_is_not_current_is_used_and_current_stays_current(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("another device");
    assert_true(launch_something(cuda, &place));
    assert_int_equal(current_device(), 1);
    assert_true(launch_something(cuda, &(ws_cuda_place){1, NULL}));
    double out[2];
    assert_true(read_something(cuda, out));
    assert_int_equal(current_device(), 1);
    ws_cuda_free(cuda);
}

static void an_older_driver_compiles_the_ptx(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("no fatbin");
    assert_true(launch_something(cuda, &place));
    ws_cuda_free(cuda);
}

/* ---- What goes wrong ------------------------------------------------------------------------------------------------ */

static void whatever_is_refused_at_the_start_is_one_sentence(void **state) {
    (void)state;
    static const struct {
        const char *behaviour;
        const char *status;
    } cases[] = {
        {"old driver", "off, because the NVIDIA driver is for CUDA 10.2, and 11.0 or newer is needed"},
        {"no version", "off, because the NVIDIA driver does not tell its version (cuDriverGetVersion: 1)"},
        {"no image", "off, because the NVIDIA driver takes neither the compiled kernels (209) nor their PTX (209)"},
        {"a kernel is missing", "off, because the NVIDIA driver answered 500 to cuModuleGetFunction"},
        {"no launch", "off, because the NVIDIA driver answered 701 to cuLaunchKernel"},
        {"another context", "off, because something in this process gave the GPU another context than torch's"},
        {"a wrong sum", "off, because this GPU gives other results than the CPU"},
        {"a wrong element", "off, because this GPU gives other results than the CPU"},
        {"a wrong scale", "off, because this GPU gives other results than the CPU"},
        {"an accident", "off, because the NVIDIA driver reports that work on the GPU went wrong"},
        {"a lost mark", "off, because the NVIDIA driver reports that work on the GPU went wrong"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        ws_cuda *const cuda = new_executor(cases[i].behaviour);
        const int before = current_device();
        assert_false(launch_something(cuda, &place));
        assert_false(ws_cuda_is_on(cuda));
        assert_string_equal(ws_cuda_status(cuda), cases[i].status);
        assert_int_equal(current_device(), before);
        /* Off is off, also when the cause has gone. */
        behave("");
        const uint64_t launched = launches();
        double out[2];
        assert_false(launch_something(cuda, &place));
        assert_false(read_something(cuda, out));
        assert_int_equal(launches(), launched);
        assert_string_equal(ws_cuda_status(cuda), cases[i].status);
        ws_cuda_free(cuda);
    }
}

static void a_gpu_that_does_not_answer_is_left_alone(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("");
    double out[2];
    assert_true(read_something(cuda, out));
    behave("silent");
    cuda->patience_ns = 5000000;
    assert_false(read_something(cuda, out));
    assert_string_equal(ws_cuda_status(cuda), "off, because the GPU did not answer within 0.005 seconds");
    assert_true(cuda->mailboxes[0].is_taken); /* it may still write there */
    assert_int_equal(current_device(), -1);
    ws_cuda_free(cuda);
}

static void what_goes_wrong_later_turns_it_off_as_well(void **state) {
    (void)state;
    static const char *const behaviours[] = {"no launch", "an accident", "a lost mark"};
    for (size_t i = 0; i < sizeof(behaviours) / sizeof(behaviours[0]); ++i) {
        ws_cuda *const cuda = new_executor("");
        assert_true(launch_something(cuda, &place));
        behave(behaviours[i]);
        double out[2];
        assert_false(read_something(cuda, out));
        assert_false(ws_cuda_is_on(cuda));
        ws_cuda_free(cuda);
    }
}

static void during_a_capture_nothing_is_launched_and_afterwards_all_goes_on(void **state) {
    (void)state;
    static const char *const behaviours[] = {"capturing", "capturing elsewhere"};
    for (size_t i = 0; i < 2; ++i) {
        ws_cuda *const cuda = new_executor(behaviours[i]);
        const uint64_t launched = launches();
        double out[2];
        assert_false(launch_something(cuda, &place));
        assert_false(read_something(cuda, out));
        assert_int_equal(launches(), launched);
        assert_true(ws_cuda_is_on(cuda));
        behave("");
        assert_true(launch_something(cuda, &place));
        ws_cuda_free(cuda);
    }
}

static void without_memory_for_the_check_it_comes_another_time(void **state) {
    (void)state;
    ws_cuda *const cuda = new_executor("no memory");
    assert_false(launch_something(cuda, &place));
    assert_string_equal(ws_cuda_status(cuda), "not used yet");
    behave("");
    assert_true(launch_something(cuda, &place));
    ws_cuda_free(cuda);
}

static void without_a_wish_for_it_it_is_off(void **state) {
    (void)state;
    static const char *const wishes[] = {NULL, "", "off", "1"};
    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); ++i) {
        assert_int_equal(unsetenv("WAVESPEED_CUDA"), 0);
        if (wishes[i] != NULL) {
            assert_int_equal(setenv("WAVESPEED_CUDA", wishes[i], 1), 0);
        }
        ws_cuda *const cuda = new_executor("");
        const uint64_t launched = launches();
        assert_false(launch_something(cuda, &place));
        assert_int_equal(launches(), launched);
        assert_false(ws_cuda_is_on(cuda));
        assert_string_equal(
            ws_cuda_status(cuda),
            "off, because no GPU has run their tests yet; WAVESPEED_CUDA=on in the environment switches them on");
        ws_cuda_free(cuda);
    }
    assert_int_equal(setenv("WAVESPEED_CUDA", "on", 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_give_the_bits_of_the_cpu),
        cmocka_unit_test(reading_brings_values_again_and_again),
        cmocka_unit_test(readings_that_are_waited_for_have_a_mailbox_each),
        cmocka_unit_test(too_much_to_read_is_declined),
        cmocka_unit_test(nothing_is_launched_for_no_elements_or_no_such_device),
        cmocka_unit_test(a_device_that_is_not_current_is_used_and_current_stays_current),
        cmocka_unit_test(an_older_driver_compiles_the_ptx),
        cmocka_unit_test(whatever_is_refused_at_the_start_is_one_sentence),
        cmocka_unit_test(a_gpu_that_does_not_answer_is_left_alone),
        cmocka_unit_test(what_goes_wrong_later_turns_it_off_as_well),
        cmocka_unit_test(during_a_capture_nothing_is_launched_and_afterwards_all_goes_on),
        cmocka_unit_test(without_memory_for_the_check_it_comes_another_time),
        cmocka_unit_test(without_a_wish_for_it_it_is_off),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
