with

user_hours as (
    select
        user_id,
        date_trunc('hour', event_at) as hour_start,
        min(event_at) as first_event_at,
        max(event_at) as last_event_at
    from {{ ref('stg_zoner__user_activity') }}
    group by user_id, date_trunc('hour', event_at)
),

user_days as (
    select distinct user_id, cast(hour_start as date) as event_date
    from user_hours
),

user_days_ahead as (
    select
        user_id,
        event_date,
        unnest(range(
            -1, {{ (var('zoner_active_user_hours') + 23) // 24 + 2 }}
        )) as day_offset
    from user_days
),

user_dates as (
    {# Every local date on which a window may follow an event in time. #}
    select distinct
        user_id,
        dateadd('day', day_offset, event_date) as local_date
    from user_days_ahead
),

segments as (
    select user_id, valid_from, valid_to, tz
    from {{ ref('int_zoner_zones_segmented') }}
),

user_dates_with_zone as (
    {# Once per zone of the person, which is the default one without any. #}
    select
        user_dates.user_id,
        user_dates.local_date,
        coalesce(segments.tz, '{{ var("zoner_default_tz") }}') as tz,
        segments.valid_from,
        segments.valid_to
    from user_dates
    left join segments on user_dates.user_id = segments.user_id
),

windows_by_clock as (
    {# Minutes from local midnight. #}
    select
        event_type,
        activity,
        recommendation,
        60 * cast(split_part(local_start, ':', 1) as int)
        + cast(split_part(local_start, ':', 2) as int) as start_minute,
        60 * cast(split_part(local_end, ':', 1) as int)
        + cast(split_part(local_end, ':', 2) as int)
        + case when local_end > local_start then 0 else 1440 end as end_minute
    from {{ ref('zoner_windows') }}
),

windows_by_date as (
    select
        user_dates.user_id,
        windows_by_clock.event_type,
        windows_by_clock.activity,
        windows_by_clock.recommendation,
        user_dates.local_date,
        user_dates.tz,
        local_to_utc(
            dateadd(
                'minute',
                windows_by_clock.start_minute,
                cast(user_dates.local_date as timestamp)
            ),
            user_dates.tz
        ) as window_start,
        local_to_utc(
            dateadd(
                'minute',
                windows_by_clock.end_minute,
                cast(user_dates.local_date as timestamp)
            ),
            user_dates.tz
        ) as window_end,
        user_dates.valid_from,
        user_dates.valid_to
    from user_dates_with_zone as user_dates
    cross join windows_by_clock
),

plans as (
    select
        plans.user_id,
        plans.event_type,
        plans.activity,
        plans.window_start,
        plans.window_end,
        coalesce(segments.tz, '{{ var("zoner_default_tz") }}') as tz,
        cast(
            local_ts(
                plans.window_start,
                coalesce(segments.tz, '{{ var("zoner_default_tz") }}')
            ) as date
        ) as local_date
    from {{ ref('int_zoner_plans_standing') }} as plans
    left join segments
        on
            plans.user_id = segments.user_id
            and plans.window_start >= segments.valid_from
            and (
                plans.window_start < segments.valid_to
                or segments.valid_to is null
            )
),

expected as (
    select
        windows_by_date.user_id,
        windows_by_date.event_type,
        windows_by_date.activity,
        windows_by_date.window_start,
        windows_by_date.window_end,
        windows_by_date.local_date,
        windows_by_date.tz,
        'default' as rule_source,
        windows_by_date.recommendation
    from windows_by_date
    left anti join plans
        on
            windows_by_date.user_id = plans.user_id
            and windows_by_date.event_type = plans.event_type
            and windows_by_date.local_date = plans.local_date
    where
        (
            windows_by_date.window_start >= windows_by_date.valid_from
            or windows_by_date.valid_from is null
        )
        and (
            windows_by_date.window_end <= windows_by_date.valid_to
            or windows_by_date.valid_to is null
        )

    union all

    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        local_date,
        tz,
        'plan' as rule_source,
        null as recommendation
    from plans
),

final as (
    {# Of people who were heard of lately. An hour that reaches into the time
       before the window by its last event, and by its first one, has one in
       it: an hour is shorter than that time. #}
    select expected.*
    from expected
    left semi join user_hours
        on
            expected.user_id = user_hours.user_id
            and user_hours.last_event_at >= expected.window_start
            - interval '{{ var("zoner_active_user_hours") }} hours'
            and user_hours.first_event_at < expected.window_start
)

select * from final
