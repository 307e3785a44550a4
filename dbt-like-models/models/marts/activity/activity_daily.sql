with

windows as (
    select device_id, local_date, activity, windows
    from {{ ref('int_activity_windows_local') }}
),

owners as (
    select device_id, owner
    from {{ ref('activity_device_owners') }}
),

days as (
    select device_id, local_date, activity, sum(windows) as windows
    from windows
    group by device_id, local_date, activity
),

final as (
    select
        days.device_id,
        days.local_date,
        days.activity,
        owners.owner,
        days.windows,
        days.windows * {{ var('activity_slide_s') }} as seconds
    from days
    left join owners on days.device_id = owners.device_id
)

select * from final
