with

sides as (
    select followed_id as user_id, 1 as is_followed, 0 as follows
    from {{ ref('zentry_follows') }}

    union all

    select follower_id as user_id, 0 as is_followed, 1 as follows
    from {{ ref('zentry_follows') }}
),

final as (
    select
        user_id,
        sum(is_followed) as follower_count,
        sum(follows) as followed_count,
        sum(is_followed)
        >= {{ var('zentry_celebrity_threshold') }} as is_celebrity
    from sides
    group by user_id
)

select * from final
