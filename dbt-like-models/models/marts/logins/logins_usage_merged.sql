with

windows as (
    select
        window_start,
        window_end,
        message_count,
        location_stats,
        device_stats,
        version_stats,
        late_count,
        is_final,
        {{ tumble_start('window_start', var('logins_merged_window_s')) }}
            as merged_start
    from {{ ref('logins_usage_window') }}
),

merged as (
    {# Parts of one window, as two processes may hold them, cover it once. #}
    select
        merged_start,
        min(window_start) as window_start,
        max(window_end) as window_end,
        cast(union_seconds(window_start, window_end) as double) as time_window,
        sum(message_count) as message_count,
        sum_counts(location_stats) as location_stats,
        sum_counts(device_stats) as device_stats,
        sum_counts(version_stats) as version_stats,
        sum(late_count) as late_count,
        bool_and(is_final) as is_final
    from windows
    group by merged_start
),

final as (
    select
        window_start,
        window_end,
        cast({{ epoch_micros('window_end') }} as double) / 1000000
            as "current_time",
        time_window,
        message_count,
        cast(message_count as double) / time_window as batch_size,
        location_stats,
        device_stats,
        version_stats,
        late_count,
        is_final
    from merged
)

select * from final
