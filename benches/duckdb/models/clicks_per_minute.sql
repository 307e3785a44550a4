{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='window_start') }}

with

clicks as (
    select
        user_id,
        {{ tumble('event_at', 60) }} as window_start,
        {{ is_late() }} as is_late
    from {{ raw('user_actions') }}
    {% if is_incremental() %}
    where event_at >= {{ since_instant(this, 'window_start') }}
    {% endif %}
)

select
    user_id,
    window_start,
    window_start + interval '1 minute' as window_end,
    count(*) as clicks,
    count(*) filter (where is_late) as late_clicks
from clicks
group by user_id, window_start
