with

source as (
    select * from {{ source('clicks', 'system') }}
),

final as (
    select
        _key as event_key,
        event_id,
        service,
        metric,
        value,
        event_at as occurred_at,
        tags,
        {{ micros_to_seconds(lateness_us('event_at', '_timestamp')) }}
            as lateness_s,
        _extra as extra,
        _topic as kafka_topic,
        _partition as kafka_partition,
        _offset as kafka_offset,
        _timestamp as kafka_timestamp,
        _ingested_at as ingested_at
    from source
)

select * from final
