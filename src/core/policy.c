/* Policies: pure functions from the sums of one measurement to "similar or not". */
#include "wavespeed/policy.h"

#include <math.h>

double ws_relative_change(const ws_measurement *measurement) {
    /* residual_sum takes no part in the ratio, but a stored residual with NaN or infinity in it
     * must never be reused, however little the probe changed. */
    const bool finite = isfinite(measurement->difference_sum) &&
                        isfinite(measurement->reference_sum) && isfinite(measurement->residual_sum);
    if (!finite || !(measurement->reference_sum > 0.0)) {
        return NAN;
    }
    return measurement->difference_sum / measurement->reference_sum;
}

bool ws_classic_is_similar(double relative_change, double threshold) {
    return relative_change < threshold;
}

/* ---- forecast -------------------------------------------------------------------------------------------- */

static const double reach = 3.0; /* intervals of sigma */

static double clamp(double value, double lowest, double highest) {
    return fmin(fmax(value, lowest), highest); /* NaN becomes a limit; the uncertainty is NaN then and forbids reuse */
}

/* Between the newest stored evaluation and the one before it, or before that where two lie at one sigma. */
static double last_interval(const double sigmas[WS_HISTORY], size_t points) {
    const double step = sigmas[0] - sigmas[1];
    return step == 0.0 && points >= 3 ? sigmas[0] - sigmas[2] : step;
}

/* How far the schedule says we are: linear in sigma through the last two points, with three points half of it quadratic
 * (Lagrange). Limits keep a schedule with tiny steps from exploding. */
static void extrapolate_by_sigma(const double sigmas[WS_HISTORY], double sigma, size_t points, double weight[2]) {
    const double step = last_interval(sigmas, points);
    weight[0] = step == 0.0 ? 0.0 : clamp((sigma - sigmas[0]) / step, 0.0, reach);
    if (points >= 3 && sigmas[0] == sigmas[1]) {
        weight[1] = weight[0]; /* along R1 - R3 */
        return;
    }
    weight[1] = 0.0;
    if (points < 3 || sigmas[1] == sigmas[2] || sigmas[0] == sigmas[2] || step == 0.0) {
        return;
    }
    const double newest = (sigma - sigmas[1]) * (sigma - sigmas[2]) / (step * (sigmas[0] - sigmas[2]));
    const double oldest =
        (sigma - sigmas[0]) * (sigma - sigmas[1]) / ((sigmas[2] - sigmas[0]) * (sigmas[2] - sigmas[1]));
    weight[0] = 0.5 * weight[0] + 0.5 * clamp(newest - 1.0, -1.0, 4.0);
    weight[1] = 0.5 * clamp(-oldest, -3.0, 2.0);
}

/* How much of a forecast is believed: the cosine between the probe's move and its last one, whole from 1/2 on. Where a
 * sampler adds fresh noise they have nothing in common, and what is extrapolated is noise. 1 where the probe stood still. */
static double belief(const ws_measurement *m) {
    const double lengths = sqrt(m->ee * m->d1d1);
    return lengths > 0.0 ? clamp(2.0 * m->ed1 / lengths, 0.0, 1.0) : 1.0;
}

ws_forecast ws_forecast_residual(const ws_measurement *measurement, const double sigmas[WS_HISTORY], size_t points) {
    const ws_measurement *const m = measurement;
    ws_forecast forecast = {{0.0, 0.0}, 0.0};
    if (points >= 2) {
        double by_sigma[2];
        extrapolate_by_sigma(sigmas, m->sigma, points, by_sigma);
        /* How far the probe says we are: its move, projected on its last one. The 1 % keeps a probe that stood still finite. */
        const double by_probe = m->d1d1 > 0.0 ? clamp(m->ed1 / (1.01 * m->d1d1), -2.0, 3.0) : 0.0;
        const double believed = belief(m);
        forecast.weight[0] = believed * (0.5 * by_sigma[0] + 0.5 * by_probe);
        forecast.weight[1] = believed * 0.5 * by_sigma[1];
    }
    const double w1 = forecast.weight[0];
    const double w2 = forecast.weight[1];
    const double unforeseen = m->ee - 2.0 * (w1 * m->ed1 + w2 * m->ed2) + w1 * w1 * m->d1d1 + 2.0 * w1 * w2 * m->d1d2 +
                              w2 * w2 * m->d2d2;
    /* Squared norms scale the mean absolute move: one pass over the probe, in the units of the classic rule. */
    const double share = m->ee > 0.0 ? sqrt(fmax(unforeseen, 0.0) / m->ee) : 0.0;
    forecast.uncertainty = ws_relative_change(m) * (0.5 + 0.5 * share);
    if (isnan(unforeseen)) {
        forecast.uncertainty = NAN;
    }
    return forecast;
}

bool ws_forecast_reaches(const double sigmas[WS_HISTORY], double sigma, size_t points) {
    return fabs(sigma - sigmas[0]) <= reach * fabs(last_interval(sigmas, points)) * (1.0 + 1e-6);
}

double ws_noise_share(double sigma, double largest) {
    return largest > 1.0 ? sigma / (1.0 + sigma) : sigma;
}

/* |step| exp(3 sigma / largest). */
static double unscaled_weight(double step, double sigma, double largest) {
    return fabs(step) * exp(3.0 * sigma / largest);
}

double ws_step_weight(const double *schedule, size_t n, double sigma) {
    if (n < 2 || !(schedule[0] > 0.0)) {
        return 1.0;
    }
    const double largest = ws_noise_share(schedule[0], schedule[0]);
    double total = 0.0;
    double next = schedule[n - 1];
    bool found = false;
    for (size_t i = 0; i + 1 < n; ++i) {
        const double from = ws_noise_share(schedule[i], schedule[0]);
        const double to = ws_noise_share(schedule[i + 1], schedule[0]);
        total += unscaled_weight(from - to, from, largest);
        /* A solver's intermediate evaluation may lie between two sigmas of the schedule. */
        if (!found && schedule[i + 1] < sigma * (1.0 - 1e-6)) {
            next = schedule[i + 1];
            found = true;
        }
    }
    const double from = ws_noise_share(sigma, schedule[0]);
    const double weight = unscaled_weight(from - ws_noise_share(next, schedule[0]), from, largest);
    return total > 0.0 ? weight * (double)(n - 1) / total : 1.0;
}
