with

clicks as (
    select user_id, occurred_at, is_late
    from {{ ref('int_clicks_counted') }}
),

clicks_with_minute as (
    select
        user_id,
        is_late,
        {{ tumble_start('occurred_at', 60) }} as window_start
    from clicks
),

minutes as (
    select
        user_id,
        window_start,
        count(*) as clicks,
        count(*) filter (where is_late) as late_clicks
    from clicks_with_minute
    group by user_id, window_start
),

final as (
    select
        user_id,
        window_start,
        window_start + interval '1 minute' as window_end,
        clicks,
        late_clicks,
        {{ watermark('clicks.user_actions') }}
        >= window_start
        + interval '{{ 60 + var("clicks_grace_s") }} seconds' as is_final
    from minutes
)

select * from final
