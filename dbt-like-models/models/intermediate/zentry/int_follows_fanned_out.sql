with

follows as (
    select follower_id, followed_id
    from {{ ref('zentry_follows') }}
),

celebrities as (
    select user_id
    from {{ ref('int_celebrities_flagged') }}
),

final as (
    select follows.followed_id, follows.follower_id
    from follows
    left anti join celebrities
        on follows.followed_id = celebrities.user_id
)

select * from final
