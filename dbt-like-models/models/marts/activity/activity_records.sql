with

final as (
    select
        session_id,
        device_id,
        sensor,
        event_at,
        time_ns,
        x,
        y,
        z,
        readings,
        message_id,
        extra,
        event_key,
        kafka_topic,
        kafka_partition,
        kafka_offset,
        kafka_timestamp,
        ingested_at
    from {{ ref('stg_activity__readings') }}
)

select * from final
