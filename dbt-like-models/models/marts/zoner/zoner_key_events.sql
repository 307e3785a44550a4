with

expected as (
    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        local_date,
        tz,
        rule_source,
        recommendation,
        window_end
        + interval '{{ var("zoner_grace_s") }} seconds' as due_at
    from {{ ref('int_zoner_windows_expected') }}
),

due as (
    select *
    from expected
    where due_at <= {{ watermark('zoner.user_activity') }}
),

activities as (
    select
        user_id, activity, event_at, date_trunc('hour', event_at) as hour_start
    from {{ ref('stg_zoner__user_activity') }}
    where phase is distinct from 'end'
),

due_hours as (
    select due.*, unnest(range(0, 26)) as hour_offset
    from due
),

due_by_hour as (
    {# Once per hour of the window, so that it meets its own events alone. #}
    select
        due_hours.*,
        dateadd('hour', hour_offset, date_trunc('hour', window_start))
            as hour_start
    from due_hours
    where
        dateadd('hour', hour_offset, date_trunc('hour', window_start))
        < window_end
),

judged as (
    select
        due_by_hour.user_id,
        due_by_hour.event_type,
        due_by_hour.window_start,
        due_by_hour.window_end,
        due_by_hour.local_date,
        due_by_hour.tz,
        due_by_hour.rule_source,
        due_by_hour.due_at,
        due_by_hour.recommendation,
        count(activities.event_at) as num_activities
    from due_by_hour
    left join activities
        on
            due_by_hour.user_id = activities.user_id
            and due_by_hour.activity = activities.activity
            and due_by_hour.hour_start = activities.hour_start
            and due_by_hour.window_start <= activities.event_at
            and due_by_hour.window_end > activities.event_at
    group by
        due_by_hour.user_id,
        due_by_hour.event_type,
        due_by_hour.window_start,
        due_by_hour.window_end,
        due_by_hour.local_date,
        due_by_hour.tz,
        due_by_hour.rule_source,
        due_by_hour.due_at,
        due_by_hour.recommendation
),

flights as (
    select user_id, flight_id, scheduled_at, estimated_at, updated_at
    from {{ ref('int_zoner_flights_standing') }}
),

segments as (
    select user_id, valid_from, valid_to, tz
    from {{ ref('int_zoner_zones_segmented') }}
),

flights_with_zone as (
    select
        flights.*,
        coalesce(segments.tz, '{{ var("zoner_default_tz") }}') as tz
    from flights
    left join segments
        on
            flights.user_id = segments.user_id
            and flights.scheduled_at >= segments.valid_from
            and (
                flights.scheduled_at < segments.valid_to
                or segments.valid_to is null
            )
),

final as (
    select
        user_id,
        event_type,
        window_start,
        window_end,
        local_date,
        tz,
        rule_source,
        case when num_activities = 0 then 'missed' else 'met' end as outcome,
        due_at,
        recommendation,
        cast(null as text) as flight_id
    from judged

    union all

    select
        user_id,
        'delayed_flight' as event_type,
        scheduled_at as window_start,
        estimated_at as window_end,
        cast(local_ts(scheduled_at, tz) as date) as local_date,
        tz,
        'flight' as rule_source,
        case
            when
                estimated_at >= scheduled_at
                + interval '{{ var("zoner_flight_delay_s") }} seconds'
                then 'delayed'
            else 'on_time'
        end as outcome,
        updated_at as due_at,
        'recompute_plan' as recommendation,
        flight_id
    from flights_with_zone
)

select * from final
