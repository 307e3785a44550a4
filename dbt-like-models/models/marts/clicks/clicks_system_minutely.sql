with

samples as (
    select service, metric, value, occurred_at
    from {{ ref('stg_clicks__system') }}
),

samples_with_minute as (
    select
        service,
        metric,
        value,
        {{ tumble_start('occurred_at', 60) }} as minute
    from samples
),

final as (
    select
        minute,
        service,
        metric,
        count(*) as samples,
        avg(value) as avg_value,
        min(value) as min_value,
        max(value) as max_value
    from samples_with_minute
    group by minute, service, metric
)

select * from final
