{# lint: off TL002 (an event is not whole without the zone that it
   happened in) #}
with

events as (
    select * from {{ ref('base_zoner__user_activity') }}
),

zones as (
    select user_id, valid_from, tz, {{ valid_to() }} as valid_to
    from {{ ref('zoner_user_time_zones') }}
),

events_with_zone as (
    select
        events.event_key,
        events.user_id,
        events.activity,
        events.event_at,
        events.tz,
        events.phase,
        events.duration_s,
        events.lateness_us,
        events.event_date,
        events.extra,
        events.kafka_topic,
        events.kafka_partition,
        events.kafka_offset,
        events.kafka_timestamp,
        events.ingested_at,
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
            and {{ holds_at('zones', 'events.event_at') }}
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
