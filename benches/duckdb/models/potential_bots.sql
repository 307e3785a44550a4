{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['user_id', 'window_start']) }}

with

suspects as (
    {# A sliding minute lies in at most two minutes of the clock, and one of them holds at least half of its clicks. #}
    select distinct user_id
    from {{ ref('clicks_per_minute') }}
    where clicks * 2 > {{ var('bot_threshold') }}
    {% if is_incremental() %}
    and window_start >= {{ since(ref('clicks_per_minute'), 'window_start') }}
    {% endif %}
),

clicks as (
    select raw.user_id, raw.event_at, {{ is_late() }} as is_late
    from {{ raw('user_actions') }} as raw
    inner join suspects on raw.user_id = suspects.user_id
    {% if is_incremental() %}
    where raw.event_at >= {{ since_instant(ref('clicks_per_minute'), 'window_start') }}
    {% endif %}
),

panes as (
    select
        user_id,
        {{ tumble('event_at', 10) }} as pane_start,
        count(*) as clicks,
        count(*) filter (where is_late) as late_clicks
    from clicks
    group by user_id, pane_start
),

slides as (
    select unnest(range(0, 6)) as slide
),

windows as (
    select
        panes.user_id,
        panes.pane_start - to_seconds(slides.slide * 10) as window_start,
        sum(panes.clicks) as clicks,
        sum(panes.late_clicks) as late_clicks
    from panes
    cross join slides
    group by panes.user_id, window_start
    having sum(panes.clicks) > {{ var('bot_threshold') }}
)

select
    user_id,
    window_start,
    window_start + interval '1 minute' as window_end,
    clicks,
    {{ var('bot_threshold') }} as threshold,
    late_clicks
from windows
{% if is_incremental() %}
{# Windows before have panes that were not read. #}
where window_start >= {{ since(ref('clicks_per_minute'), 'window_start') }}
{% endif %}
