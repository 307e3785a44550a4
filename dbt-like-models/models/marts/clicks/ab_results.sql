{% set window_s = var('clicks_conversion_window_s') %}
with

exposures as (
    select experiment_id, user_id, variant, exposed_at
    from {{ ref('int_clicks_exposures') }}
),

orders as (
    select user_id, event_key, occurred_at
    from {{ ref('stg_clicks__transactions') }}
    where kind = 'order' and status = 'completed'
),

users as (
    select
        exposures.experiment_id,
        exposures.user_id,
        exposures.variant,
        cast(exposures.exposed_at as date) as exposure_date,
        count(orders.event_key) as orders
    from exposures
    left join orders
        on
            exposures.user_id = orders.user_id
            and orders.occurred_at >= exposures.exposed_at
            and orders.occurred_at < exposures.exposed_at
            + interval '{{ window_s }} seconds'
    group by
        exposures.experiment_id,
        exposures.user_id,
        exposures.variant,
        exposures.exposed_at
),

variants as (
    select
        experiment_id,
        variant,
        exposure_date,
        count(*) as users,
        count(*) filter (where orders > 0) as converted_users,
        sum(orders) as orders,
        to_timestamp_micros(
            {{ epoch_micros('exposure_date') }}
            + {{ (86400 + window_s + var('clicks_grace_s')) * 1000000 }}
        ) as final_at
    from users
    group by experiment_id, variant, exposure_date
),

final as (
    select
        experiment_id,
        variant,
        exposure_date,
        users,
        converted_users,
        orders,
        cast(converted_users as double) / users as conversion_rate,
        coalesce(
            {{ watermark('clicks.user_actions') }} >= final_at
            and {{ watermark('clicks.transactions') }} >= final_at, false
        ) as is_final
    from variants
)

select * from final
