with

plans as (
    select
        user_id,
        window_id,
        event_type,
        activity,
        window_start,
        window_end,
        updated_at
    from {{ ref('int_zoner_plans_latest') }}
),

ranked as (
    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        row_number() over (
            partition by user_id, event_type, window_start
            order by updated_at desc, window_id desc
        ) as rank_in_window
    from plans
),

final as (
    select user_id, event_type, window_start, window_end, activity
    from ranked
    where rank_in_window = 1
)

select * from final
