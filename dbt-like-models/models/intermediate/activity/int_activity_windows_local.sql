with

windows as (
    select device_id, window_start, activity
    from {{ ref('activity_windows') }}
    where leading_samples > 0
),

zones as (
    select device_id, valid_from, valid_to, tz
    from {{ ref('int_activity_time_zones') }}
),

windows_with_date as (
    select
        windows.device_id,
        windows.activity,
        {{ tumble_start('windows.window_start', 3600) }} as hour_start,
        cast(
            local_ts(
                windows.window_start,
                coalesce(zones.tz, '{{ var("activity_default_tz") }}')
            ) as date
        ) as local_date
    from windows
    left join zones
        on
            windows.device_id = zones.device_id
            and {{ holds_at('zones', 'windows.window_start') }}
),

final as (
    select
        device_id,
        hour_start,
        local_date,
        activity,
        count(*) as windows
    from windows_with_date
    group by device_id, hour_start, local_date, activity
)

select * from final
