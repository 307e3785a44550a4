{% set actions = var('clicks_actions') %}
with

events as (
    select user_id, action, occurred_at, lateness_s
    from {{ ref('stg_clicks__user_actions') }}
),

final as (
    select
        user_id,
        occurred_at,
        lateness_s > {{ var('clicks_grace_s') }} as is_late
    from events
    {%- if actions %}
    where action in (
        {%- for action in actions %}
        '{{ action | replace("'", "''") }}'{{ "" if loop.last else "," }}
        {%- endfor %}
    )
    {%- endif %}
)

select * from final
