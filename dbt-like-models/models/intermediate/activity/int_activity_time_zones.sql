with

zones as (
    select user_id, valid_from, tz
    from {{ ref('user_time_zones') }}
    where system = 'activity'
),

final as (
    select
        user_id as device_id,
        valid_from,
        {{ valid_to() }} as valid_to,
        tz
    from zones
)

select * from final
