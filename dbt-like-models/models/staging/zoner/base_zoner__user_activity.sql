with

source as (
    select * from {{ source('zoner', 'user_activity') }}
),

final as (
    select
        _key as event_key,
        user_id,
        activity,
        event_at,
        tz,
        phase,
        duration_s,
        {{ lateness_us('event_at', '_timestamp') }} as lateness_us,
        event_date,
        _extra as extra,
        _topic as kafka_topic,
        _partition as kafka_partition,
        _offset as kafka_offset,
        _timestamp as kafka_timestamp,
        _ingested_at as ingested_at
    from source
)

select * from final
