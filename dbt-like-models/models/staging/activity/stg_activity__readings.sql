with

source as (
    select * from {{ source('activity', 'raw_sensor_data') }}
),

final as (
    select
        _key as event_key,
        session_id,
        device_id,
        sensor,
        event_at,
        "time" as time_ns,
        x,
        y,
        z,
        case
            when sensor = 'accelerometer' then sqrt(x * x + y * y + z * z)
        end as magnitude,
        {{ micros_to_seconds(lateness_us('event_at', '_timestamp')) }}
            as lateness_s,
        "values" as readings,
        message_id,
        _extra as extra,
        _topic as kafka_topic,
        _partition as kafka_partition,
        _offset as kafka_offset,
        _timestamp as kafka_timestamp,
        _ingested_at as ingested_at
    from source
)

select * from final
