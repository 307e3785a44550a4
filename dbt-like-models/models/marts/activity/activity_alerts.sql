with

bouts as (
    select session_id, device_id, activity, bout_start, bout_end, seconds
    from {{ ref('activity_bouts') }}
),

rules as (
    select rule_id, activity, min_seconds
    from {{ ref('activity_alert_rules') }}
),

final as (
    select
        rules.rule_id,
        bouts.session_id,
        bouts.device_id,
        bouts.activity,
        rules.min_seconds,
        bouts.seconds,
        bouts.bout_start,
        bouts.bout_end,
        {# The window after the bout's last would begin at its end: when
           that one is closed, the bout is over. #}
        bouts.bout_end
        + interval '{{ var("activity_window_s") }} seconds' as over_at
    from bouts
    inner join rules
        on
            bouts.activity = rules.activity
            and bouts.seconds >= rules.min_seconds
)

select * from final
