with

ids as (
    select follower_id, followed_id, followed_at
    from {{ ref('int_follows_by_id') }}
),

pairs as (
    select follower_id, followed_id, followed_at
    from {{ ref('int_follows_by_pair') }}
),

ended as (
    select follower_id, followed_id, ended_at
    from {{ ref('int_follow_pairs_ended') }}
),

live as (
    {# An unfollow without id ends every id of its pair that began before it
       or with it. #}
    select ids.follower_id, ids.followed_id, ids.followed_at
    from ids
    left join ended
        on
            ids.follower_id = ended.follower_id
            and ids.followed_id = ended.followed_id
    where ended.ended_at is null or ended.ended_at < ids.followed_at

    union all

    select follower_id, followed_id, followed_at
    from pairs
),

final as (
    select
        follower_id,
        followed_id,
        max(followed_at) as followed_at
    from live
    group by follower_id, followed_id
)

select * from final
