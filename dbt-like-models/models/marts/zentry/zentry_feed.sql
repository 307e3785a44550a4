with

fanned_out as (
    select
        user_id,
        author_id,
        sleep_entry_id,
        sleep_duration,
        sleep_start_at,
        created_at,
        updated_at
    from {{ ref('zentry_feed_fanout') }}
),

celebrity_entries as (
    select
        author_id,
        sleep_entry_id,
        sleep_duration,
        sleep_start_at,
        created_at,
        updated_at
    from {{ ref('zentry_celebrity_entries') }}
),

follows as (
    select follower_id, followed_id
    from {{ ref('zentry_follows') }}
),

final as (
    select
        fanned_out.user_id,
        {{ entry_document('fanned_out') }}
    from fanned_out

    union all

    select
        follows.follower_id as user_id,
        {{ entry_document('celebrity_entries') }}
    from celebrity_entries
    inner join follows on celebrity_entries.author_id = follows.followed_id
)

select * from final
