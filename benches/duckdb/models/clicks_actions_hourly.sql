{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='hour_start') }}

with

events as (
    select
        user_id,
        action,
        {{ tumble('event_at', 3600) }} as hour_start,
        {{ is_late() }} as is_late
    from {{ raw('user_actions') }}
    {% if is_incremental() %}
    where event_at >= {{ since_instant(this, 'hour_start') }}
    {% endif %}
)

select
    hour_start,
    action,
    count(*) as events,
    count(distinct user_id) as users,
    count(*) filter (where is_late) as late_events
from events
group by hour_start, action
