with

logins as (
    select event_at, locale, device_type, app_version, lateness_s
    from {{ ref('logins_enriched') }}
),

logins_with_window as (
    select
        locale,
        device_type,
        app_version,
        lateness_s,
        {{ tumble_start('event_at', var('logins_window_s')) }} as window_start
    from logins
),

windows as (
    select
        window_start,
        window_start
        + interval '{{ var("logins_window_s") }} seconds' as window_end,
        count(*) as message_count,
        count_by(locale) as location_stats,
        count_by(device_type) as device_stats,
        count_by(app_version) as version_stats,
        count(*) filter (
            where lateness_s > {{ var('logins_grace_s') }}
        ) as late_count
    from logins_with_window
    group by window_start
),

final as (
    select
        window_start,
        window_end,
        cast({{ epoch_micros('window_end') }} as double) / 1000000
            as "current_time",
        cast({{ var('logins_window_s') }} as double) as time_window,
        message_count,
        cast(message_count as double)
        / cast({{ var('logins_window_s') }} as double) as batch_size,
        location_stats,
        device_stats,
        version_stats,
        late_count,
        {{ watermark('logins.user_login') }}
        >= window_end
        + interval '{{ var("logins_grace_s") }} seconds' as is_final
    from windows
)

select * from final
