with

final as (
    select
        user_id,
        flight_id,
        scheduled_at,
        estimated_at,
        updated_at,
        event_key as _event_key
    from {{ ref('stg_zoner__flights') }}
)

select * from final
