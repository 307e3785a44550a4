with

source as (
    select * from {{ source('zentry_snapshot', 'follows') }}
),

final as (
    select
        follow_id,
        follower_id,
        followed_id,
        created_at,
        _ingested_at as ingested_at
    from source
)

select * from final
