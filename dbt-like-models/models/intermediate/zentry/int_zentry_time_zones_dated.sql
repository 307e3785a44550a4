with

users as (
    select user_id, tz, updated_at, ingested_at, snapshot_key
    from {{ ref('stg_zentry_snapshot__users') }}
),

seeded as (
    select cast(user_id as bigint) as user_id, valid_from, tz
    from {{ ref('user_time_zones') }}
    where system = 'zentry'
),

users_ranked as (
    select
        user_id,
        tz,
        row_number() over (
            partition by user_id
            order by updated_at desc, ingested_at desc, snapshot_key desc
        ) as rank_of_user
    from users
),

candidates as (
    {# An export says nothing of the past: its zone holds until the seed says
       otherwise. No event is older than 2000. #}
    select
        user_id,
        cast('2000-01-01T00:00:00Z' as timestamp) as valid_from,
        tz,
        1 as preference
    from users_ranked
    where rank_of_user = 1 and tz is not null

    union all

    select user_id, valid_from, tz, 0 as preference
    from seeded
),

ranked as (
    select
        user_id,
        valid_from,
        tz,
        row_number() over (
            partition by user_id, valid_from
            order by preference, tz
        ) as rank_in_instant
    from candidates
),

final as (
    select
        user_id,
        valid_from,
        {{ valid_to() }} as valid_to,
        tz
    from ranked
    where rank_in_instant = 1
)

select * from final
