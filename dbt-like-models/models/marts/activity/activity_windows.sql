{# lint: off TL007 TL021 (each step adds a column or two to the one before
   it, whose columns the first one names) #}
{% set panes_per_window = activity_panes_per_window() | int %}
with

panes as (
    select
        session_id,
        device_id,
        pane_start,
        sample_count,
        sum_magnitude,
        m2_magnitude,
        min_magnitude,
        max_magnitude,
        stationary_samples,
        walking_samples,
        running_samples,
        sprinting_samples,
        late_samples
    from {{ ref('activity_panes') }}
),

panes_by_slide as (
    {# A pane lies in as many windows as a window has panes. #}
    select
        panes.*,
        unnest(range(0, {{ panes_per_window }})) as slide
    from panes
),

panes_of_windows as (
    select
        panes_by_slide.*,
        to_timestamp_micros(
            {{ epoch_micros('pane_start') }}
            - slide * {{ var('activity_slide_s') }} * 1000000
        ) as window_start
    from panes_by_slide
),

panes_with_mean as (
    {# The window's mean is needed to merge deviations: those inside of
       panes, and those of the panes' means from it. The last digits of a sum
       of doubles depend on the order of its rows; they are left out, or a
       rebuild would tell other means. #}
    select
        panes_of_windows.*,
        round(sum(sum_magnitude) over (
            partition by session_id, device_id, window_start
        ) / sum(sample_count) over (
            partition by session_id, device_id, window_start
        ), 9) as avg_magnitude
    from panes_of_windows
),

windows as (
    select
        session_id,
        device_id,
        window_start,
        avg_magnitude,
        sum(sample_count) as sample_count,
        round(sqrt(
            sum(
                m2_magnitude + sample_count * power(
                    sum_magnitude / sample_count - avg_magnitude, 2
                )
            ) / sum(sample_count)
        ), 9) as stddev_magnitude,
        min(min_magnitude) as min_magnitude,
        max(max_magnitude) as max_magnitude,
        sum(stationary_samples) as stationary_samples,
        sum(walking_samples) as walking_samples,
        sum(running_samples) as running_samples,
        sum(sprinting_samples) as sprinting_samples,
        sum(sample_count) filter (
            where pane_start = window_start
        ) as leading_samples,
        sum(late_samples) as late_samples
    from panes_with_mean
    group by session_id, device_id, window_start, avg_magnitude
),

windows_classified as (
    select
        windows.*,
        {{ activity_class('avg_magnitude') }} as activity,
        window_start
        + interval '{{ var("activity_window_s") }} seconds' as window_end
    from windows
),

final as (
    select
        session_id,
        device_id,
        window_start,
        window_end,
        sample_count,
        avg_magnitude,
        stddev_magnitude,
        min_magnitude,
        max_magnitude,
        activity,
        cast(
            case activity
                when 'Stationary' then stationary_samples
                when 'Walking' then walking_samples
                when 'Running' then running_samples
                else sprinting_samples
            end as double
        ) / sample_count as confidence,
        coalesce(leading_samples, 0) as leading_samples,
        late_samples,
        {{ watermark('activity.raw_sensor_data') }}
        >= window_end
        + interval '{{ var("activity_grace_s") }} seconds' as is_final
    from windows_classified
)

select * from final
