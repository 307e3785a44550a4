with

logins as (
    select
        event_at, device_type, app_version, locale, user_id, device_id,
        lateness_s
    from {{ ref('logins_enriched') }}
),

logins_with_hour as (
    select
        device_type,
        app_version,
        locale,
        user_id,
        device_id,
        lateness_s,
        date_trunc('hour', event_at) as hour_start
    from logins
),

final as (
    select
        hour_start,
        device_type,
        app_version,
        locale,
        count(*) as logins,
        count(distinct user_id) as users,
        count(distinct device_id) as devices,
        count(*) filter (
            where lateness_s > {{ var('logins_grace_s') }}
        ) as late_logins,
        {{ watermark('logins.user_login') }}
        >= hour_start
        + interval '{{ 3600 + var("logins_grace_s") }} seconds' as is_final
    from logins_with_hour
    group by hour_start, device_type, app_version, locale
)

select * from final
