with

events as (
    select user_id, action, occurred_at, lateness_s
    from {{ ref('stg_clicks__user_actions') }}
),

events_with_hour as (
    select
        user_id,
        action,
        lateness_s,
        {{ tumble_start('occurred_at', 3600) }} as hour_start
    from events
),

final as (
    select
        hour_start,
        action,
        count(*) as events,
        count(distinct user_id) as users,
        count(*) filter (
            where lateness_s > {{ var('clicks_grace_s') }}
        ) as late_events,
        {{ watermark('clicks.user_actions') }}
        >= hour_start
        + interval '{{ 3600 + var("clicks_grace_s") }} seconds' as is_final
    from events_with_hour
    group by hour_start, action
)

select * from final
