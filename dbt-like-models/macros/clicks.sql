{# Clicks per user and pane of `clicks_bot_slide_s` seconds, from rows of user_id, occurred_at, is_late: the parts that sliding
   minutes are made of. #}
{% macro clicks_panes(relation) -%}
    select
        user_id,
        {{ tumble_start('occurred_at', var('clicks_bot_slide_s')) }} as pane_start,
        count(*) as clicks,
        count(*) filter (where is_late) as late_clicks
    from {{ relation }}
    group by user_id, pane_start
{%- endmacro %}

{# Panes that a sliding minute is made of. #}
{% macro clicks_panes_per_minute() -%}
    {%- set slide = var('clicks_bot_slide_s') -%}
    {%- if 60 % slide != 0 -%}
        {{ exceptions.raise_compiler_error("clicks_bot_slide_s must divide 60, clicks_bot_slide_s=`" ~ slide ~ "`") }}
    {%- endif -%}
    {{ 60 // slide }}
{%- endmacro %}
