with

entries as (
    select
        sleep_entry_id,
        user_id,
        sleep_duration,
        sleep_duration_s,
        sleep_start_at,
        created_at,
        updated_at
    from {{ ref('int_sleep_entries_latest') }}
),

zones as (
    select user_id, valid_from, valid_to, tz
    from {{ ref('int_zentry_time_zones_dated') }}
),

final as (
    select
        entries.sleep_entry_id,
        entries.user_id,
        entries.sleep_duration,
        entries.sleep_duration_s,
        entries.sleep_start_at,
        to_timestamp_micros(
            cast(entries.sleep_start_at as bigint)
            + {{ units_to_micros(
                'entries.sleep_duration', var('zentry_duration_unit')
            ) }}
        ) as sleep_end_at,
        entries.created_at,
        entries.updated_at,
        night_of(
            entries.sleep_start_at,
            coalesce(zones.tz, '{{ var("zentry_default_tz") }}'),
            '12:00'
        ) as night_date
    from entries
    left join zones
        on
            entries.user_id = zones.user_id
            and {{ holds_at('zones', 'entries.sleep_start_at') }}
)

select * from final
