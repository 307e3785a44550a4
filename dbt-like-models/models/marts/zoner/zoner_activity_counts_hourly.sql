with

events as (
    select user_id, activity, event_at, phase, lateness_s
    from {{ ref('stg_zoner__user_activity') }}
),

events_with_hour as (
    select
        user_id,
        activity,
        event_at,
        phase,
        lateness_s,
        date_trunc('hour', event_at) as hour_start
    from events
),

final as (
    select
        user_id,
        activity,
        hour_start,
        count(*) as events,
        count(*) filter (where phase is distinct from 'end') as activities,
        count(*) filter (
            where lateness_s > {{ var('zoner_grace_s') }}
        ) as late_events,
        min(event_at) as first_event_at,
        max(event_at) as last_event_at,
        {{ watermark('zoner.user_activity') }}
        >= hour_start
        + interval '{{ 3600 + var("zoner_grace_s") }} seconds' as is_final
    from events_with_hour
    group by user_id, activity, hour_start
)

select * from final
