with

events as (
    select experiment_id, user_id, variant, occurred_at
    from {{ ref('stg_clicks__user_actions') }}
    where experiment_id is not null and variant is not null
),

final as (
    select
        experiment_id,
        user_id,
        case
            when min(variant) = max(variant) then min(variant)
            else '(mixed)'
        end as variant,
        min(occurred_at) as exposed_at
    from events
    group by experiment_id, user_id
)

select * from final
