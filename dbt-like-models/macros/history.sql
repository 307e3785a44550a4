{# Histories say from when on something holds of a person: rows of user_id and valid_from, each until the next one. #}

{# Until when a row holds; null without end. #}
{% macro valid_to() -%}
    lead(valid_from) over (partition by user_id order by valid_from)
{%- endmacro %}

{# Whether a row of a history is the one that holds at an instant. #}
{% macro holds_at(history, instant) -%}
    {{ instant }} >= {{ history }}.valid_from
    and ({{ instant }} < {{ history }}.valid_to or {{ history }}.valid_to is null)
{%- endmacro %}
