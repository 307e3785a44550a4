{# lint: off TL002 TL004 (events and the seed make one history, which is
   known by this name) #}
with

events as (
    select user_id, event_at, tz, event_key
    from {{ ref('base_zoner__user_activity') }}
    where tz is not null
),

seeded as (
    select user_id, valid_from, tz
    from {{ ref('user_time_zones') }}
    where system = 'zoner'
),

candidates as (
    select
        user_id,
        event_at as valid_from,
        tz,
        1 as is_event,
        event_key
    from events

    union all

    select
        cast(user_id as bigint) as user_id,
        valid_from,
        tz,
        0 as is_event,
        '' as event_key
    from seeded
),

ranked as (
    {# An event wins over the seed, of two events the greater key. #}
    select
        user_id,
        valid_from,
        tz,
        row_number() over (
            partition by user_id, valid_from
            order by is_event desc, event_key desc
        ) as rank_in_instant
    from candidates
),

final as (
    select user_id, valid_from, tz
    from ranked
    where rank_in_instant = 1
)

select * from final
