with

source as (
    select * from {{ source('zoner', 'plans') }}
),

final as (
    select
        _key as event_key,
        user_id,
        window_id,
        case
            when kind = 'sleep' then 'missed_sleep'
            when kind = 'nap' then 'missed_nap'
            when kind = 'light_exposure' then 'missed_morning_light'
            else 'missed_meal'
        end as event_type,
        case when kind = 'nap' then 'sleep' else kind end as activity,
        cancelled as is_cancelled,
        window_start,
        window_end,
        updated_at
    from source
)

select * from final
