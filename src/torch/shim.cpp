/* Registers torch.ops.wavespeed.* with CPU kernels, on libtorch's stable ABI (2.10 and newer). The only C++ of the pack.
 *
 * The kernels themselves are the core's and come in as a table of functions, so this library links libtorch and nothing of
 * ours. Shapes, dtypes and meanings of the operators: python/wavespeed/operations.py, which also defines them where this
 * library cannot be loaded.
 *
 * Two rules keep the binary loadable. Only what libtorch 2.10 exports is used (tests/python/shim_symbols.txt). And nothing is
 * registered by static initialisers (STABLE_TORCH_LIBRARY): with a second copy of the pack in the process they crash, because
 * they ignore that the namespace is taken. */
#include "wavespeed/core_api.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <cstdio>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::stable::Tensor;

/* Set once, before the first operator is registered; lives as long as the process. */
const ws_core_api *core = nullptr;

/* ---- Looking at tensors ---------------------------------------------------------------------------------------------- */

int32_t dtype_of(const Tensor &tensor) {
    int32_t dtype = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor.get(), &dtype));
    return dtype;
}

bool is_float32(const Tensor &tensor) {
    return dtype_of(tensor) == aoti_torch_dtype_float32();
}

bool is_supported(const Tensor &tensor) {
    const int32_t dtype = dtype_of(tensor);
    return dtype == aoti_torch_dtype_float32() || dtype == aoti_torch_dtype_bfloat16() || dtype == aoti_torch_dtype_float16() ||
           dtype == aoti_torch_dtype_float64();
}

std::string shape_text(const Tensor &tensor) {
    std::ostringstream text;
    const char *separator = "(";
    for (const int64_t size : tensor.sizes()) {
        text << separator << size;
        separator = ", ";
    }
    text << (tensor.dim() == 0 ? "()" : ")");
    return text.str();
}

void check_same_shape(const Tensor &a, const Tensor &b) {
    const IntHeaderOnlyArrayRef left = a.sizes();
    const IntHeaderOnlyArrayRef right = b.sizes();
    STD_TORCH_CHECK(left.equals(right), "both tensors must have the same shape, and these have ", shape_text(a), " and ", shape_text(b), ".");
}

void check_supported(const Tensor &tensor) {
    STD_TORCH_CHECK(is_supported(tensor), "the dtype must be float32, bfloat16, float16 or float64, and this tensor has another.");
}

void check_float32(const Tensor &tensor, const char *name) {
    STD_TORCH_CHECK(is_float32(tensor), "the tensor '", name, "' must be float32, and it has another dtype.");
}

/* ---- Memory that the kernels can work on ------------------------------------------------------------------------------ */

/* By the plain C function: torch::stable::empty() hands optional arguments over as memory that this library allocates and
 * libtorch frees. */
Tensor empty(const IntHeaderOnlyArrayRef sizes, int32_t dtype) {
    std::vector<int64_t> strides(sizes.size());
    int64_t stride = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
        strides[i] = stride;
        stride *= sizes[i] > 0 ? sizes[i] : 1;
    }
    AtenTensorHandle handle = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(), dtype,
                                                    aoti_torch_device_type_cpu(), 0, &handle));
    return Tensor(handle);
}

/* The tensor itself if it is one block of memory in order, else a copy that is. */
Tensor in_order(const Tensor &tensor) {
    return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

/* The same in a dtype that the kernels have. They have no float64: it is rounded to float32 first (ComfyUI's --fp64-unet). */
Tensor readable(const Tensor &tensor) {
    if (dtype_of(tensor) != aoti_torch_dtype_float64()) {
        return in_order(tensor);
    }
    Tensor rounded = empty(tensor.sizes(), aoti_torch_dtype_float32());
    torch::stable::copy_(rounded, tensor);
    return rounded;
}

ws_dtype kernel_dtype(const Tensor &tensor) {
    const int32_t dtype = dtype_of(tensor);
    return dtype == aoti_torch_dtype_bfloat16()  ? WS_DTYPE_BF16
           : dtype == aoti_torch_dtype_float16() ? WS_DTYPE_F16
                                                 : WS_DTYPE_F32;
}

/* torch's own threads, as many as torch.set_num_threads() allows. It can only fail before the first call of body, since what the
 * kernels do throws nothing; then the calling thread does the work. */
void parallel_for(int64_t n, ws_loop_body *body, void *context) {
    constexpr int64_t at_least_one_chunk = 1;
    if (torch_parallel_for(0, n, at_least_one_chunk, body, context) != TORCH_SUCCESS) {
        body(0, n, context);
    }
}

const ws_cpu_executor cpu = {nullptr, parallel_for};

size_t count(const Tensor &tensor) {
    return static_cast<size_t>(tensor.numel());
}

/* A float64 tensor of shape (values.size(),). */
Tensor sums(std::initializer_list<double> values) {
    const int64_t size = static_cast<int64_t>(values.size());
    Tensor result = empty(IntHeaderOnlyArrayRef(&size, 1), aoti_torch_dtype_float64());
    auto *out = static_cast<double *>(result.mutable_data_ptr());
    for (const double value : values) {
        *out++ = value;
    }
    return result;
}

/* ---- The operators ---------------------------------------------------------------------------------------------------- */

Tensor residual_distance(const Tensor a, const Tensor b) {
    check_same_shape(a, b);
    check_supported(a);
    STD_TORCH_CHECK(dtype_of(a) == dtype_of(b), "both tensors must have the same dtype, and these differ.");
    const Tensor left = readable(a);
    const Tensor right = readable(b);
    ws_sums result = {0.0, 0.0};
    core->residual_distance(&cpu, kernel_dtype(left), left.const_data_ptr(), right.const_data_ptr(), count(left), &result);
    return sums({result.difference, result.reference});
}

Tensor finish_residual_(Tensor base, const Tensor end) {
    check_same_shape(base, end);
    check_float32(base, "base");
    check_supported(end);
    const Tensor work = in_order(base);
    const Tensor source = readable(end);
    const double sum =
        core->residual_finish(&cpu, kernel_dtype(source), static_cast<float *>(work.mutable_data_ptr()), source.const_data_ptr(), count(work));
    if (work.get() != base.get()) {
        torch::stable::copy_(base, work);
    }
    return sums({sum});
}

Tensor subtract_states_(Tensor residual, const Tensor start, const Tensor end) {
    check_same_shape(residual, start);
    check_same_shape(start, end);
    check_float32(residual, "residual");
    check_supported(start);
    STD_TORCH_CHECK(dtype_of(start) == dtype_of(end), "both states must have the same dtype, and these differ.");
    const Tensor target = in_order(residual);
    const Tensor before = readable(start);
    const Tensor after = readable(end);
    const double sum = core->residual_subtract(&cpu, kernel_dtype(before), static_cast<float *>(target.mutable_data_ptr()),
                                               before.const_data_ptr(), after.const_data_ptr(), count(target));
    if (target.get() != residual.get()) {
        torch::stable::copy_(residual, target);
    }
    return sums({sum});
}

/* out = hidden + residual. out is hidden itself or a new contiguous tensor of its shape and dtype. */
void apply(const Tensor &hidden, const Tensor &residual, Tensor &out) {
    check_same_shape(hidden, residual);
    check_supported(hidden);
    check_float32(residual, "residual");
    const Tensor source = readable(hidden);
    const Tensor change = in_order(residual);
    /* Where the result cannot be written at once, source is a copy of ours and takes it. */
    const bool direct = out.is_contiguous() && dtype_of(out) == dtype_of(source);
    const Tensor target = direct ? out : source;
    core->residual_apply(&cpu, kernel_dtype(source), target.mutable_data_ptr(), source.const_data_ptr(),
                         static_cast<const float *>(change.const_data_ptr()), count(source));
    if (!direct) {
        torch::stable::copy_(out, target);
    }
}

Tensor apply_residual(const Tensor hidden, const Tensor residual) {
    Tensor out = empty(hidden.sizes(), dtype_of(hidden));
    apply(hidden, residual, out);
    return out;
}

void apply_residual_(Tensor hidden, const Tensor residual) {
    apply(hidden, residual, hidden);
}

Tensor residual_moments(const Tensor probe, const Tensor s1, const Tensor s2, const Tensor s3) {
    check_supported(probe);
    for (const Tensor *stored : {&s1, &s2, &s3}) {
        check_same_shape(probe, *stored);
        STD_TORCH_CHECK(dtype_of(probe) == dtype_of(*stored), "all tensors must have the same dtype, and these differ.");
    }
    const Tensor current = readable(probe);
    const Tensor history[WS_HISTORY] = {readable(s1), readable(s2), readable(s3)};
    const void *const stored[WS_HISTORY] = {history[0].const_data_ptr(), history[1].const_data_ptr(), history[2].const_data_ptr()};
    ws_moments m = {};
    core->residual_moments(&cpu, kernel_dtype(current), current.const_data_ptr(), stored, count(current), &m);
    return sums({m.difference, m.reference, m.ee, m.ed1, m.ed2, m.d1d1, m.d1d2, m.d2d2});
}

/* The memory of a difference of a tensor like this one; kernels.h says what is in it. */
void check_difference(const Tensor &difference, const Tensor &like) {
    check_float32(difference, "difference");
    const int64_t size = static_cast<int64_t>(core->difference_size(count(like)));
    STD_TORCH_CHECK(difference.dim() == 1 && difference.numel() == size && difference.is_contiguous(),
                    "a difference of this tensor has the shape (", size, "), and this one has ", shape_text(difference), ".");
}

Tensor advance_residual_(Tensor residual, Tensor difference, const Tensor start, const Tensor end) {
    check_same_shape(residual, start);
    check_same_shape(start, end);
    check_float32(residual, "residual");
    check_supported(start);
    STD_TORCH_CHECK(dtype_of(start) == dtype_of(end), "both states must have the same dtype, and these differ.");
    check_difference(difference, residual);
    const Tensor target = in_order(residual);
    const Tensor before = readable(start);
    const Tensor after = readable(end);
    const double sum = core->residual_advance(&cpu, kernel_dtype(before), static_cast<float *>(target.mutable_data_ptr()),
                                              static_cast<float *>(difference.mutable_data_ptr()), before.const_data_ptr(),
                                              after.const_data_ptr(), count(target));
    if (target.get() != residual.get()) {
        torch::stable::copy_(residual, target);
    }
    return sums({sum});
}

/* out = hidden + residual + w1 d1 + w2 d2. out as in apply(). */
void extrapolate(const Tensor &hidden, const Tensor &residual, const Tensor &d1, const Tensor &d2, double w1, double w2, Tensor &out) {
    check_same_shape(hidden, residual);
    check_supported(hidden);
    check_float32(residual, "residual");
    check_difference(d1, hidden);
    check_difference(d2, hidden);
    const Tensor source = readable(hidden);
    const Tensor change = in_order(residual);
    const bool direct = out.is_contiguous() && dtype_of(out) == dtype_of(source);
    const Tensor target = direct ? out : source;
    const float *const differences[WS_DIFFERENCES] = {static_cast<const float *>(d1.const_data_ptr()),
                                                      static_cast<const float *>(d2.const_data_ptr())};
    const float weights[WS_DIFFERENCES] = {static_cast<float>(w1), static_cast<float>(w2)};
    core->residual_extrapolate(&cpu, kernel_dtype(source), target.mutable_data_ptr(), source.const_data_ptr(),
                               static_cast<const float *>(change.const_data_ptr()), differences, weights, count(source));
    if (!direct) {
        torch::stable::copy_(out, target);
    }
}

Tensor extrapolate_residual(const Tensor hidden, const Tensor residual, const Tensor d1, const Tensor d2, double w1, double w2) {
    Tensor out = empty(hidden.sizes(), dtype_of(hidden));
    extrapolate(hidden, residual, d1, d2, w1, w2, out);
    return out;
}

void extrapolate_residual_(Tensor hidden, const Tensor residual, const Tensor d1, const Tensor d2, double w1, double w2) {
    extrapolate(hidden, residual, d1, d2, w1, w2, hidden);
}

/* ---- Registration ----------------------------------------------------------------------------------------------------- */

struct Operator {
    const char *name;
    const char *schema;
    void (*kernel)(StableIValue *stack, uint64_t arguments, uint64_t results);
};

const Operator operators[] = {
    {"residual_distance", "residual_distance(Tensor a, Tensor b) -> Tensor", TORCH_BOX(&residual_distance)},
    {"finish_residual_", "finish_residual_(Tensor(a!) base, Tensor end) -> Tensor", TORCH_BOX(&finish_residual_)},
    {"apply_residual", "apply_residual(Tensor hidden, Tensor residual) -> Tensor", TORCH_BOX(&apply_residual)},
    {"apply_residual_", "apply_residual_(Tensor(a!) hidden, Tensor residual) -> ()", TORCH_BOX(&apply_residual_)},
    {"residual_moments", "residual_moments(Tensor probe, Tensor s1, Tensor s2, Tensor s3) -> Tensor", TORCH_BOX(&residual_moments)},
    {"subtract_states_", "subtract_states_(Tensor(a!) residual, Tensor start, Tensor end) -> Tensor", TORCH_BOX(&subtract_states_)},
    {"advance_residual_", "advance_residual_(Tensor(a!) residual, Tensor(b!) difference, Tensor start, Tensor end) -> Tensor",
     TORCH_BOX(&advance_residual_)},
    {"extrapolate_residual", "extrapolate_residual(Tensor hidden, Tensor residual, Tensor d1, Tensor d2, float w1, float w2) -> Tensor",
     TORCH_BOX(&extrapolate_residual)},
    {"extrapolate_residual_",
     "extrapolate_residual_(Tensor(a!) hidden, Tensor residual, Tensor d1, Tensor d2, float w1, float w2) -> ()",
     TORCH_BOX(&extrapolate_residual_)},
};

/* Releasing them takes the operators back, so after success they are kept for ever. */
struct Libraries {
    TorchLibraryHandle definitions = nullptr;
    TorchLibraryHandle kernels = nullptr;
};

void release(Libraries *libraries) {
    if (libraries->kernels != nullptr) {
        (void)aoti_torch_delete_library_object(libraries->kernels);
    }
    if (libraries->definitions != nullptr) {
        (void)aoti_torch_delete_library_object(libraries->definitions);
    }
    *libraries = Libraries{};
}

ws_torch_result register_operators(Libraries *libraries, char *error, size_t error_size) {
    if (aoti_torch_library_init_def("wavespeed", __FILE__, __LINE__, &libraries->definitions) != TORCH_SUCCESS) {
        libraries->definitions = nullptr;
        return WS_TORCH_TAKEN;
    }
    for (const Operator &op : operators) {
        if (aoti_torch_library_def(libraries->definitions, op.schema) != TORCH_SUCCESS) {
            return WS_TORCH_TAKEN; /* defined from Python by a copy of the pack that has no shim */
        }
    }
    if (aoti_torch_library_init_impl("wavespeed", "CPU", __FILE__, __LINE__, &libraries->kernels) != TORCH_SUCCESS) {
        libraries->kernels = nullptr;
        std::snprintf(error, error_size, "libtorch does not take CPU kernels for the operators of this pack.");
        return WS_TORCH_FAILED;
    }
    for (const Operator &op : operators) {
        if (torch_library_impl(libraries->kernels, op.name, op.kernel, TORCH_ABI_VERSION) != TORCH_SUCCESS) {
            std::snprintf(error, error_size, "libtorch does not take the CPU kernel of wavespeed::%s.", op.name);
            return WS_TORCH_FAILED;
        }
    }
    return WS_TORCH_REGISTERED;
}

} // namespace

/* Not safe in several threads at once; the extension calls it with the GIL held. */
extern "C" __attribute__((visibility("default"))) ws_torch_result ws_torch_register(const ws_core_api *api, char *error, size_t error_size) {
    static bool registered = false;
    if (registered) {
        return WS_TORCH_REGISTERED;
    }
    if (api == nullptr || api->version != WS_CORE_API_VERSION || api->size < sizeof(ws_core_api)) {
        std::snprintf(error, error_size,
                      "The torch operators (_torch_shim) and the extension (_core) do not belong together: build the pack again.");
        return WS_TORCH_FAILED;
    }
    if (aoti_torch_abi_version() < TORCH_TARGET_VERSION) {
        std::snprintf(error, error_size, "The torch operators need torch 2.10 or newer.");
        return WS_TORCH_FAILED;
    }
    core = api;
    Libraries libraries;
    const ws_torch_result result = register_operators(&libraries, error, error_size);
    if (result == WS_TORCH_REGISTERED) {
        registered = true;
    } else {
        release(&libraries);
    }
    return result;
}
static_assert(std::is_same_v<decltype(&ws_torch_register), ws_torch_register_function>, "core_api.h says how it is called");
