{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='hour_start') }}

with

events as (
    select
        kind,
        status,
        currency,
        amount,
        {{ tumble('event_at', 3600) }} as hour_start
    from {{ raw('transactions') }}
    {% if is_incremental() %}
    where event_at >= {{ since_instant(this, 'hour_start') }}
    {% endif %}
)

select
    hour_start,
    kind,
    status,
    currency,
    count(*) as transactions,
    sum(amount) as amount
from events
group by hour_start, kind, status, currency
