with

source as (
    select * from {{ source('zentry_snapshot', 'sleep_entries') }}
),

final as (
    select
        sleep_entry_id,
        user_id,
        sleep_duration,
        {{ units_to_micros('sleep_duration', var('zentry_duration_unit')) }}
        / 1000000 as sleep_duration_s,
        sleep_start_at,
        created_at,
        updated_at,
        _ingested_at as ingested_at
    from source
)

select * from final
