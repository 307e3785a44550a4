with

runs as (
    select session_id, device_id, activity, run_start, run_end, windows
    from {{ ref('int_activity_runs_hourly') }}
),

runs_with_previous as (
    {# A run that begins where one of the same activity ends goes on with
       it, unless midnight lies between. #}
    select
        session_id,
        device_id,
        activity,
        run_start,
        run_end,
        windows,
        cast(run_start as date) as bout_date,
        lag(run_end) over (
            partition by
                session_id, device_id, activity, cast(run_start as date)
            order by run_start
        ) as previous_end
    from runs
),

runs_numbered as (
    select
        session_id,
        device_id,
        activity,
        run_start,
        run_end,
        windows,
        bout_date,
        sum(
            case when previous_end = run_start then 0 else 1 end
        ) over (
            partition by session_id, device_id, activity, bout_date
            order by run_start
        ) as bout_number
    from runs_with_previous
),

bouts as (
    select
        session_id,
        device_id,
        activity,
        min(run_start) as bout_start,
        max(run_end) as bout_end,
        sum(windows) as windows
    from runs_numbered
    group by session_id, device_id, activity, bout_date, bout_number
),

final as (
    select
        session_id,
        device_id,
        activity,
        bout_start,
        bout_end,
        windows,
        windows * {{ var('activity_slide_s') }} as seconds
    from bouts
)

select * from final
