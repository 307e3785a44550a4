with

source as (
    select * from {{ source('zoner', 'user_activity') }}
),

final as (
    select
        _key as event_key,
        user_id,
        activity,
        event_at,
        tz,
        phase,
        duration_s,
        {{ lateness_us('event_at', '_timestamp') }} as lateness_us,
        event_date,
        {{ record_columns() }}
    from source
)

select * from final
