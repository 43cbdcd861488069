/* Policies: pure functions from the sums of one measurement to "similar or not". */
#include "wavespeed/policy.h"

#include <math.h>

double ws_relative_change(const ws_measurement *measurement) {
    /* residual_sum takes no part in the ratio, but a stored residual with NaN or infinity in it must never be
     * reused, however little the probe changed. */
    const bool finite = isfinite(measurement->difference_sum) && isfinite(measurement->reference_sum) &&
                        isfinite(measurement->residual_sum);
    if (!finite || !(measurement->reference_sum > 0.0)) {
        return NAN;
    }
    return measurement->difference_sum / measurement->reference_sum;
}

bool ws_classic_is_similar(double relative_change, double threshold) {
    return relative_change < threshold;
}
