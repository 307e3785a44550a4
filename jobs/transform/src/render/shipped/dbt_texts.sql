{# dbt's cross-database macros about text. #}

{% macro concat(fields) -%}
    {{ fields | join(" || ") }}
{%- endmacro %}

{% macro hash(field) -%}
    md5(cast({{ field }} as varchar))
{%- endmacro %}

{% macro split_part(string_text, delimiter_text, part_number) -%}
    split_part({{ string_text }}, {{ delimiter_text }}, {{ part_number }})
{%- endmacro %}

{# `limit_num` is taken by dbt for the databases that can; ours aggregates all. #}
{% macro listagg(measure, delimiter_text="','", order_by_clause=none, limit_num=none) -%}
    string_agg(cast({{ measure }} as varchar), {{ delimiter_text }}{% if order_by_clause %} {{ order_by_clause }}{% endif %})
{%- endmacro %}

{% macro position(substring_text, string_text) -%}
    strpos({{ string_text }}, {{ substring_text }})
{%- endmacro %}

{% macro replace(field, old_chars, new_chars) -%}
    replace({{ field }}, {{ old_chars }}, {{ new_chars }})
{%- endmacro %}

{% macro right(string_text, length_expression) -%}
    right({{ string_text }}, {{ length_expression }})
{%- endmacro %}

{% macro length(expression) -%}
    length({{ expression }})
{%- endmacro %}

{% macro string_literal(value) -%}
    '{{ value | string | replace("'", "''") }}'
{%- endmacro %}

{% macro escape_single_quotes(expression) -%}
    {{ expression | string | replace("'", "''") }}
{%- endmacro %}
