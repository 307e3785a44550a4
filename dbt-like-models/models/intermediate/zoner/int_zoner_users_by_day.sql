with

events as (
    select event_key, user_id, activity, event_at, event_date, tz, phase
    from {{ ref('stg_zoner__user_activity') }}
),

ranked as (
    select
        user_id,
        event_date,
        event_at,
        tz,
        row_number() over (
            partition by user_id, event_date
            order by event_at desc, activity desc, event_key desc
        ) as rank_of_day
    from events
),

newest as (
    select user_id, event_date, event_at as as_of, tz
    from ranked
    where rank_of_day = 1
),

final as (
    select
        newest.user_id,
        newest.event_date,
        newest.as_of,
        newest.tz,
        count(*) filter (
            where events.activity = 'sleep'
        ) as sleep_events_24h,
        count(*) filter (where events.activity = 'meal') as meals_24h,
        count(*) filter (
            where events.activity = 'light_exposure'
        ) as light_24h,
        max(events.event_at) filter (
            where
            events.activity = 'sleep'
            and events.event_date = newest.event_date
        ) as last_sleep_at,
        max(events.event_at) filter (
            where
            events.activity = 'meal'
            and events.event_date = newest.event_date
        ) as last_meal_at,
        max(events.event_at) filter (
            where
            events.activity = 'light_exposure'
            and events.event_date = newest.event_date
        ) as last_light_at
    from newest
    left join events
        on
            newest.user_id = events.user_id
            and events.event_at > newest.as_of - interval '24 hours'
            and events.event_at <= newest.as_of
            and events.phase is distinct from 'end'
    group by
        newest.user_id, newest.event_date, newest.as_of, newest.tz
)

select * from final
