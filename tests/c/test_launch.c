/* Launch geometry: every element has a thread, the workspace holds what the kernels write, and what cannot be launched is
 * not. */
#include "wavespeed/launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void sums_give_a_cuda_block_to_each_chunk(void **state) {
    (void)state;
    assert_int_equal(WS_LAUNCH_SUM_THREADS, 512);
    for (uint32_t sums = 1; sums <= WS_LAUNCH_MOST_SUMS; ++sums) {
        for (size_t chunks = 1; chunks < 7000; chunks = chunks * 3 + 1) {
            const size_t lengths[] = {(chunks - 1) * WS_KERNEL_CHUNK + 1, chunks * WS_KERNEL_CHUNK - 1,
                                      chunks * WS_KERNEL_CHUNK};
            for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); ++i) {
                const ws_launch launch = ws_launch_for(lengths[i], sums);
                assert_int_equal(launch.blocks, chunks);
                assert_int_equal(launch.threads, WS_LAUNCH_SUM_THREADS);
                assert_int_equal(launch.workspace_bytes, WS_LAUNCH_TICKET_BYTES + chunks * sums * sizeof(double));
            }
        }
    }
}

static void elements_are_all_written_and_need_no_workspace(void **state) {
    (void)state;
    const size_t of_block = (size_t)WS_LAUNCH_THREADS * WS_LAUNCH_ELEMENTS;
    for (size_t n = 1; n < 1000000000; n = n * 5 + 3) {
        const ws_launch launch = ws_launch_for(n, 0);
        assert_int_equal(launch.threads, WS_LAUNCH_THREADS);
        assert_int_equal(launch.workspace_bytes, 0);
        assert_true(launch.blocks * of_block >= n);
        assert_true((launch.blocks - 1) * of_block < n);
    }
}

static void what_cannot_be_launched_has_no_blocks(void **state) {
    (void)state;
    assert_int_equal(ws_launch_for(0, 0).blocks, 0);
    assert_int_equal(ws_launch_for(0, 2).blocks, 0);
    assert_int_equal(ws_launch_for(1, WS_LAUNCH_MOST_SUMS + 1).blocks, 0);
    const size_t most_blocks = 0x7FFFFFFF;
    assert_int_equal(ws_launch_for(most_blocks * WS_KERNEL_CHUNK, 8).blocks, most_blocks);
    assert_int_equal(ws_launch_for(most_blocks * WS_KERNEL_CHUNK + 1, 8).blocks, 0);
    assert_int_equal(ws_launch_for(SIZE_MAX, 2).blocks, 0);
    assert_int_equal(ws_launch_for(SIZE_MAX, 0).blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_give_a_cuda_block_to_each_chunk),
        cmocka_unit_test(elements_are_all_written_and_need_no_workspace),
        cmocka_unit_test(what_cannot_be_launched_has_no_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
