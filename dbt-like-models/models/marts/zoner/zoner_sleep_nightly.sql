{% set waiting_s = var('zoner_sleep_max_s') + var('zoner_grace_s') %}
with

intervals as (
    select
        user_id,
        interval_key,
        started_at,
        ended_at,
        duration_s,
        status,
        tz,
        night_date,
        coalesce(started_at, ended_at) as opened_at
    from {{ ref('zoner_sleep_intervals') }}
),

ranked as (
    {# The zone is that of the earliest closed interval, else of the
       earliest row. #}
    select
        user_id,
        interval_key,
        started_at,
        ended_at,
        duration_s,
        status,
        tz,
        night_date,
        row_number() over (
            partition by user_id, night_date
            order by
                case when status = 'closed' then 0 else 1 end,
                opened_at,
                interval_key
        ) as rank_in_night
    from intervals
),

nights as (
    select
        user_id,
        night_date,
        max(tz) filter (where rank_in_night = 1) as tz,
        coalesce(
            union_seconds(started_at, ended_at) filter (
                where status = 'closed'
            ),
            cast(0 as decimal(18, 6))
        ) as sleep_seconds,
        count(*) filter (where status = 'closed') as interval_count,
        coalesce(
            max(duration_s) filter (where status = 'closed'),
            cast(0 as decimal(18, 6))
        ) as longest_interval_s,
        min(started_at) filter (where status = 'closed') as first_sleep_at,
        max(ended_at) filter (where status = 'closed') as last_wake_at,
        count(*) filter (where status = 'unclosed') as unclosed_count,
        count(*) filter (where status = 'orphan_end') as orphan_end_count
    from ranked
    group by user_id, night_date
),

final as (
    select
        user_id,
        night_date,
        tz,
        sleep_seconds,
        interval_count,
        longest_interval_s,
        first_sleep_at,
        last_wake_at,
        unclosed_count,
        orphan_end_count,
        {{ watermark('zoner.user_activity') }}
        >= local_to_utc(
            cast(night_date as timestamp) + interval '36 hours', tz
        )
        + interval '{{ waiting_s }} seconds' as is_final
    from nights
)

select * from final
