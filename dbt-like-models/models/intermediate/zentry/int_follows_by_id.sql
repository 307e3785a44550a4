with

events as (
    select event, follow_id, follower_id, followed_id, event_at, kafka_offset
    from {{ ref('stg_zentry__follow_events') }}
    where follow_id is not null
),

exported as (
    select follow_id, follower_id, followed_id, created_at
    from {{ ref('stg_zentry_snapshot__follows') }}
),

final as (
    select
        follow_id,
        follower_id,
        followed_id,
        event_at as followed_at,
        1 as _rank,
        kafka_offset as _offset,
        event = 'follow_deleted' as is_deleted
    from events

    union all

    select
        follow_id,
        follower_id,
        followed_id,
        created_at as followed_at,
        0 as _rank,
        null as _offset,
        false as is_deleted
    from exported
)

select * from final
