{# lint: off TL021 (windows and flights, side by side: parts of it have no
   other reader) #}
with

windows as (
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
        window_end + interval '{{ var("zoner_grace_s") }} seconds' as due_at,
        hour_start
    from {{ ref('int_zoner_windows_hourly') }}
),

activities as (
    select
        user_id, activity, event_at, date_trunc('hour', event_at) as hour_start
    from {{ ref('stg_zoner__user_activity') }}
    where phase is distinct from 'end'
),

judged as (
    select
        windows.user_id,
        windows.event_type,
        windows.window_start,
        windows.window_end,
        windows.local_date,
        windows.tz,
        windows.rule_source,
        windows.due_at,
        windows.recommendation,
        count(activities.event_at) as num_activities
    from windows
    left join activities
        on
            windows.user_id = activities.user_id
            and windows.activity = activities.activity
            and windows.hour_start = activities.hour_start
            and windows.window_start <= activities.event_at
            and windows.window_end > activities.event_at
    where windows.due_at <= {{ watermark('zoner.user_activity') }}
    group by
        windows.user_id,
        windows.event_type,
        windows.window_start,
        windows.window_end,
        windows.local_date,
        windows.tz,
        windows.rule_source,
        windows.due_at,
        windows.recommendation
),

flights as (
    select user_id, flight_id, scheduled_at, estimated_at, updated_at
    from {{ ref('int_zoner_flights_standing') }}
),

zones as (
    select user_id, valid_from, tz, {{ valid_to() }} as valid_to
    from {{ ref('zoner_user_time_zones') }}
),

flights_with_zone as (
    select
        flights.user_id,
        flights.flight_id,
        flights.scheduled_at,
        flights.estimated_at,
        flights.updated_at,
        coalesce(zones.tz, '{{ var("zoner_default_tz") }}') as tz
    from flights
    left join zones
        on
            flights.user_id = zones.user_id
            and {{ holds_at('zones', 'flights.scheduled_at') }}
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
