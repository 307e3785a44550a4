{# lint: off TL021 (windows of plans in place of the usual ones, step by
   step: parts of it have no other reader) #}
with

defaults as (
    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        local_date,
        tz,
        recommendation
    from {{ ref('int_zoner_windows_by_date') }}
),

zones as (
    select user_id, valid_from, tz, {{ valid_to() }} as valid_to
    from {{ ref('zoner_user_time_zones') }}
),

plans as (
    select
        standing.user_id,
        standing.event_type,
        standing.activity,
        standing.window_start,
        standing.window_end,
        coalesce(zones.tz, '{{ var("zoner_default_tz") }}') as tz
    from {{ ref('int_zoner_plans_standing') }} as standing
    left join zones
        on
            standing.user_id = zones.user_id
            and {{ holds_at('zones', 'standing.window_start') }}
),

plans_with_date as (
    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        cast(local_ts(window_start, tz) as date) as local_date,
        tz
    from plans
),

expected as (
    select
        defaults.user_id,
        defaults.event_type,
        defaults.activity,
        defaults.window_start,
        defaults.window_end,
        defaults.local_date,
        defaults.tz,
        'default' as rule_source,
        defaults.recommendation
    from defaults
    left anti join plans_with_date
        on
            defaults.user_id = plans_with_date.user_id
            and defaults.event_type = plans_with_date.event_type
            and defaults.local_date = plans_with_date.local_date

    union all

    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        local_date,
        tz,
        'plan' as rule_source,
        null as recommendation
    from plans_with_date
),

user_hours as (
    select
        user_id,
        date_trunc('hour', event_at) as hour_start,
        min(event_at) as first_event_at,
        max(event_at) as last_event_at
    from {{ ref('stg_zoner__user_activity') }}
    group by user_id, date_trunc('hour', event_at)
),

final as (
    {# Of people who were heard of lately. An hour that reaches into the time
       before the window by its last event, and by its first one, has one in
       it: an hour is shorter than that time. #}
    select
        expected.user_id,
        expected.event_type,
        expected.activity,
        expected.window_start,
        expected.window_end,
        expected.local_date,
        expected.tz,
        expected.rule_source,
        expected.recommendation
    from expected
    left semi join user_hours
        on
            expected.user_id = user_hours.user_id
            and user_hours.last_event_at >= expected.window_start
            - interval '{{ var("zoner_active_user_hours") }} hours'
            and user_hours.first_event_at < expected.window_start
)

select * from final
