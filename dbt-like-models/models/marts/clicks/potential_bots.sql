{% set panes_per_minute = clicks_panes_per_minute() | int %}
with

suspects as (
    {# A sliding minute lies in at most two minutes of the clock, and one
       of them holds at least half of its clicks. #}
    select distinct user_id
    from {{ ref('clicks_per_minute') }}
    where clicks * 2 > {{ var('clicks_bot_threshold') }}
),

clicks as (
    select user_id, occurred_at, is_late
    from {{ ref('int_clicks_counted') }}
),

clicks_of_suspects as (
    select clicks.user_id, clicks.occurred_at, clicks.is_late
    from suspects
    inner join clicks on suspects.user_id = clicks.user_id
),

panes as (
    {{ clicks_panes('clicks_of_suspects') }}
),

panes_by_slide as (
    {# A pane lies in as many sliding minutes as a minute has panes. #}
    select
        user_id,
        pane_start,
        clicks,
        late_clicks,
        unnest(range(0, {{ panes_per_minute }})) as slide
    from panes
),

panes_of_windows as (
    select
        user_id,
        clicks,
        late_clicks,
        to_timestamp_micros(
            {{ epoch_micros('pane_start') }}
            - slide * {{ var('clicks_bot_slide_s') }} * 1000000
        ) as window_start
    from panes_by_slide
),

windows as (
    select
        user_id,
        window_start,
        sum(clicks) as clicks,
        sum(late_clicks) as late_clicks
    from panes_of_windows
    group by user_id, window_start
    having sum(clicks) > {{ var('clicks_bot_threshold') }}
),

final as (
    select
        user_id,
        window_start,
        window_start + interval '1 minute' as window_end,
        clicks,
        cast({{ var('clicks_bot_threshold') }} as bigint) as threshold,
        late_clicks,
        {{ watermark('clicks.user_actions') }}
        >= window_start
        + interval '{{ 60 + var("clicks_grace_s") }} seconds' as is_final
    from windows
)

select * from final
