with

nights as (
    select user_id, night_date, entries, sleep_seconds
    from {{ ref('zentry_sleep_nightly') }}
),

nights_with_period as (
    select
        user_id,
        'week' as period,
        cast(date_trunc('week', night_date) as date) as period_start,
        entries,
        sleep_seconds
    from nights

    union all

    select
        user_id,
        'month' as period,
        cast(date_trunc('month', night_date) as date) as period_start,
        entries,
        sleep_seconds
    from nights
),

final as (
    select
        user_id,
        period,
        period_start,
        count(*) as nights,
        sum(entries) as entries,
        cast(sum(sleep_seconds) as decimal(18, 6)) as total_sleep_s,
        cast(sum(sleep_seconds) as double) / count(*) as avg_per_night_s,
        max(sleep_seconds) as longest_night_s,
        min(sleep_seconds) as shortest_night_s
    from nights_with_period
    group by user_id, period, period_start
)

select * from final
