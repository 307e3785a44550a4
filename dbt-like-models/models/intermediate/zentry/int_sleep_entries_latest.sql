with

events as (
    select
        event,
        sleep_entry_id,
        user_id,
        sleep_duration,
        sleep_duration_s,
        sleep_start_at,
        created_at,
        updated_at,
        kafka_offset
    from {{ ref('stg_zentry__sleep_entry_events') }}
),

exported as (
    select
        sleep_entry_id,
        user_id,
        sleep_duration,
        sleep_duration_s,
        sleep_start_at,
        created_at,
        updated_at
    from {{ ref('stg_zentry_snapshot__sleep_entries') }}
),

final as (
    {# Of equal times an update is newer than a creation, and both are newer
       than an export. #}
    select
        sleep_entry_id,
        user_id,
        sleep_duration,
        sleep_duration_s,
        sleep_start_at,
        created_at,
        updated_at,
        case when event = 'sleep_entry_updated' then 2 else 1 end as _rank,
        kafka_offset as _offset,
        event = 'sleep_entry_deleted' as is_deleted
    from events

    union all

    select
        sleep_entry_id,
        user_id,
        sleep_duration,
        sleep_duration_s,
        sleep_start_at,
        created_at,
        updated_at,
        0 as _rank,
        null as _offset,
        false as is_deleted
    from exported
)

select * from final
