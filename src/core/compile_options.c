/* Which options of torch._inductor.config a workflow may set: an allow-list, because torch checks neither what an option
 * does nor, for most of them, its type. Names and types are those of torch 2.13; a test compares them with the torch at
 * hand.
 *
 * Left out on purpose although they look harmless: freezing (burns the weights into the code, so LoRA and offloading
 * would do nothing), force_disable_caches, and every text that ends up on a compiler's command line. */
#include "core/compile_options_internal.h"

#include <string.h>

static const char *const gemm_backends[] = {"ATEN", "TRITON", "CPP", NULL};
static const char *const conv_backends[] = {"ATEN", "TRITON", NULL};
static const char *const search_spaces[] = {"DEFAULT", "EXHAUSTIVE", NULL};
static const char *const mixed_mm_choices[] = {"default", "triton", "aten", "heuristic", NULL};

#define BOOLEAN(name) {name, WS_COMPILE_BOOLEAN, 0, 1, NULL}
#define INTEGER(name, minimum, maximum) {name, WS_COMPILE_INTEGER, minimum, maximum, NULL}
#define WORD(name, words) {name, WS_COMPILE_WORD, 0, 0, words}
#define WORDS(name, words) {name, WS_COMPILE_WORDS, 0, 0, words}

const ws_option_entry ws_option_table_[] = {
    BOOLEAN("aggressive_fusion"),
    BOOLEAN("allow_buffer_reuse"),
    BOOLEAN("assert_indirect_indexing"),
    BOOLEAN("b2b_gemm_pass"),
    BOOLEAN("batch_fusion"),
    BOOLEAN("benchmark_combo_kernel"),
    BOOLEAN("benchmark_epilogue_fusion"),
    BOOLEAN("benchmark_fusion"),
    BOOLEAN("combo_kernels"),
    INTEGER("combo_kernels_autotune", 0, 2),
    INTEGER("compile_threads", 1, 64),
    BOOLEAN("comprehensive_padding"),
    BOOLEAN("conv_1x1_as_mm"),
    BOOLEAN("coordinate_descent_check_all_directions"),
    INTEGER("coordinate_descent_search_radius", 1, 4),
    BOOLEAN("coordinate_descent_tuning"),
    BOOLEAN("cpp.dynamic_threads"),
    BOOLEAN("cpp.enable_concat_linear"),
    BOOLEAN("cpp.enable_grouped_gemm_template"),
    BOOLEAN("cpp.enable_loop_tail_vec"),
    BOOLEAN("cpp.enable_tiling_heuristics"),
    BOOLEAN("cpp.enable_unsafe_math_opt_flag"),
    BOOLEAN("cpp.fallback_scatter_reduce_sum"),
    INTEGER("cpp.gemm_max_k_slices", 0, 64),
    INTEGER("cpp.max_horizontal_fusion_size", 1, 256),
    INTEGER("cpp.min_chunk_size", 1, 65536),
    BOOLEAN("cpp.no_redundant_loops"),
    INTEGER("cpp.threads", 1, 256),
    BOOLEAN("cpp.use_decompose_tanh"),
    BOOLEAN("cpp.use_small_dequant_buffer"),
    BOOLEAN("cpp.weight_prepack"),
    BOOLEAN("dce"),
    BOOLEAN("decompose_mem_bound_mm"),
    BOOLEAN("deterministic"),
    BOOLEAN("efficient_conv_bn_eval_fx_passes"),
    BOOLEAN("emulate_precision_casts"),
    BOOLEAN("epilogue_fusion"),
    BOOLEAN("epilogue_fusion_first"),
    BOOLEAN("fallback_random"),
    BOOLEAN("force_shape_pad"),
    BOOLEAN("graph_partition"),
    BOOLEAN("group_fusion"),
    BOOLEAN("inplace_buffers"),
    BOOLEAN("keep_output_stride"),
    BOOLEAN("layout_optimization"),
    BOOLEAN("loop_index_inversion_in_fusion"),
    BOOLEAN("loop_ordering_after_fusion"),
    BOOLEAN("max_autotune"),
    WORDS("max_autotune_conv_backends", conv_backends),
    BOOLEAN("max_autotune_gemm"),
    WORDS("max_autotune_gemm_backends", gemm_backends),
    WORD("max_autotune_gemm_search_space", search_spaces),
    BOOLEAN("max_autotune_pointwise"),
    INTEGER("max_epilogue_benchmarked_choices", 1, 64),
    INTEGER("max_fusion_size", 1, 1024),
    INTEGER("max_pointwise_cat_inputs", 0, 256),
    BOOLEAN("memory_planning"),
    WORD("mixed_mm_choice", mixed_mm_choices),
    BOOLEAN("nan_asserts"),
    BOOLEAN("online_softmax"),
    BOOLEAN("pattern_matcher"),
    BOOLEAN("permute_fusion"),
    BOOLEAN("prologue_fusion"),
    INTEGER("realize_reads_threshold", 1, 1024),
    BOOLEAN("reorder_for_locality"),
    BOOLEAN("reorder_for_peak_memory"),
    BOOLEAN("shape_padding"),
    BOOLEAN("size_asserts"),
    BOOLEAN("split_cat_fx_passes"),
    BOOLEAN("split_reductions"),
    BOOLEAN("triton.autotune_cublasLt"),
    BOOLEAN("triton.autotune_pointwise"),
    BOOLEAN("triton.coalesce_tiling_analysis"),
    BOOLEAN("triton.codegen_upcast_to_fp32"),
    BOOLEAN("triton.cooperative_reductions"),
    BOOLEAN("triton.cudagraph_skip_dynamic_graphs"),
    BOOLEAN("triton.cudagraph_support_input_mutation"),
    BOOLEAN("triton.cudagraph_trees"),
    BOOLEAN("triton.cudagraphs"),
    BOOLEAN("triton.dense_indexing"),
    BOOLEAN("triton.divisible_by_16"),
    BOOLEAN("triton.enable_persistent_tma_matmul"),
    INTEGER("triton.max_tiles", 1, 3),
    INTEGER("triton.multi_kernel", 0, 3),
    BOOLEAN("triton.persistent_reductions"),
    BOOLEAN("triton.prefer_nd_tiling"),
    BOOLEAN("triton.tiling_prevents_pointwise_fusion"),
    BOOLEAN("triton.tiling_prevents_reduction_fusion"),
    BOOLEAN("triton.use_block_ptr"),
    INTEGER("unroll_reductions_threshold", 1, 64),
    BOOLEAN("use_fast_math"),
    BOOLEAN("use_static_cuda_launcher"),
};
const size_t ws_option_table_size_ = sizeof(ws_option_table_) / sizeof(ws_option_table_[0]);

_Static_assert(sizeof(ws_option_table_) / sizeof(ws_option_table_[0]) + WS_COMPILE_ALLOWED_MAX <= WS_COMPILE_OPTIONS_MAX,
               "raise WS_COMPILE_OPTIONS_MAX");

size_t ws_compile_option_count(const ws_compile_allowed *allowed) {
    return ws_option_table_size_ + (allowed != NULL ? allowed->count : 0);
}

const ws_option_entry *ws_option_at_(const ws_compile_allowed *allowed, size_t position) {
    return position < ws_option_table_size_ ? &ws_option_table_[position]
                                            : &allowed->entries[position - ws_option_table_size_];
}

int ws_option_find_(const ws_compile_allowed *allowed, const char *name) {
    const size_t count = ws_compile_option_count(allowed);
    for (size_t i = 0; i < count; ++i) {
        if (strcmp(ws_option_at_(allowed, i)->name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- the nearest name ------------------------------------------------------------------------ */

enum { NAME_MAX_LENGTH = 63 }; /* longer names are compared by their beginning */

/* Levenshtein's distance with one row of his table. */
static size_t distance(const char *left, const char *right) {
    size_t row[NAME_MAX_LENGTH + 1];
    const size_t whole = strlen(right);
    const size_t n = whole < NAME_MAX_LENGTH ? whole : NAME_MAX_LENGTH;
    for (size_t j = 0; j <= n; ++j) {
        row[j] = j;
    }
    for (size_t i = 0; i < NAME_MAX_LENGTH && left[i] != '\0'; ++i) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 1; j <= n; ++j) {
            const size_t replaced = diagonal + (left[i] != right[j - 1]);
            const size_t shifted = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replaced < shifted ? replaced : shifted;
        }
    }
    return row[n];
}

/* Options of one group, "cpp." or "triton.", are nearer to each other than letters can say. */
static bool same_group(const char *name, const char *candidate) {
    const char *const dot = strchr(name, '.');
    return dot == NULL || strncmp(name, candidate, (size_t)(dot - name) + 1) == 0;
}

const char *ws_nearest_name_(const char *name, const char *const *list) {
    const char *nearest = "";
    size_t best = SIZE_MAX;
    for (size_t i = 0; list != NULL ? list[i] != NULL : i < ws_option_table_size_; ++i) {
        const char *const candidate = list != NULL ? list[i] : ws_option_table_[i].name;
        const size_t changes = distance(name, candidate) + (same_group(name, candidate) ? 0 : NAME_MAX_LENGTH);
        if (changes < best) {
            best = changes;
            nearest = candidate;
        }
    }
    return nearest;
}

/* ---- why ------------------------------------------------------------------------------------- */

const char *ws_option_refusal_(const char *name) {
    /* By parts of the names in torch 2.13, only to word the refusal: what is allowed is decided by the table alone. */
    static const struct {
        const char *part;
        const char *why;
    } reasons[] = {
        {"freezing", "it burns the weights into the code, so that LoRA and offloading would do nothing"},
        {"cxx", "it chooses a compiler or a command line"},
        {"march", "it chooses a compiler or a command line"},
        {"arch", "it chooses a compiler or a command line"},
        {"flag", "it chooses a compiler or a command line"},
        {"opt_level", "it chooses a compiler or a command line"},
        {"lib", "it loads a library"},
        {"home", "it names a folder"},
        {"root", "it names a folder"},
        {"dir", "it names a folder"},
        {"path", "it names a file"},
        {"pass", "it plugs in a function"},
        {"_fn", "it plugs in a function"},
        {"hook", "it plugs in a function"},
        {"class", "it plugs in a function"},
        {"trace", "it writes files"},
        {"debug", "it writes files"},
        {"dump", "it writes files"},
        {"save", "it writes files"},
        {"profile", "it writes files"},
        {"log", "it writes files"},
        {"cache", "it changes a cache that all of ComfyUI shares"},
        {"remote", "it talks to other machines"},
        {"aot", "it is for programs that are built ahead of time"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); ++i) {
        if (strstr(name, reasons[i].part) != NULL) {
            return reasons[i].why;
        }
    }
    return "it is not on the list of options that a workflow may set";
}
