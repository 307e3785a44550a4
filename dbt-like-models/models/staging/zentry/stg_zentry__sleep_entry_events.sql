with

source as (
    select * from {{ source('zentry', 'sleep_entries') }}
),

final as (
    select
        _key as event_key,
        event,
        event_id,
        sleep_entry_id,
        user_id,
        sleep_duration,
        {{ units_to_micros('sleep_duration', var('zentry_duration_unit')) }}
        / 1000000 as sleep_duration_s,
        event_at,
        occurred_at,
        sleep_start_at,
        created_at,
        updated_at,
        {{ record_columns() }}
    from source
)

select * from final
