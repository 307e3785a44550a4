with

final as (
    select
        user_id,
        window_id,
        event_type,
        activity,
        window_start,
        window_end,
        updated_at,
        event_key as _event_key,
        is_cancelled
    from {{ ref('stg_zoner__plans') }}
)

select * from final
