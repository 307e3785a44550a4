with

follows as (
    select follower_id, followed_id
    from {{ ref('int_follows_fanned_out') }}
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
        follows.follower_id as user_id,
        {{ entry_document('entries', author='user_id') }}
    from entries
    inner join follows on entries.user_id = follows.followed_id
)

select * from final
