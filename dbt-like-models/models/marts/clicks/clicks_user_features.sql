with

minutes as (
    select
        user_id,
        {{ tumble_start('window_start', 3600) }} as hour_start,
        clicks
    from {{ ref('clicks_per_minute') }}
),

orders as (
    select
        user_id,
        {{ tumble_start('occurred_at', 3600) }} as hour_start
    from {{ ref('stg_clicks__transactions') }}
    where kind = 'order' and status = 'completed'
),

parts as (
    {# 24 hours make a day: a user's minute is aggregated once, and not for
       each of the hours that look back on it. #}
    select
        user_id,
        hour_start,
        sum(clicks) as clicks,
        count(*) as active_minutes,
        cast(0 as bigint) as orders
    from minutes
    group by user_id, hour_start

    union all

    select
        user_id,
        hour_start,
        cast(0 as bigint) as clicks,
        cast(0 as bigint) as active_minutes,
        count(*) as orders
    from orders
    group by user_id, hour_start
),

parts_by_distance as (
    select
        user_id,
        hour_start,
        clicks,
        active_minutes,
        orders,
        unnest(range(1, 25)) as hours_ago
    from parts
),

parts_looked_back_on as (
    select
        user_id,
        clicks,
        active_minutes,
        orders,
        hours_ago,
        to_timestamp_micros(
            {{ epoch_micros('hour_start') }} + hours_ago * 3600000000
        ) as as_of
    from parts_by_distance
),

final as (
    select
        user_id,
        as_of,
        coalesce(sum(clicks) filter (where hours_ago = 1), 0) as clicks_1h,
        sum(clicks) as clicks_24h,
        sum(active_minutes) as active_minutes_24h,
        sum(orders) as orders_24h
    from parts_looked_back_on
    where
        as_of <= {{ watermark('clicks.user_actions') }}
        and as_of <= {{ watermark('clicks.transactions') }}
    group by user_id, as_of
    having sum(clicks) > 0
)

select * from final
