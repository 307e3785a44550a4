with

readings as (
    select session_id, device_id, event_at, magnitude, lateness_s
    from {{ ref('stg_activity__readings') }}
    where sensor = 'accelerometer'
),

readings_with_pane as (
    select
        session_id,
        device_id,
        magnitude,
        {{ activity_class('magnitude') }} as activity,
        lateness_s > {{ var('activity_grace_s') }} as is_late,
        {{ tumble_start('event_at', var('activity_slide_s')) }} as pane_start
    from readings
),

final as (
    select
        session_id,
        device_id,
        pane_start,
        count(*) as sample_count,
        sum(magnitude) as sum_magnitude,
        var_pop(magnitude) * count(*) as m2_magnitude,
        min(magnitude) as min_magnitude,
        max(magnitude) as max_magnitude,
        count(*) filter (where activity = 'Stationary') as stationary_samples,
        count(*) filter (where activity = 'Walking') as walking_samples,
        count(*) filter (where activity = 'Running') as running_samples,
        count(*) filter (where activity = 'Sprinting') as sprinting_samples,
        count(*) filter (where is_late) as late_samples
    from readings_with_pane
    group by session_id, device_id, pane_start
)

select * from final
