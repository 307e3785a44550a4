with

events as (
    select * from {{ ref('base_zoner__user_activity') }}
),

zones as (
    select
        user_id,
        valid_from,
        tz,
        lead(valid_from) over (
            partition by user_id
            order by valid_from
        ) as valid_to
    from {{ ref('zoner_user_time_zones') }}
),

events_with_zone as (
    select
        events.*,
        coalesce(
            events.tz, zones.tz, '{{ var("zoner_default_tz") }}'
        ) as zone_in_force,
        case
            when events.tz is not null then 'event'
            when zones.tz is not null then 'history'
            else 'default'
        end as tz_source
    from events
    left join zones
        on
            events.user_id = zones.user_id
            and events.event_at >= zones.valid_from
            and (events.event_at < zones.valid_to or zones.valid_to is null)
),

final as (
    select
        event_key,
        user_id,
        activity,
        event_at,
        zone_in_force as tz,
        tz_source,
        local_ts(event_at, zone_in_force) as local_at,
        phase,
        duration_s,
        {{ micros_to_seconds('lateness_us') }} as lateness_s,
        event_date,
        tz as sent_tz,
        extra,
        kafka_topic,
        kafka_partition,
        kafka_offset,
        kafka_timestamp,
        ingested_at
    from events_with_zone
)

select * from final
