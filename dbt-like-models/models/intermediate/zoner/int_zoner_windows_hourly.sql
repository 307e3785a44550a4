with

expected as (
    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        local_date,
        tz,
        rule_source,
        recommendation,
        unnest(range(0, 26)) as hour_offset
    from {{ ref('int_zoner_windows_expected') }}
),

final as (
    select
        user_id,
        event_type,
        activity,
        window_start,
        window_end,
        local_date,
        tz,
        rule_source,
        recommendation,
        dateadd('hour', hour_offset, date_trunc('hour', window_start))
            as hour_start
    from expected
    where
        dateadd('hour', hour_offset, date_trunc('hour', window_start))
        < window_end
)

select * from final
