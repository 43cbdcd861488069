/* The published rule, and that nothing which is not a number ever counts as similar. */
#include "wavespeed/policy.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static double change_of(double difference, double reference, double residual) {
    const ws_measurement measurement = {
        .difference_sum = difference, .reference_sum = reference, .residual_sum = residual, .sigma = 1.0};
    return ws_relative_change(&measurement);
}

static void change_is_the_ratio_of_the_sums(void **state) {
    (void)state;
    assert_true(change_of(3.0, 12.0, 5.0) == 0.25);
    assert_true(change_of(0.0, 12.0, 5.0) == 0.0);
    assert_true(change_of(24.0, 12.0, 0.0) == 2.0);
    assert_true(change_of(DBL_MIN, DBL_MIN, 1.0) == 1.0);
}

static void zero_reference_is_not_a_number(void **state) {
    (void)state;
    assert_true(isnan(change_of(1.0, 0.0, 1.0)));
    assert_true(isnan(change_of(0.0, 0.0, 1.0)));
    assert_true(isnan(change_of(0.0, -0.0, 1.0)));
}

static void any_sum_that_is_not_finite_is_not_a_number(void **state) {
    (void)state;
    const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); ++i) {
        assert_true(isnan(change_of(bad[i], 1.0, 1.0)));
        assert_true(isnan(change_of(1.0, bad[i], 1.0)));
        assert_true(isnan(change_of(0.0, 1.0, bad[i])));
    }
}

static void sigma_has_no_part(void **state) {
    (void)state;
    const ws_measurement measurement = {
        .difference_sum = 1.0, .reference_sum = 2.0, .residual_sum = 1.0, .sigma = (double)NAN};
    assert_true(ws_relative_change(&measurement) == 0.5);
}

static void similar_is_strictly_below_the_threshold(void **state) {
    (void)state;
    assert_true(ws_classic_is_similar(0.0, 0.12));
    assert_true(ws_classic_is_similar(nextafter(0.12, 0.0), 0.12));
    assert_false(ws_classic_is_similar(0.12, 0.12));
    assert_false(ws_classic_is_similar(0.5, 0.12));
    assert_false(ws_classic_is_similar(0.0, 0.0));
}

static void nan_is_never_similar(void **state) {
    (void)state;
    assert_false(ws_classic_is_similar((double)NAN, 0.12));
    assert_false(ws_classic_is_similar(0.0, (double)NAN));
    assert_false(ws_classic_is_similar((double)NAN, (double)INFINITY));
    assert_false(ws_classic_is_similar((double)INFINITY, 1.0));
}

/* ---- forecast -------------------------------------------------------------------------------- */

static const double tolerance = 1e-12;

/* A probe on a straight line: its last move was d, and it has moved by `moves` times d since. */
static ws_measurement straight(double moves, double sigma) {
    return (ws_measurement){.difference_sum = fabs(moves),
                            .reference_sum = 10.0,
                            .residual_sum = 1.0,
                            .sigma = sigma,
                            .ee = moves * moves,
                            .ed1 = moves,
                            .ed2 = moves,
                            .d1d1 = 1.0,
                            .d1d2 = 1.0,
                            .d2d2 = 1.0};
}

static void one_point_is_plain_reuse(void **state) {
    (void)state;
    const ws_measurement measurement = straight(2.0, 0.7);
    const double sigmas[WS_HISTORY] = {0.8, 0.0, 0.0};
    const ws_forecast forecast = ws_forecast_residual(&measurement, sigmas, 1);
    assert_true(forecast.weight[0] == 0.0 && forecast.weight[1] == 0.0);
    assert_true(forecast.uncertainty == 0.2); /* nothing was foreseen: the whole relative change */
}

static void two_points_mix_the_schedule_and_the_probe(void **state) {
    (void)state;
    const double sigmas[WS_HISTORY] = {0.8, 0.9, 0.0};
    const ws_measurement measurement = straight(1.01, 0.6); /* the schedule says 2, the probe 1 */
    const ws_forecast forecast = ws_forecast_residual(&measurement, sigmas, 2);
    assert_true(fabs(forecast.weight[0] - 1.5) < 1e-9);
    assert_true(forecast.weight[1] == 0.0);
}

static void three_points_follow_a_parabola_half_way(void **state) {
    (void)state;
    const double sigmas[WS_HISTORY] = {0.8, 0.9, 1.0};
    const ws_measurement measurement = straight(1.01, 0.7);
    const ws_forecast forecast = ws_forecast_residual(&measurement, sigmas, 3);
    /* Lagrange through equal steps: R1 + 2 (R1 - R2) - (R2 - R3); linear and probe: R1 + (R1 - R2). */
    assert_true(fabs(forecast.weight[0] - (0.5 * (0.5 * 1.0 + 0.5 * 2.0) + 0.5 * 1.0)) < 1e-9);
    assert_true(fabs(forecast.weight[1] - 0.5 * 0.5 * -1.0) < 1e-9);
}

static void a_foreseen_move_counts_half(void **state) {
    (void)state;
    const double sigmas[WS_HISTORY] = {0.8, 0.9, 0.0};
    ws_measurement measurement = straight(1.01, 0.7);
    const double foreseen = ws_forecast_residual(&measurement, sigmas, 2).uncertainty;
    assert_true(fabs(foreseen - 0.5 * 0.101) < 1e-3);
    measurement.ed1 = 0.0; /* the same distance at a right angle to the last move */
    assert_true(ws_forecast_residual(&measurement, sigmas, 2).uncertainty >= 0.101 - tolerance);
}

static void a_probe_that_stands_still_is_certain(void **state) {
    (void)state;
    const double sigmas[WS_HISTORY] = {0.8, 0.9, 1.0};
    const ws_measurement measurement = straight(0.0, 0.8);
    const ws_forecast forecast = ws_forecast_residual(&measurement, sigmas, 3);
    assert_true(forecast.uncertainty == 0.0);
    assert_true(forecast.weight[0] == 0.0 && forecast.weight[1] == 0.0);
}

static void repeated_sigmas_and_a_probe_without_moves_do_not_divide_by_zero(void **state) {
    (void)state;
    const double schedules[][WS_HISTORY] = {{0.8, 0.8, 0.8}, {0.8, 0.9, 0.9}, {0.8, 0.9, 0.8}};
    for (size_t i = 0; i < sizeof(schedules) / sizeof(schedules[0]); ++i) {
        ws_measurement measurement = straight(1.0, 0.7);
        measurement.d1d1 = measurement.ed1 = 0.0;
        const ws_forecast forecast = ws_forecast_residual(&measurement, schedules[i], 3);
        assert_true(isfinite(forecast.weight[0]) && isfinite(forecast.weight[1]));
        assert_true(isfinite(forecast.uncertainty));
    }
}

static void a_forecast_from_anything_not_finite_is_not_a_number(void **state) {
    (void)state;
    const double sigmas[WS_HISTORY] = {0.8, 0.9, 1.0};
    for (size_t points = 1; points <= WS_HISTORY; ++points) {
        ws_measurement measurement = straight(1.0, 0.7);
        measurement.ee = (double)NAN;
        assert_true(isnan(ws_forecast_residual(&measurement, sigmas, points).uncertainty));
        measurement = straight(1.0, 0.7);
        measurement.residual_sum = (double)INFINITY;
        assert_true(isnan(ws_forecast_residual(&measurement, sigmas, points).uncertainty));
        measurement = straight(1.0, 0.7);
        measurement.reference_sum = 0.0;
        assert_true(isnan(ws_forecast_residual(&measurement, sigmas, points).uncertainty));
    }
}

static void a_forecast_reaches_three_intervals(void **state) {
    (void)state;
    const double sigmas[WS_HISTORY] = {0.8, 0.9, 1.0};
    assert_true(ws_forecast_reaches(sigmas, 0.8, 3));
    assert_true(ws_forecast_reaches(sigmas, 0.5, 3));
    assert_false(ws_forecast_reaches(sigmas, 0.49, 3));
    const double repeated[WS_HISTORY] = {0.8, 0.8, 0.9};
    assert_true(ws_forecast_reaches(repeated, 0.8, 2));
    assert_false(ws_forecast_reaches(repeated, 0.7, 2));
    assert_true(ws_forecast_reaches(repeated, 0.51, 3)); /* the interval to the third */
    assert_false(ws_forecast_reaches(repeated, 0.49, 3));
}

static void step_weights_average_one_in_any_unit(void **state) {
    (void)state;
    const double flow[] = {1.0, 0.9, 0.7, 0.4, 0.0};
    double karras[5];
    double sum_flow = 0.0, sum_karras = 0.0;
    for (size_t i = 0; i < 5; ++i) {
        karras[i] = 14.6 * flow[i];
    }
    for (size_t i = 0; i < 4; ++i) {
        const double weight = ws_step_weight(flow, 5, flow[i]);
        sum_flow += weight;
        sum_karras += ws_step_weight(karras, 5, karras[i]);
        assert_true(weight > 0.0);
    }
    assert_true(fabs(sum_flow / 4.0 - 1.0) < 1e-9);
    assert_true(fabs(sum_karras / 4.0 - 1.0) < 1e-9);
}

static void errors_weigh_more_early_and_in_long_steps(void **state) {
    (void)state;
    const double even[] = {1.0, 0.75, 0.5, 0.25, 0.0};
    assert_true(ws_step_weight(even, 5, 1.0) > ws_step_weight(even, 5, 0.75));
    assert_true(ws_step_weight(even, 5, 0.5) > ws_step_weight(even, 5, 0.25));
    /* A solver's evaluation between two sigmas reaches to the next of the schedule. */
    const double between = ws_step_weight(even, 5, 0.625);
    assert_true(between > 0.0 && between < ws_step_weight(even, 5, 0.75));
}

static void without_a_schedule_every_step_weighs_one(void **state) {
    (void)state;
    const double last[] = {0.0, 0.0};
    assert_true(ws_step_weight(NULL, 0, 0.5) == 1.0);
    assert_true(ws_step_weight(last, 2, 0.0) == 1.0);
}

static void noise_levels_above_one_become_shares(void **state) {
    (void)state;
    assert_true(ws_noise_share(0.5, 1.0) == 0.5);
    assert_true(ws_noise_share(1.0, 14.6) == 0.5);
    assert_true(ws_noise_share(0.0, 14.6) == 0.0);
    /* Without it nearly all weight of such a schedule would fall on its first steps. */
    const double karras[] = {14.6, 5.0, 1.5, 0.4, 0.0};
    assert_true(ws_step_weight(karras, 5, 0.4) > 0.1);
}

static void two_points_at_one_sigma_are_told_from_the_third(void **state) {
    (void)state;
    const double sigmas[WS_HISTORY] = {0.8, 0.8, 1.0};
    const ws_measurement measurement = straight(0.0, 0.7); /* the probe says nothing */
    const ws_forecast forecast = ws_forecast_residual(&measurement, sigmas, 3);
    assert_true(fabs(forecast.weight[0] - 0.25) < 1e-9); /* half of (0.7 - 0.8) / (0.8 - 1.0), along R1 - R3 */
    assert_true(fabs(forecast.weight[1] - 0.25) < 1e-9);
}

/* Moves at an angle of the given cosine, one as long as the other, half an interval of sigma behind the newest point. */
static ws_forecast at_an_angle(double cosine) {
    const double sigmas[WS_HISTORY] = {0.6, 0.8, 1.0};
    const ws_measurement m = {.difference_sum = 0.1, .reference_sum = 1.0, .residual_sum = 1.0, .sigma = 0.5,
                              .ee = 1.0, .ed1 = cosine, .d1d1 = 1.0, .d1d2 = 1.0, .d2d2 = 1.0, .ed2 = cosine};
    return ws_forecast_residual(&m, sigmas, WS_HISTORY);
}

static void a_move_that_has_nothing_to_do_with_the_last_one_is_not_extrapolated(void **state) {
    (void)state;
    for (double cosine = -1.0; cosine <= 0.0; cosine += 0.25) {
        const ws_forecast forecast = at_an_angle(cosine);
        assert_true(forecast.weight[0] == 0.0 && forecast.weight[1] == 0.0);
        assert_true(fabs(forecast.uncertainty - 0.1) < 1e-12); /* nothing was foreseen */
    }
}

static void belief_grows_to_the_whole_forecast(void **state) {
    (void)state;
    double last = 0.0;
    for (double cosine = 0.1; cosine < 0.5; cosine += 0.1) {
        const double weight = at_an_angle(cosine).weight[0];
        assert_true(weight > last);
        last = weight;
    }
    const double sigma_part = at_an_angle(1.0).weight[1]; /* has nothing of the probe in it */
    assert_true(at_an_angle(0.5).weight[1] == sigma_part);
    assert_true(fabs(at_an_angle(0.25).weight[1] - 0.5 * sigma_part) < 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(change_is_the_ratio_of_the_sums),
        cmocka_unit_test(zero_reference_is_not_a_number),
        cmocka_unit_test(any_sum_that_is_not_finite_is_not_a_number),
        cmocka_unit_test(sigma_has_no_part),
        cmocka_unit_test(similar_is_strictly_below_the_threshold),
        cmocka_unit_test(nan_is_never_similar),
        cmocka_unit_test(one_point_is_plain_reuse),
        cmocka_unit_test(two_points_mix_the_schedule_and_the_probe),
        cmocka_unit_test(three_points_follow_a_parabola_half_way),
        cmocka_unit_test(a_foreseen_move_counts_half),
        cmocka_unit_test(a_probe_that_stands_still_is_certain),
        cmocka_unit_test(repeated_sigmas_and_a_probe_without_moves_do_not_divide_by_zero),
        cmocka_unit_test(a_forecast_from_anything_not_finite_is_not_a_number),
        cmocka_unit_test(a_forecast_reaches_three_intervals),
        cmocka_unit_test(noise_levels_above_one_become_shares),
        cmocka_unit_test(two_points_at_one_sigma_are_told_from_the_third),
        cmocka_unit_test(step_weights_average_one_in_any_unit),
        cmocka_unit_test(errors_weigh_more_early_and_in_long_steps),
        cmocka_unit_test(without_a_schedule_every_step_weighs_one),
        cmocka_unit_test(a_move_that_has_nothing_to_do_with_the_last_one_is_not_extrapolated),
        cmocka_unit_test(belief_grows_to_the_whole_forecast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
