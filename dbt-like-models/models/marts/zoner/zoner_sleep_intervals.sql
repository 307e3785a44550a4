{# lint: off TL021 (the four ways of closing a sleep, step by step: parts of
   it have no other reader) #}
with

events as (
    select
        event_key,
        user_id,
        activity,
        event_at,
        tz,
        phase,
        duration_s
    from {{ ref('stg_zoner__user_activity') }}
),

events_with_next as (
    {# The order is total, so that simultaneous events have one answer. #}
    select
        event_key,
        user_id,
        activity,
        event_at,
        tz,
        phase,
        duration_s,
        lead(event_at) over (
            partition by user_id
            order by event_at, activity, event_key
        ) as next_event_at
    from events
),

sleeps as (
    select
        event_key,
        user_id,
        activity,
        event_at,
        tz,
        phase,
        duration_s,
        next_event_at
    from events_with_next
    where activity = 'sleep'
),

phased as (
    {# Events with a duration take no part in pairing. #}
    select
        event_key,
        lead(phase) over (
            partition by user_id
            order by event_at, activity, event_key
        ) as next_phase,
        lead(event_at) over (
            partition by user_id
            order by event_at, activity, event_key
        ) as next_phased_at,
        lag(phase) over (
            partition by user_id
            order by event_at, activity, event_key
        ) as previous_phase,
        lag(event_at) over (
            partition by user_id
            order by event_at, activity, event_key
        ) as previous_phased_at
    from sleeps
    where phase is not null and duration_s is null
),

sleeps_classified as (
    select
        sleeps.event_key,
        sleeps.user_id,
        sleeps.event_at,
        sleeps.tz,
        sleeps.duration_s,
        sleeps.next_event_at,
        phased.next_phase,
        phased.next_phased_at,
        case
            when sleeps.duration_s is not null then 'duration'
            when sleeps.phase = 'start' then 'start'
            when
                sleeps.phase = 'end'
                and phased.previous_phase = 'start'
                and sleeps.event_at <= phased.previous_phased_at
                + interval '{{ var("zoner_sleep_max_s") }} seconds'
                then 'paired_end'
            when sleeps.phase = 'end' then 'orphan_end'
            else 'bare'
        end as kind
    from sleeps
    left join phased on sleeps.event_key = phased.event_key
),

ended as (
    select
        event_key,
        user_id,
        event_at,
        tz,
        kind,
        case
            when kind = 'duration'
                then to_timestamp_micros(
                    cast(event_at as bigint)
                    + cast(duration_s * 1000000 as bigint)
                )
            when
                kind = 'start'
                and next_phase = 'end'
                and next_phased_at <= event_at
                + interval '{{ var("zoner_sleep_max_s") }} seconds'
                then next_phased_at
            when
                kind = 'bare'
                and next_event_at <= event_at
                + interval '{{ var("zoner_sleep_max_s") }} seconds'
                then next_event_at
            when kind = 'orphan_end' then event_at
            else null
        end as end_at
    from sleeps_classified
    where kind <> 'paired_end'
),

final as (
    select
        user_id,
        event_key as interval_key,
        case when kind <> 'orphan_end' then event_at else null end
            as started_at,
        end_at as ended_at,
        case
            when kind <> 'orphan_end' and end_at is not null
                then {{ micros_to_seconds(
                    'cast(end_at as bigint) - cast(event_at as bigint)'
                ) }}
            else cast(0 as decimal(18, 6))
        end as duration_s,
        case
            when kind = 'orphan_end' or end_at is null then null
            when kind = 'duration' then 'duration'
            when kind = 'start' then 'pair'
            else 'next_event'
        end as method,
        case
            when kind = 'orphan_end' then 'orphan_end'
            when end_at is null then 'unclosed'
            else 'closed'
        end as status,
        tz,
        night_of(event_at, tz, '12:00') as night_date
    from ended
)

select * from final
