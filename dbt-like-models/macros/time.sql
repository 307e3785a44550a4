{# Microseconds (bigint) as exact seconds. #}
{% macro micros_to_seconds(expression) -%}
    cast(cast({{ expression }} as decimal(20, 0)) * 0.000001 as decimal(18, 6))
{%- endmacro %}

{# Lateness of an event in microseconds: how long after the event its record was sent. 0 when it was sent before the event
   (clocks differ) and for events from files, which carry no sending time. #}
{% macro lateness_us(event_at, sent_at) -%}
    coalesce(greatest(cast({{ sent_at }} as bigint) - cast({{ event_at }} as bigint), 0), 0)
{%- endmacro %}

{# Microseconds (bigint) of a count of units. #}
{% macro units_to_micros(expression, unit) -%}
    {%- set micros = {'ms': 1000, 's': 1000000, 'min': 60000000} -%}
    {%- if unit not in micros -%}
        {{ exceptions.raise_compiler_error("unit is not one of ms, s, min: " ~ unit) }}
    {%- endif -%}
    {{ expression }} * {{ micros[unit] }}
{%- endmacro %}
