{# lint: off TL021 (what is known of a person, fact by fact: parts of it
   have no other reader) #}
with

days as (
    select
        user_id,
        event_date,
        as_of,
        tz,
        sleep_events_24h,
        meals_24h,
        light_24h,
        last_sleep_at,
        last_meal_at,
        last_light_at
    from {{ ref('int_zoner_users_by_day') }}
),

days_ranked as (
    select
        user_id,
        as_of,
        tz,
        sleep_events_24h,
        meals_24h,
        light_24h,
        row_number() over (
            partition by user_id
            order by event_date desc
        ) as rank_of_user
    from days
),

newest as (
    select
        user_id, as_of, tz, sleep_events_24h, meals_24h, light_24h
    from days_ranked
    where rank_of_user = 1
),

last_activities as (
    select
        user_id,
        max(last_sleep_at) as last_sleep_at,
        max(last_meal_at) as last_meal_at,
        max(last_light_at) as last_light_at
    from days
    group by user_id
),

nights as (
    select
        user_id,
        night_date,
        sleep_seconds,
        max(night_date) over (partition by user_id) as last_night_date
    from {{ ref('zoner_sleep_nightly') }}
    where interval_count > 0
),

sleep as (
    select
        user_id,
        last_night_date,
        max(sleep_seconds) filter (
            where night_date = last_night_date
        ) as sleep_last_night_s,
        {# Sums of decimals are exact: a mean of doubles depends in its last
           digit on the order of the nights, which a rebuild may change. #}
        sum(sleep_seconds) filter (
            where night_date > last_night_date - interval '7 days'
        ) as sum_7n_s,
        count(*) filter (
            where night_date > last_night_date - interval '7 days'
        ) as num_7n,
        sum(sleep_seconds) filter (
            where
            night_date <= last_night_date - interval '7 days'
            and night_date > last_night_date - interval '14 days'
        ) as sum_prev_7n_s,
        count(*) filter (
            where
            night_date <= last_night_date - interval '7 days'
            and night_date > last_night_date - interval '14 days'
        ) as num_prev_7n
    from nights
    group by user_id, last_night_date
),

sleep_with_means as (
    select
        user_id,
        last_night_date,
        sleep_last_night_s,
        cast(sum_7n_s as double) / num_7n as sleep_avg_7n_s,
        cast(sum_prev_7n_s as double) / num_prev_7n as sleep_avg_prev_7n_s
    from sleep
),

open_types as (
    select distinct newest.user_id, key_events.event_type
    from newest
    inner join {{ ref('zoner_key_events') }} as key_events
        on newest.user_id = key_events.user_id
    where
        key_events.outcome in ('missed', 'delayed')
        and key_events.due_at > newest.as_of - interval '24 hours'
),

alerts as (
    select
        user_id,
        string_agg(
            concat('"', event_type, '"'), ',' order by event_type
        ) as types
    from open_types
    group by user_id
),

final as (
    select
        newest.user_id,
        newest.as_of,
        newest.tz,
        sleep.last_night_date,
        sleep.sleep_last_night_s,
        sleep.sleep_avg_7n_s,
        sleep.sleep_avg_prev_7n_s,
        sleep.sleep_avg_7n_s - sleep.sleep_avg_prev_7n_s as sleep_change_7n_s,
        newest.sleep_events_24h,
        newest.meals_24h,
        newest.light_24h,
        last_activities.last_sleep_at,
        last_activities.last_meal_at,
        last_activities.last_light_at,
        concat('[', coalesce(alerts.types, ''), ']') as open_alerts
    from newest
    inner join last_activities on newest.user_id = last_activities.user_id
    left join sleep_with_means as sleep on newest.user_id = sleep.user_id
    left join alerts on newest.user_id = alerts.user_id
)

select * from final
