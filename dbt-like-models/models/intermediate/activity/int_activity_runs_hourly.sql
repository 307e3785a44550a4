{% set slide_us = var('activity_slide_s') * 1000000 %}
with

windows as (
    select
        session_id,
        device_id,
        window_start,
        {{ tumble_start('window_start', 3600) }} as hour_start,
        activity
    from {{ ref('activity_windows') }}
),

windows_numbered as (
    {# Neighbours of one activity differ from their number by the same. #}
    select
        session_id,
        device_id,
        window_start,
        hour_start,
        activity,
        {{ epoch_micros('window_start') }}
        - {{ slide_us }} * row_number() over (
            partition by session_id, device_id, activity, hour_start
            order by window_start
        ) as run_number
    from windows
),

final as (
    select
        session_id,
        device_id,
        hour_start,
        activity,
        min(window_start) as run_start,
        max(window_start)
        + interval '{{ var("activity_slide_s") }} seconds' as run_end,
        count(*) as windows
    from windows_numbered
    group by session_id, device_id, hour_start, activity, run_number
)

select * from final
