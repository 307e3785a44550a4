with

source as (
    select * from {{ source('zentry_snapshot', 'users') }}
),

final as (
    select
        user_id,
        time_zone as tz,
        updated_at,
        _key as snapshot_key,
        _ingested_at as ingested_at
    from source
)

select * from final
