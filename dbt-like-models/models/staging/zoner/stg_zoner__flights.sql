with

source as (
    select * from {{ source('zoner', 'flights') }}
),

final as (
    select
        _key as event_key,
        user_id,
        flight_id,
        scheduled_departure as scheduled_at,
        estimated_departure as estimated_at,
        updated_at
    from source
)

select * from final
