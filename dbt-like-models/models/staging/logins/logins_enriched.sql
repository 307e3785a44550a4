{# lint: off TL004 (readers know it by this name) #}
with

source as (
    select * from {{ source('logins', 'user_login') }}
),

final as (
    select
        _key as event_key,
        user_id,
        app_version,
        device_type,
        {{ private_text(
            'ip', var('logins_ip_mode'), var('logins_ip_key')
        ) }} as ip,
        locale,
        device_id,
        "timestamp",
        to_char(
            local_ts(_ingested_at, '{{ var("logins_tz") }}'),
            '%Y-%m-%dT%H:%M:%S%.6f'
        ) as processed_timestamp,
        to_char(
            local_ts(event_at, '{{ var("logins_tz") }}'), '%Y-%m-%dT%H:%M:%S'
        ) as readable_timestamp,
        cast(
            date_part('hour', local_ts(event_at, '{{ var("logins_tz") }}'))
            as bigint
        ) as hour_of_day,
        '{{ var("logins_tz") }}' as time_zone,
        event_at,
        {{ lateness_s() }} as lateness_s,
        {{ record_columns() }}
    from source
)

select * from final
