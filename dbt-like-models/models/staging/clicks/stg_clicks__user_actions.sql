with

source as (
    select * from {{ source('clicks', 'user_actions') }}
),

final as (
    select
        _key as event_key,
        event_id,
        user_id,
        action,
        event_at as occurred_at,
        session_id,
        page,
        properties,
        experiment_id,
        variant,
        {{ lateness_s() }} as lateness_s,
        {{ record_columns() }}
    from source
)

select * from final
