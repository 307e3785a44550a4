with

clicks as (
    select user_id, occurred_at, is_late
    from {{ ref('int_clicks_counted') }}
),

final as (
    {{ clicks_panes('clicks') }}
)

select * from final
