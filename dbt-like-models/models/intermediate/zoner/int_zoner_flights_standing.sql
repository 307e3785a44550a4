with

flights as (
    select user_id, flight_id, scheduled_at, estimated_at, updated_at
    from {{ ref('int_zoner_flights_latest') }}
),

ranked as (
    select
        user_id,
        flight_id,
        scheduled_at,
        estimated_at,
        updated_at,
        row_number() over (
            partition by user_id, scheduled_at
            order by updated_at desc, flight_id desc
        ) as rank_at_departure
    from flights
),

final as (
    select user_id, flight_id, scheduled_at, estimated_at, updated_at
    from ranked
    where rank_at_departure = 1
)

select * from final
