{# dbt's cross-database macros about types. #}

{% macro type_string() -%} varchar {%- endmacro %}
{% macro type_timestamp() -%} timestamp {%- endmacro %}
{% macro type_float() -%} double {%- endmacro %}
{% macro type_numeric() -%} decimal(28, 6) {%- endmacro %}
{% macro type_bigint() -%} bigint {%- endmacro %}
{% macro type_int() -%} integer {%- endmacro %}
{% macro type_boolean() -%} boolean {%- endmacro %}

{% macro cast(field, type) -%}
    cast({{ field }} as {{ type }})
{%- endmacro %}

{# Null where the value is none of that type. #}
{% macro safe_cast(field, type) -%}
    try_cast({{ field }} as {{ type }})
{%- endmacro %}

{% macro cast_bool_to_text(field) -%}
    cast({{ field }} as varchar)
{%- endmacro %}

{% macro array_construct(inputs=[], data_type=none) -%}
    {% if inputs %}make_array({{ inputs | join(", ") }}){% else %}make_array(){% endif %}
{%- endmacro %}

{% macro array_append(array, new_element) -%}
    array_append({{ array }}, {{ new_element }})
{%- endmacro %}

{% macro array_concat(array_1, array_2) -%}
    array_concat({{ array_1 }}, {{ array_2 }})
{%- endmacro %}

{% macro any_value(expression) -%}
    min({{ expression }})
{%- endmacro %}

{% macro bool_or(expression) -%}
    bool_or({{ expression }})
{%- endmacro %}

{% macro except() -%} except {%- endmacro %}
{% macro intersect() -%} intersect {%- endmacro %}
