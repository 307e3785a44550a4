with

history as (
    select user_id, valid_from, tz
    from {{ ref('zoner_user_time_zones') }}
),

users as (
    select distinct user_id from history
),

zones as (
    {# Before the first row the default zone holds. #}
    select user_id, valid_from, tz
    from history

    union all

    select
        user_id,
        to_timestamp_micros(0) as valid_from,
        '{{ var("zoner_default_tz") }}' as tz
    from users
),

zones_with_previous as (
    select
        user_id,
        valid_from,
        tz,
        lag(tz) over (
            partition by user_id
            order by valid_from
        ) as previous_tz
    from zones
),

final as (
    select
        user_id,
        valid_from,
        {{ valid_to() }} as valid_to,
        tz
    from zones_with_previous
    where tz is distinct from previous_tz
)

select * from final
