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
        _extra as extra,
        _topic as kafka_topic,
        _partition as kafka_partition,
        _offset as kafka_offset,
        _timestamp as kafka_timestamp,
        _ingested_at as ingested_at
    from source
)

select * from final
