with

events as (
    select event, follower_id, followed_id, event_at, kafka_offset
    from {{ ref('stg_zentry__follow_events') }}
    where
        follow_id is null
        and follower_id is not null
        and followed_id is not null
),

final as (
    select
        follower_id,
        followed_id,
        event_at as followed_at,
        kafka_offset as _offset,
        event = 'follow_deleted' as is_deleted
    from events
)

select * from final
