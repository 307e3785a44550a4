with

source as (
    select * from {{ source('zentry', 'follows') }}
),

final as (
    select
        _key as event_key,
        event,
        event_id,
        follow_id,
        follower_id,
        followed_id,
        event_at,
        occurred_at,
        created_at,
        {{ record_columns() }}
    from source
)

select * from final
