with

deletions as (
    select follower_id, followed_id, event_at
    from {{ ref('stg_zentry__follow_events') }}
    where
        event = 'follow_deleted'
        and follow_id is null
        and follower_id is not null
        and followed_id is not null
),

final as (
    select
        follower_id,
        followed_id,
        max(event_at) as ended_at
    from deletions
    group by follower_id, followed_id
)

select * from final
