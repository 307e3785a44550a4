with

source as (
    select * from {{ source('clicks', 'user_actions') }}
),

final as (
    select
        _key as event_key,
        event_id,
        user_id,
        action,
        event_at as occurred_at,
        session_id,
        page,
        properties,
        experiment_id,
        variant,
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
