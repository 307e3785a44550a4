with

events as (
    select kind, status, currency, amount, occurred_at
    from {{ ref('stg_clicks__transactions') }}
),

events_with_hour as (
    select
        kind,
        status,
        currency,
        amount,
        {{ tumble_start('occurred_at', 3600) }} as hour_start
    from events
),

final as (
    select
        hour_start,
        kind,
        status,
        currency,
        count(*) as transactions,
        cast(sum(amount) as decimal(38, 4)) as amount,
        {{ watermark('clicks.transactions') }}
        >= hour_start
        + interval '{{ 3600 + var("clicks_grace_s") }} seconds' as is_final
    from events_with_hour
    group by hour_start, kind, status, currency
)

select * from final
