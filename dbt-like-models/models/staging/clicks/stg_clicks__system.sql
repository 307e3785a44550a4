with

source as (
    select * from {{ source('clicks', 'system') }}
),

final as (
    select
        _key as event_key,
        event_id,
        service,
        metric,
        value,
        event_at as occurred_at,
        tags,
        {{ lateness_s() }} as lateness_s,
        {{ record_columns() }}
    from source
)

select * from final
