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
            else null
        end as magnitude,
        {{ lateness_s() }} as lateness_s,
        "values" as readings,
        message_id,
        {{ record_columns() }}
    from source
)

select * from final
