/* The decision of a window's evaluation: what the strategy or the plan says, and what forbids a reuse. */
#include "core/session_internal.h"

#include <math.h>

static void count_change(ws_statistics *statistics, double change) {
    if (isfinite(change)) {
        ++statistics->compared;
        statistics->change_sum += change;
        statistics->change_min = fmin(statistics->change_min, change);
        statistics->change_max = fmax(statistics->change_max, change);
    }
}

/* What the plan of a set speedup says about the window's evaluation at this sigma. */
static ws_plan plan_of(ws_session *session, const window *deciding, double sigma) {
    const ws_session_settings *const settings = &session->settings;
    ws_plan plan = {.speedup = settings->speedup,
                    .even = true,
                    .evaluations = deciding->evaluations,
                    .computed = deciding->computed,
                    .gap = deciding->hits + 1};
    if (settings->schedule_length >= 2) {
        evaluation *const current = &session->current;
        if (!current->placed) { /* once for all windows */
            current->placed = true;
            current->step = ws_schedule_index(settings->schedule, settings->schedule_length, sigma);
            ++session->visits[current->step];
        }
        plan.per_step = ws_evaluations_per_step(settings->schedule_length, session->visits);
        plan.left = (int64_t)ws_evaluations_left(settings->schedule, settings->schedule_length, session->visits,
                                                 plan.per_step, current->step);
        plan.costs = session->costs;
        plan.even = session->even_costs;
        plan.steps = settings->schedule_length - 1;
        plan.step = current->step;
        plan.place = session->visits[current->step] - 1;
    }
    return plan;
}

/* Why the measured evaluation must be computed; WS_REASON_NONE if it may be reused. refused: what
 * the strategy itself says, WS_REASON_NONE if it would reuse. */
static ws_reason judge(const ws_session *session, window *measured, double change,
                       ws_reason refused, double sigma) {
    const ws_session_settings *const settings = &session->settings;
    measured->predicted = change;
    if (!isfinite(change)) {
        return WS_REASON_NOT_FINITE;
    }
    if (refused != WS_REASON_NONE) {
        return refused;
    }
    if (!(settings->sigma_end <= sigma && sigma <= settings->sigma_start)) {
        return WS_REASON_SIGMA;
    }
    if (settings->max_consecutive_hits >= 0 && measured->hits >= settings->max_consecutive_hits) {
        return WS_REASON_HITS;
    }
    return WS_REASON_NONE;
}

static double noise_share(const ws_session *session, double sigma) {
    const ws_session_settings *const settings = &session->settings;
    return ws_noise_share(sigma, settings->schedule_length > 0 ? settings->schedule[0] : 0.0);
}

static ws_reason judge_classic(const ws_session *session, window *deciding,
                               const ws_measurement *measurement, const ws_plan *plan) {
    const double change = ws_relative_change(measurement);
    ws_reason refused = WS_REASON_NONE;
    if (plan != NULL) {
        refused = ws_plan_leaves_out(plan) ? WS_REASON_NONE : WS_REASON_PLANNED;
    } else if (!ws_classic_is_similar(change, session->settings.threshold)) {
        refused = WS_REASON_CHANGED;
    }
    deciding->coefficient[0] = 1.0F;
    return judge(session, deciding, change, refused, measurement->sigma);
}

static ws_reason judge_forecast(const ws_session *session, window *deciding,
                                const ws_measurement *measurement, const ws_plan *plan) {
    const ws_session_settings *const settings = &session->settings;
    ws_measurement in_shares = *measurement;
    in_shares.sigma = noise_share(session, measurement->sigma);
    const ws_forecast forecast =
        ws_forecast_residual(&in_shares, deciding->sigmas, deciding->points);
    deciding->damage +=
        forecast.uncertainty *
        ws_step_weight(settings->schedule, settings->schedule_length, measurement->sigma);
    deciding->coefficient[0] = (float)(1.0 + forecast.weight[0]);
    deciding->coefficient[1] = (float)(forecast.weight[1] - forecast.weight[0]);
    deciding->coefficient[2] = (float)-forecast.weight[1];
    /* A single stored evaluation says nothing about where things are going. */
    const bool reaches = deciding->points >= 2 &&
                         ws_forecast_reaches(deciding->sigmas, in_shares.sigma, deciding->points);
    ws_reason refused = WS_REASON_NONE;
    if (plan != NULL) {
        /* Unequal costs keep gaps short by themselves where steps are long, and long where they are short. */
        const bool may_fall_behind = !plan->even || !ws_plan_has_budget(plan);
        const bool follows = reaches || (deciding->points >= 2 && may_fall_behind);
        refused = follows && ws_plan_leaves_out(plan) ? WS_REASON_NONE : WS_REASON_PLANNED;
    } else if (!reaches || !(deciding->damage < settings->threshold)) {
        refused = WS_REASON_CHANGED;
    }
    return judge(session, deciding, forecast.uncertainty, refused, measurement->sigma);
}

/* The window's history moves on by the evaluation that is about to be computed. */
static void note_decision_to_compute(window *deciding, int64_t number, double sigma) {
    for (size_t i = WS_HISTORY - 1; i > 0; --i) {
        deciding->computed_in[i] = deciding->computed_in[i - 1];
        deciding->sigmas[i] = deciding->sigmas[i - 1];
    }
    deciding->computed_in[0] = number;
    deciding->sigmas[0] = sigma;
    deciding->damage = 0.0;
    deciding->hits = 0;
}

void ws_session_decide_window_(ws_session *session, const ws_call *call, const ws_measurement *measurement) {
    window *const deciding = &session->windows[call->window_index];
    deciding->reason = WS_REASON_NO_ENTRY;
    deciding->points = call->points;
    deciding->predicted = NAN;
    const bool planned = session->settings.speedup != 0.0 && measurement != NULL;
    const ws_plan plan = planned ? plan_of(session, deciding, measurement->sigma) : (ws_plan){0};
    if (call->intent == WS_INTENT_COMPARE && measurement != NULL && call->points > 0) {
        count_change(&session->totals, ws_relative_change(measurement));
        deciding->reason = session->settings.strategy == WS_STRATEGY_FORECAST
                               ? judge_forecast(session, deciding, measurement, planned ? &plan : NULL)
                               : judge_classic(session, deciding, measurement, planned ? &plan : NULL);
    }
    deciding->decided_in = session->current.number;
    ++deciding->evaluations;
    if (deciding->reason == WS_REASON_NONE) {
        deciding->decision = WS_ACTION_REUSE;
        ++deciding->hits;
    } else {
        const double sigma = measurement != NULL ? noise_share(session, measurement->sigma) : 0.0;
        deciding->decision = WS_ACTION_COMPUTE;
        ++deciding->computed;
        note_decision_to_compute(deciding, session->current.number, sigma);
    }
}
