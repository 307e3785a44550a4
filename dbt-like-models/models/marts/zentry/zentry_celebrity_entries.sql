with

celebrities as (
    select user_id
    from {{ ref('int_celebrities_flagged') }}
),

entries as (
    select
        sleep_entry_id,
        user_id,
        sleep_duration,
        sleep_start_at,
        created_at,
        updated_at
    from {{ ref('zentry_sleep_entries') }}
),

final as (
    select
        {{ entry_document('entries', author='user_id') }}
    from entries
    inner join celebrities on entries.user_id = celebrities.user_id
)

select * from final
