/* Policies: from a few sums about one model evaluation to "reuse" or "compute". Pure functions, no state. */
#ifndef WAVESPEED_POLICY_H
#define WAVESPEED_POLICY_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the first block and the stored entry say. "probe" is the first block's residual or its output,
 * whichever the model's descriptor names (Comfy-WaveSpeed compares the output on Flux and the residual
 * elsewhere: first_block_cache.py, lines 803 and 294; the same threshold must keep its meaning). */
typedef struct ws_measurement {
    double difference_sum; /* sum |probe - stored probe| over all elements of the call */
    double reference_sum;  /* sum |stored probe| */
    double residual_sum;   /* sum |stored residual|; not finite if any element is not finite */
    double sigma;          /* noise level of this evaluation, in the model's own scale */
} ws_measurement;

/* difference_sum / reference_sum; NaN where the reference is zero or anything is NaN.
 * The means of the published rule are over equal counts, so their ratio is the ratio of the sums. */
double ws_relative_change(const ws_measurement *measurement);

/* The rule of First Block Cache (ParaAttention, Comfy-WaveSpeed): reuse while the relative change stays below the
 * threshold. Written so that NaN means "not similar". */
bool ws_classic_is_similar(double relative_change, double threshold);

#ifdef __cplusplus
}
#endif

#endif
