{# lint: off TL021 (from days and clocks to instants, step by step: parts of
   it have no other reader) #}
with

user_days as (
    select distinct user_id, cast(event_at as date) as event_date
    from {{ ref('stg_zoner__user_activity') }}
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
        user_dates_with_zone.user_id,
        windows_by_clock.event_type,
        windows_by_clock.activity,
        windows_by_clock.recommendation,
        user_dates_with_zone.local_date,
        user_dates_with_zone.tz,
        local_to_utc(
            dateadd(
                'minute',
                windows_by_clock.start_minute,
                cast(user_dates_with_zone.local_date as timestamp)
            ),
            user_dates_with_zone.tz
        ) as window_start,
        local_to_utc(
            dateadd(
                'minute',
                windows_by_clock.end_minute,
                cast(user_dates_with_zone.local_date as timestamp)
            ),
            user_dates_with_zone.tz
        ) as window_end,
        user_dates_with_zone.valid_from,
        user_dates_with_zone.valid_to
    from user_dates_with_zone
    cross join windows_by_clock
),

final as (
    {# Whole in one stretch of one zone. #}
    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        local_date,
        tz,
        recommendation
    from windows_by_date
    where
        (window_start >= valid_from or valid_from is null)
        and (window_end <= valid_to or valid_to is null)
)

select * from final
