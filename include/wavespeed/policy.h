/* Policies: from a few sums about one model evaluation to "reuse" or "compute". Pure functions, no state. */
#ifndef WAVESPEED_POLICY_H
#define WAVESPEED_POLICY_H

#include "wavespeed/kernels.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ws_strategy {
    WS_STRATEGY_CLASSIC = 0, /* reuse the last residual while the relative change of the probe is small */
    WS_STRATEGY_FORECAST     /* extrapolate the last residuals while the predicted damage is small */
} ws_strategy;

/* What the first block and the stored entry say. "probe" is the first block's residual or its output,
 * whichever the model's descriptor names (Comfy-WaveSpeed compares the output on Flux and the residual
 * elsewhere: first_block_cache.py, lines 803 and 294; the same threshold must keep its meaning). */
typedef struct ws_measurement {
    double difference_sum; /* sum |probe - stored probe| over all elements of the call */
    double reference_sum;  /* sum |stored probe| */
    double residual_sum;   /* sum |stored residual|; not finite if any element is not finite */
    double sigma;          /* noise level of this evaluation, in the model's own scale */
    /* Only for a forecast: inner products of the probe's last moves, as in ws_moments. Zero where there is no such move. */
    double ee, ed1, ed2, d1d1, d1d2, d2d2;
} ws_measurement;

/* difference_sum / reference_sum; NaN where the reference is zero or one of the three sums is not finite.
 * The means of the published rule are over equal counts, so their ratio is the ratio of the sums. */
double ws_relative_change(const ws_measurement *measurement);

/* The rule of First Block Cache (ParaAttention, Comfy-WaveSpeed): reuse while the relative change stays below the
 * threshold. Written so that NaN means "not similar". */
bool ws_classic_is_similar(double relative_change, double threshold);

/* Where the trunk's residual R should be by now: R1 + weight[0] (R1 - R2) + weight[1] (R2 - R3), R1 being the newest. */
typedef struct ws_forecast {
    double weight[WS_HISTORY - 1];
    double uncertainty; /* relative size of the probe's move: half as seen, half as far as it was not foreseen */
} ws_forecast;

/* sigmas: noise shares of the stored evaluations, newest first, as measurement->sigma; points: how many there are, 1 to
 * WS_HISTORY. With one point the forecast is plain reuse. uncertainty is NaN where the reference is zero or anything is
 * NaN. */
ws_forecast ws_forecast_residual(const ws_measurement *measurement, const double sigmas[WS_HISTORY], size_t points);

/* False where the evaluation lies more than three times the last interval of sigma beyond the newest stored one: the
 * weights are limited to that, so a forecast would fall behind. It matters after the first two evaluations, which are
 * neighbours. Where the last two lie at one sigma (Heun), the interval is the one to the third. */
bool ws_forecast_reaches(const double sigmas[WS_HISTORY], double sigma, size_t points);

/* The noise level as a share of signal and noise, 0 to 1, in which forecasts and step lengths are reckoned. largest: of
 * the schedule; up to 1 sigma is that share already (flow models), above it the signal has the size 1 (EDM: SD, SDXL)
 * and it is sigma / (1 + sigma). */
double ws_noise_share(double sigma, double largest);

/* How much an error of one unit made at this sigma matters in the end, relative to the average over the schedule: the
 * length of the step times exp(3 sigma / largest sigma), in noise shares. schedule: n sigmas in descending order, the
 * last one usually 0. */
double ws_step_weight(const double *schedule, size_t n, double sigma);

#ifdef __cplusplus
}
#endif

#endif
