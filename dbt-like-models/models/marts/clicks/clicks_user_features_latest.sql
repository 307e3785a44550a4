with

features as (
    select
        user_id,
        as_of,
        clicks_1h,
        clicks_24h,
        active_minutes_24h,
        orders_24h
    from {{ ref('clicks_user_features') }}
),

final as (
    select
        user_id,
        max(as_of) as as_of,
        arg_max(clicks_1h, as_of) as clicks_1h,
        arg_max(clicks_24h, as_of) as clicks_24h,
        arg_max(active_minutes_24h, as_of) as active_minutes_24h,
        arg_max(orders_24h, as_of) as orders_24h
    from features
    group by user_id
)

select * from final
