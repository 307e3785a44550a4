with

events as (
    select user_id, activity, event_at, local_at, tz, phase, lateness_s
    from {{ ref('stg_zoner__user_activity') }}
),

events_with_day as (
    select
        user_id,
        activity,
        event_at,
        phase,
        lateness_s,
        cast(local_at as date) as local_date,
        local_to_utc(
            date_trunc('day', local_at) + interval '1 day', tz
        ) as day_end
    from events
),

final as (
    select
        user_id,
        activity,
        local_date,
        count(*) as events,
        count(*) filter (where phase is distinct from 'end') as activities,
        count(*) filter (
            where lateness_s > {{ var('zoner_grace_s') }}
        ) as late_events,
        min(event_at) as first_event_at,
        max(event_at) as last_event_at,
        {{ watermark('zoner.user_activity') }}
        >= max(day_end)
        + interval '{{ var("zoner_grace_s") }} seconds' as is_final
    from events_with_day
    group by user_id, activity, local_date
)

select * from final
