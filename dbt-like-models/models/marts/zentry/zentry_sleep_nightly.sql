with

entries as (
    select user_id, night_date, sleep_duration_s, sleep_start_at, sleep_end_at
    from {{ ref('zentry_sleep_entries') }}
),

final as (
    select
        user_id,
        night_date,
        count(*) as entries,
        sum(sleep_duration_s) as logged_seconds,
        union_seconds(sleep_start_at, sleep_end_at) as sleep_seconds,
        min(sleep_start_at) as first_start_at,
        max(sleep_end_at) as last_end_at,
        max(sleep_duration_s) as longest_entry_s
    from entries
    group by user_id, night_date
)

select * from final
